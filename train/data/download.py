"""Downloads ESC-50's official archive, and checks it."""

import zipfile
from pathlib import Path

from tagger.checkpoints.release import Arrived, fetch
from tagger.errors import DownloadError, UserError
from tagger.printable import number_of
from train.data import esc50

ARCHIVE_URL = "https://github.com/karolpiczak/ESC-50/archive/master.zip"
ARCHIVE_NAME = f"{esc50.ARCHIVE_TOP}.zip"
CLIPS = 2000


def esc50_archive(target_folder: Path, progress: Arrived | None = None, url: str = ARCHIVE_URL) -> Path:
    """Path of the archive; downloads it if it is not in the folder. Resumes an interrupted download (`.part`) if the
    server can.

    No hash of the archive is published, because GitHub makes it anew. The archive is accepted, and gets its name, if
    all checksums in it are right and it holds ESC-50's 2000 clips. The clips are unpacked into the cache, where
    `esc50.read` finds them.

    Raises:
        DownloadError: the server cannot be reached, or what it sends is not ESC-50.
    """
    target = target_folder / ARCHIVE_NAME
    if target.is_file():
        return target
    target_folder.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    if not (part.is_file() and problem(part) is None):
        fetch(url, part, progress)
        if why := problem(part):
            part.unlink()
            raise DownloadError(f"{url}: {why}; nothing was kept")
    part.replace(target)
    return target


def problem(archive: Path) -> str | None:
    """Why this is not ESC-50's archive. None: it is."""
    try:
        with (
            esc50.told_of_damage(lambda why: UserError(f"no ZIP archive ({why})")),
            zipfile.ZipFile(archive) as opened,
        ):
            if size := esc50.too_large(opened.infolist()):
                return f"what arrived {size}"
            if damaged := opened.testzip():
                return f"what arrived is damaged ({damaged})"
    except UserError as error:
        return f"what arrived is {error}"
    try:
        found = len(esc50.read(archive).clips)
    except UserError as error:
        return f"what arrived is not ESC-50 ({error})"
    return None if found == CLIPS else f"what arrived is not ESC-50 ({number_of(found, 'clip')} instead of {CLIPS})"
