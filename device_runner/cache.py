"""Where splitbench keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return the root of all caches: SPLITBENCH_CACHE_DIR where that is set, otherwise the user's cache folder.

    The folder need not exist yet. Whatever lies in it may be deleted at any time between two runs.
    """
    override = os.environ.get("SPLITBENCH_CACHE_DIR")
    return Path(override).expanduser().absolute() if override else Path(platformdirs.user_cache_dir("splitbench"))
