"""Where splitbench keeps what it can make again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import platformdirs

from device_runner.errors import MachineError


def cache_folder() -> Path:
    """Return the root of all caches: SPLITBENCH_CACHE_DIR where that is set, otherwise the user's cache folder.

    The folder need not exist yet. Whatever lies in it may be deleted at any time between two runs.
    """
    override = os.environ.get("SPLITBENCH_CACHE_DIR")
    folder = override or platformdirs.user_cache_dir("splitbench")
    return Path(os.path.expanduser(folder)).absolute()  # noqa: PTH111 - Path raises where there is no such home


def make_cache_folder(path: Path) -> None:
    """Make a folder in the cache, unless it is there.

    Raises:
        MachineError: it cannot be written: a home that is read-only or is not there, no space.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as exc:
        remedy = "set SPLITBENCH_CACHE_DIR to a folder that can be written"
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = f"free some space, or {remedy}"
        raise MachineError(f"the cache {path} cannot be written: {exc.strerror}", remedy=remedy) from exc
