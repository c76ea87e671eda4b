"""A part of a file, as a file."""

import io
from pathlib import Path
from typing import Any


class FilePart(io.RawIOBase):
    """A part of a file: bytes from `start` to before `end`, some of them replaced."""

    def __init__(self, path: Path, start: int, end: int, patch_at: int = 0, patch: bytes = b"") -> None:
        """
        Args:
            patch_at: where, in the file, `patch` stands instead of what is there.
        """
        self._file = path.open("rb")
        self._start, self._size, self._at = start, end - start, 0
        self._patch_at, self._patch = patch_at - start, patch

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        read = self._file.readinto(view)
        for at, byte in enumerate(self._patch, self._patch_at - self._at):
            if 0 <= at < read:
                view[at] = byte
        self._at += read
        return read

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()
