"""What every test relies on, however the test run itself was started."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

from device_runner.cache import cache_folder

# A shell starts background jobs with SIGINT ignored, and what they start inherits that: the tests of Ctrl-C would fail.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure() -> None:
    """Let processes that test side by side share what is built, and have locks of devices of their own each."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        shared = cache_folder()
        own = Path(tempfile.mkdtemp(prefix=f"cache-{worker}-"))
        for name in ("bundles", "executorch"):
            (shared / name).mkdir(parents=True, exist_ok=True)
            (own / name).symlink_to(shared / name)
        # Beside each other, two processes of several threads each are slower than two of one.
        os.environ.update(SPLITBENCH_CACHE_DIR=str(own), OMP_NUM_THREADS="1")


def pytest_unconfigure() -> None:
    """Remove what `pytest_configure` made."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shutil.rmtree(cache_folder(), ignore_errors=True)
