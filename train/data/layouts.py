"""Recognises the layouts of `tagger train DATA`: ESC-50 as a folder or archive, own sounds in folders, or a CSV."""

import zipfile
from pathlib import Path

from tagger.errors import UserError
from train.data import esc50, own
from train.data.dataset import Dataset
from train.messages import Say

_LAYOUTS = (
    "needed is ESC-50 (its folder or ZIP, from https://github.com/karolpiczak/ESC-50), a folder with a folder of "
    "sounds for each label, or a CSV filename,label"
)


def read_any(path: Path, subset: esc50.Subset = "esc50", say: Say = lambda line: None) -> Dataset:
    """Reads a data set of any layout.

    Raises:
        UserError: the layout is unknown, or something is wrong with the data.
    """
    if path.is_file():
        if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
            return esc50.read(path, subset)
        if path.suffix.lower() not in (".csv", ".tsv"):
            raise UserError(f"{path}: neither a CSV nor a ZIP archive; {_LAYOUTS}")
        if path.match("meta/esc50.csv"):
            return esc50.read(path.absolute().parent.parent, subset)
        return _own(path, subset, say)
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; {_LAYOUTS}")
    for root in (path, path / esc50.ARCHIVE_TOP):
        if (root / esc50.TABLE).is_file():
            return esc50.read(root, subset)
    if own.label_folders(path) in ([], ["audio"]):
        tables = sorted([*path.glob("*.csv"), *path.glob("*.tsv")])
        hint = f"name the CSV itself if you mean {tables[0]}; " if tables else ""
        raise UserError(f"{path}: no folders of sounds here, and {esc50.TABLE} is missing; {hint}{_LAYOUTS}")
    return _own(path, subset, say)


def _own(path: Path, subset: esc50.Subset, say: Say) -> Dataset:
    if subset == "esc10":
        raise UserError(f"{path}: ESC-10 is a part of ESC-50, and this is not it")
    return own.read(path, say)
