"""Downloads EfficientAT's release files, whose names, checksums and labels are here."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from tagger import __version__
from tagger.errors import DownloadError, UserError, near
from tagger.files import sha256
from tagger.progress import Progress

RELEASE_URL = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1"
_CHUNK_BYTES = 1 << 16
_TIMEOUT_SECONDS = 30

Arrived = Callable[[int, int | None], None]
"""Takes the number of bytes that have arrived, and of all bytes; None if the server does not say."""


@dataclass(frozen=True)
class ReleaseFile:
    """A file of EfficientAT's release."""

    name: str
    sha256: str
    """Hash of the file, lower-case hexadecimal."""


RELEASE_FILES = {
    "mn04": ReleaseFile("mn04_as_mAP_432.pt", "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"),
    "mn10": ReleaseFile("mn10_as_mAP_471.pt", "0bd7dc2443af498c289a2e739f02ebb515d6aa3fd3ab9db539c86123ae368a4e"),
}
"""The files that can be downloaded, by model name without `_as`."""
UNPINNED_FILES = {
    "mn01": "mn01_as_mAP_298.pt",
    "mn02": "mn02_as_mAP_378.pt",
    "mn05": "mn05_as_mAP_443.pt",
    "mn20": "mn20_as_mAP_478.pt",
    "mn30": "mn30_as_mAP_482.pt",
    "mn40": "mn40_as_mAP_484.pt",
    "mn40_as_ext": "mn40_as_ext_mAP_487.pt",
    "mn40_as_no_im_pre": "mn40_as_no_im_pre_mAP_483.pt",
    "dymn04": "dymn04_as.pt",
    "dymn10": "dymn10_as.pt",
    "dymn20": "dymn20_as_mAP_493.pt",
    # Trained on ImageNet alone.
    **{f"mn{width}_im": f"mn{width}_im.pt" for width in ("01", "02", "04", "05", "10", "20", "30", "40")},
    **{f"dymn{width}_im": f"dymn{width}_im.pt" for width in ("04", "10", "20")},
}
"""Other published files. We do not know their sha256, so a download could not be checked."""


def audioset_labels() -> tuple[str, ...]:
    """AudioSet's 527 display names, in the order of the networks' outputs."""
    return tuple((Path(__file__).parent / "audioset_labels.txt").read_text("utf-8").splitlines())


def release_file(name: str) -> ReleaseFile:
    """The file of a model, such as `mn10_as`.

    Raises:
        UserError: there is no such model, or its sha256 is not known.
    """
    key = name.removesuffix("_as")
    if file := UNPINNED_FILES.get(key):
        raise UserError(
            f"{name} cannot be checked after a download (its sha256 is not known): "
            f"get {RELEASE_URL}/{file} yourself, then `tagger models add {file}`"
        )
    if key not in RELEASE_FILES:
        raise UserError(f"no model {name!r} to download{near(key, RELEASE_FILES)}")
    return RELEASE_FILES[key]


@contextmanager
def progress_bar(label: str) -> Iterator[Arrived]:
    """Shows the progress of a download. Yields what moves it."""
    with Progress(label, None, "MB", 1e6) as shown:

        def progress(received: int, total: int | None) -> None:
            shown.total = total
            shown.update(received - shown.done)

        yield progress


def download(file: ReleaseFile, target: Path, base_url: str = RELEASE_URL, progress: Arrived | None = None) -> None:
    """Downloads `file` to `target`. Continues an interrupted download, which is in a `.part` file beside it.

    `target` appears in one step, and only with the right content.

    Raises:
        DownloadError: the server cannot be reached, or the file's sha256 is not the expected one.
    """
    if target.is_file() and sha256(target) == file.sha256:
        return
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    url = f"{base_url.rstrip('/')}/{file.name}"
    if not (part.is_file() and sha256(part) == file.sha256):
        fetch(url, part, progress)
    if (found := sha256(part)) != file.sha256:
        part.unlink()
        raise DownloadError(f"{url}: sha256 is {found}, not {file.sha256}; nothing was kept")
    part.replace(target)


def fetch(url: str, part: Path, progress: Arrived | None) -> None:
    """Downloads the rest of a file into `part`, or the whole file if the server cannot continue.

    Raises:
        DownloadError: the server cannot be reached, refuses, or ends early. `part` keeps the bytes that arrived.
    """
    have = part.stat().st_size if part.is_file() else 0
    try:
        request = urllib.request.Request(url, headers={"User-Agent": f"tagger/{__version__}"})
    except ValueError:
        raise DownloadError(f"{url}: not a URL") from None
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            if response.status != 206:  # the server sends the whole file
                have = 0
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            with part.open("ab" if have else "wb") as file:
                while chunk := response.read(_CHUNK_BYTES):
                    file.write(chunk)
                    have += len(chunk)
                    if progress:
                        progress(have, total)
        if total is not None and have < total:
            raise DownloadError(f"{url}: ended after {have} of {total} bytes; the same command continues")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # `part` is as long as the file, or longer; `download` checks its hash
            return
        raise DownloadError(f"{url}: the server answers {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(f"{url}: {reason}; the same command continues where it ended") from None
