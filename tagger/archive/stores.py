"""Where recordings are read and tables are written: folders of this machine, and file systems by URL (`s3://`).

pyarrow reads and writes S3, Google Cloud Storage, Azure and HDFS by itself; fsspec has the others. A file is written
aside and appears whole, or not at all.
"""

import contextlib
import os
import secrets
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from tagger.errors import TaggerError, UserError, to_install
from tagger.files import make_folders
from tagger.folders import LinkedFolders

STATE = "_tagger"
"""Folder of an archive in which the run's own files are. Readers of Parquet leave out what begins with `_`."""
_PARTIAL = f"{STATE}/partial"
_NATIVE = ("s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss")
"""Schemes that pyarrow knows."""
_WHOLE_UPLOADS = ("s3", "gcs", "gs", "abfs", "az", "memory")
"""File systems in which a file appears when its upload is complete."""
_PIECE_BYTES = 1 << 20


class StoreError(TaggerError):
    """A file system does not answer, or refuses. It may do so later."""


@dataclass(frozen=True)
class Entry:
    """A file or a folder in a folder."""

    name: str
    is_folder: bool
    size: int
    """Bytes; 0 of a folder."""


def is_url(path: str) -> bool:
    """Whether this names a file system: `s3://bucket/recordings`, and not a local path."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme.replace("+", "").replace("-", "").isalnum()


def without_query(place: str) -> str:
    """A URL without what is behind its path: `?endpoint_override=host:9000`."""
    return place.partition("?")[0] if is_url(place) else place


def joined(place: str, name: str) -> str:
    """What is below a path or URL.

    >>> joined("s3://bucket/in?scheme=http", "a.wav")
    's3://bucket/in/a.wav?scheme=http'
    """
    path = without_query(place)
    return f"{path.rstrip('/')}/{name}{place.removeprefix(path)}"


class Store(ABC):
    """A folder, and what is below it. Names are paths below it, with `/`."""

    shown: str
    """The folder, for people."""

    @abstractmethod
    def entries(self, folder: str = "") -> Iterator[Entry]:
        """What is in a folder, in any order.

        Raises:
            FileNotFoundError: there is no such folder.
            OSError: it cannot be read.
        """

    @abstractmethod
    def kind(self) -> str:
        """What the store itself is: `file`, `folder`, or `` if it does not exist."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def reading(self, name: str = "") -> contextlib.AbstractContextManager[Path]:
        """Gives a local file with the content of a file; without a name, of the store itself.

        Raises:
            FileNotFoundError: there is none.
            OSError: it cannot be read.
        """

    @abstractmethod
    def writing(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """Gives a local file to write to. It appears under its name when the block ends without an error."""

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Keeps other processes of this machine from writing there at the same time.

        Raises:
            UserError: one does.
        """
        return contextlib.nullcontext()


class Folder(Store):
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path, self.shown = path, str(path)
        self._links = LinkedFolders(path)

    def entries(self, folder: str = "") -> Iterator[Entry]:
        with os.scandir(self.path / folder) as found:
            links: list[str] = []
            for each in found:
                if each.is_dir():
                    if each.is_symlink():
                        links.append(each.name)
                    else:
                        yield Entry(each.name, True, 0)
                elif each.is_file():  # no pipe, no broken link
                    yield Entry(each.name, False, each.stat().st_size)
        for name in sorted(links):  # always in the same order, as the first of two that lead to one place is followed
            if self._links.leads_on(self.path / folder / name):
                yield Entry(name, True, 0)

    def kind(self) -> str:
        return "folder" if self.path.is_dir() else "file" if self.path.exists() else ""

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    @contextmanager
    def reading(self, name: str = "") -> Iterator[Path]:
        path = self.path / name
        path.open("rb").close()
        yield path

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        aside = self.path / _PARTIAL
        make_folders(aside)
        partial = aside / f"{secrets.token_hex(8)}-{PurePosixPath(name).name}"
        try:
            yield partial
            make_folders((self.path / name).parent)
            partial.replace(self.path / name)
        finally:
            partial.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        make_folders(self.path / STATE)
        with (self.path / STATE / "lock").open("a+") as file:
            _lock(file, self.shown)
            shutil.rmtree(self.path / _PARTIAL, ignore_errors=True)  # of a run that was killed
            try:
                yield
            finally:
                shutil.rmtree(self.path / _PARTIAL, ignore_errors=True)  # of workers that were


class Remote(Store):
    """A folder of a file system that pyarrow or fsspec knows."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            UserError: there is no such file system, or what it needs is not installed.
        """
        self.shown = url
        self._fs, self._root, self._is_whole = _file_system(url)

    def entries(self, folder: str = "") -> Iterator[Entry]:
        from pyarrow.fs import FileSelector, FileType

        for info in self._fs.get_file_info(FileSelector(self._path(folder))):
            if info.type in (FileType.File, FileType.Directory) and info.base_name:
                is_folder = info.type == FileType.Directory
                yield Entry(info.base_name, is_folder, 0 if is_folder else info.size or 0)

    def kind(self) -> str:
        from pyarrow.fs import FileType

        found = self._fs.get_file_info(self._root).type
        return {FileType.Directory: "folder", FileType.File: "file"}.get(found, "")

    def has(self, name: str) -> bool:
        return bool(self._fs.get_file_info(self._path(name)).is_file)

    @contextmanager
    def reading(self, name: str = "") -> Iterator[Path]:
        path = self._path(name)
        with TemporaryDirectory(prefix="tagger-") as folder:
            copy = Path(folder, f"recording{PurePosixPath(path).suffix}")
            with self._fs.open_input_stream(path) as source, copy.open("wb") as file:
                shutil.copyfileobj(source, file, _PIECE_BYTES)
            yield copy

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix="tagger-") as folder:
            partial = Path(folder, "partial")
            yield partial
            path = self._path(name)
            aside = path if self._is_whole else self._path(f"{_PARTIAL}/{secrets.token_hex(8)}")
            for each in {path, aside}:
                self._fs.create_dir(each.rpartition("/")[0], recursive=True)
            with partial.open("rb") as file, self._fs.open_output_stream(aside) as target:
                shutil.copyfileobj(file, target, _PIECE_BYTES)
            if aside != path:
                self._fs.move(aside, path)

    def _path(self, name: str) -> str:
        return "/".join(filter(None, (self._root.rstrip("/"), name)))


def store_of(place: str) -> Store:
    """What a path or a URL names.

    Raises:
        UserError: there is no such file system, or what it needs is not installed.
    """
    if place.startswith("file://"):
        place = place.removeprefix("file://")
    return Remote(place) if is_url(place) else Folder(Path(place).absolute())


def _file_system(url: str) -> tuple[Any, str, bool]:
    """The file system for pyarrow, the path in it, and whether files appear whole."""
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    scheme = url.partition("://")[0]
    is_whole = scheme.partition("+")[0] in _WHOLE_UPLOADS
    try:
        if scheme in _NATIVE:
            return *FileSystem.from_uri(url), is_whole
        import fsspec

        found, path = fsspec.core.url_to_fs(url)
        return PyFileSystem(FSSpecHandler(found)), path, is_whole
    except ModuleNotFoundError as error:
        if error.name == "fsspec":
            raise
        raise UserError(f"{url}: {error}") from None
    except ImportError as error:  # fsspec says what the scheme needs
        raise UserError(f"{url}: {error}; {to_install('cluster')}") from None
    except (ValueError, OSError) as error:  # ArrowInvalid, an unknown scheme
        raise UserError(f"{url}: is no file system that can be opened ({error})") from None


def _lock(file: TextIO, shown: str) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{shown}: another `tagger archive` is writing there; wait for it, or stop it") from None
    except OSError:  # some network drives have no locks
        pass
