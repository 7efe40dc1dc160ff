"""How this process keeps the memory that it is done with."""

from __future__ import annotations

import ctypes
from functools import cache

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_KEPT_BYTES = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Let malloc keep large blocks instead of handing each back to the kernel, which clears it before it returns.

    Attacks allocate and free matrices of many megabytes; without this a quarter of their CPU time is page faults.

    Returns:
        Whether the C library does it; one that is not glibc does as it likes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
