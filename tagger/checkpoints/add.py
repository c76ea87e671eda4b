"""`tagger models add` and `remove`: checkpoints of one's own, and official files, into the folder of models."""

import importlib.util
import os
import shutil
from pathlib import Path

from tagger.checkpoints.graph import graph_of
from tagger.checkpoints.info import read_info
from tagger.checkpoints.store import SUFFIX, entries, folder
from tagger.errors import CheckpointError, UserError, near, to_install
from tagger.files import replacing


def add(path: Path) -> Path:
    """Copies a checkpoint, and the graph beside it, or converts an official `.pt` file, into `$TAGGER_HOME/models`.

    Returns:
        The checkpoint's path there.

    Raises:
        CheckpointError: the file is neither, or torch, which reads official files, is not installed.
    """
    has_torch = importlib.util.find_spec("torch") is not None
    if path.suffix != SUFFIX:
        if not has_torch:
            raise CheckpointError(
                f"{path}: PyTorch's files need torch, which is not installed: {to_install('torch')}; "
                "or add it where torch is, export it there, and copy both files"
            )
        from tagger.checkpoints import official

        return official.add(path)
    read_info(path)
    if has_torch:
        from tagger.checkpoints import checkpoint

        checkpoint.load(path)  # refuses damaged weights now, not at their first use
    target = folder() / path.name
    if target.resolve() != path.resolve():
        _copy(path, target)
        if graph_of(path).is_file():
            _copy(graph_of(path), graph_of(target))
    return target


def remove(name: str) -> list[Path]:
    """Deletes a checkpoint, and its graph, from `$TAGGER_HOME/models`.

    Returns:
        The files that were there.

    Raises:
        UserError: there is none of this name, or it comes with the package.
    """
    path = folder() / f"{name}{SUFFIX}"
    if path.parent != folder() or not os.path.isfile(path):  # noqa: PTH113  # Path.is_file raises for too long names
        known = {entry.name: entry for entry in entries()}
        if name in known:
            raise UserError(f"{name}: comes with the package, and stays")
        raise UserError(f"no model {name!r}{near(name, known)} (`tagger models` lists them)")
    found = [each for each in (path, graph_of(path)) if each.is_file()]
    for each in found:
        each.unlink()
    return found


def _copy(path: Path, target: Path) -> None:
    with replacing(target) as partial:
        shutil.copyfile(path, partial)
