"""`tests.torchaudio_shim`, beside fakes of torchaudio that load, or fail as PyPI's does beside a CPU torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT

PACKAGE = """
from torchaudio import _extension
from torchaudio import functional
ready = True
"""
BROKEN_EXTENSION = """
raise OSError("libc10_cuda.so: cannot open shared object file: No such file or directory")
"""
WORKING_EXTENSION = """
_IS_TORCHAUDIO_EXT_AVAILABLE = True
fail_if_no_align = lambda function: "native"
"""
# Imports as in torchaudio's own functional modules.
FUNCTIONAL = """
from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE as available, fail_if_no_align

@fail_if_no_align
def forced_align():
    return "aligned"
"""


def run(folder: Path, code: str, extension: str | None) -> str:
    """Output of `code` with a torchaudio that has this `_extension`. None: torchaudio is missing."""
    package = folder / "torchaudio"
    if extension is not None:
        package.mkdir()
        (package / "__init__.py").write_text(PACKAGE)
        (package / "functional.py").write_text(FUNCTIONAL)
        (package / "_extension.py").write_text(extension)
    else:
        (folder / "torchaudio.py").write_text("raise ModuleNotFoundError('No module named torchaudio')")
    # The fake comes before everything that is installed.
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=300, check=True
    )
    return done.stdout.strip()


def test_where_the_native_library_does_not_load_a_stub_takes_its_place(tmp_path):
    code = """
from tests.torchaudio_shim import torchaudio
print(torchaudio.ready, torchaudio.functional.available, torchaudio.functional.forced_align())
import torchaudio as again
print(again is torchaudio, sys.modules["torchaudio"] is torchaudio)
"""
    assert run(tmp_path, code, BROKEN_EXTENSION).split() == ["True", "False", "aligned", "True", "True"]


def test_where_it_loads_nothing_is_replaced(tmp_path):
    code = """
from tests.torchaudio_shim import torchaudio
print(torchaudio.functional.available, torchaudio.functional.forced_align, torchaudio._extension.__file__)
"""
    available, decorated, file = run(tmp_path, code, WORKING_EXTENSION).split()
    assert (available, decorated) == ("True", "native")
    assert file == str(tmp_path / "torchaudio" / "_extension.py")


def test_where_torchaudio_was_imported_before_it_is_that_one(tmp_path):
    code = "import torchaudio as first\nfrom tests.torchaudio_shim import torchaudio\nprint(first is torchaudio)"
    assert run(tmp_path, code, WORKING_EXTENSION) == "True"


def test_where_torchaudio_is_missing_that_is_said(tmp_path):
    code = "try:\n    import tests.torchaudio_shim\nexcept ImportError as error:\n    print(error)"
    assert run(tmp_path, code, None) == "No module named torchaudio"


def test_other_failures_are_not_hidden(tmp_path):
    code = "try:\n    import tests.torchaudio_shim\nexcept RuntimeError as error:\n    print(error)"
    assert run(tmp_path, code, "raise RuntimeError('torch is too old')") == "torch is too old"


def test_the_torchaudio_installed_here_works():
    torchaudio = pytest.importorskip("tests.torchaudio_shim").torchaudio
    assert torchaudio.compliance.kaldi.get_mel_banks(8, 512, 16_000.0, 20.0, 0.0, 100.0, -500.0, 1.0)[0].shape == (
        8,
        256,
    )
