"""Keeps the C library's memory from one batch to the next."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3)."""


def keep_memory() -> None:
    """Makes this process keep the memory that it frees.

    By default glibc gives every large array back to the kernel and asks for a new one, page by page, in the next batch.
    This takes a quarter of the time of a fine-tuning. Without glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(_TOP_PAD, 1 << 28)
