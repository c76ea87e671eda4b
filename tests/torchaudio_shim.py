"""torchaudio, importable also where its native library is not.

PyPI's torchaudio wheel is linked against CUDA. Beside a CPU build of torch (Raspberry Pi, small servers, CI) the
dynamic linker does not find `libc10_cuda.so` and `import torchaudio` raises `OSError`, although all that the tests use
of it is Python. Only then, its extension module is replaced by a stub that says "not available".

Use `from tests.torchaudio_shim import torchaudio`, never `import torchaudio`.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


def _stub() -> ModuleType:
    """The names that torchaudio's own modules use in `torchaudio._extension`, without the native library."""
    stub = ModuleType("torchaudio._extension")
    stub._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    stub.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
    return stub


def import_torchaudio() -> ModuleType:
    """The `torchaudio` package, with its native library where that loads and with the stub where it does not.

    Raises:
        ImportError: torchaudio is not installed.
    """
    try:
        return importlib.import_module("torchaudio")
    except OSError:
        # The failed import leaves submodules behind that hold on to a package object nobody has.
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _stub()
        return importlib.import_module("torchaudio")


torchaudio = import_torchaudio()


@contextmanager
def double_precision() -> Iterator[None]:
    """torchaudio computes in float64 what is made inside: its filters in float32 are off by up to 2e-5."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
