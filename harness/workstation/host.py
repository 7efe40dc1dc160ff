"""Which machines the workstation's side runs on."""

from __future__ import annotations

import platform
import sys

OLDEST_PYTHON = (3, 11)
MACHINES = ("x86_64", "aarch64")


def unsupported() -> str | None:
    """Say in one sentence why splitbench cannot run here; None where it can.

    Imports nothing heavy, so that it can be asked before anything else is loaded.
    """
    here = f"{platform.system()} {platform.machine()}"
    if here not in {f"Linux {machine}" for machine in MACHINES}:
        return f"splitbench runs on Linux {' and '.join(MACHINES)}, not on {here}"
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return f"splitbench needs Python {oldest} or newer, not {platform.python_version()}"
    return None
