"""Freed memory stays with the process where the C library is glibc."""

from __future__ import annotations

import platform
import subprocess
import sys

SCRIPT = """
import resource, numpy as np
from harness.workstation.memory import keep_freed_memory
kept = {kept} and keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(8_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(int(kept), faults())
"""


def measured(*, kept: bool) -> tuple[int, int]:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(kept=kept)], capture_output=True, text=True, check=True)
    said, faults = done.stdout.split()
    return int(said), int(faults)


def test_large_blocks_are_used_again_without_page_faults() -> None:
    is_glibc = platform.libc_ver()[0] == "glibc"
    said, faults = measured(kept=True)
    assert said == is_glibc
    if is_glibc:
        assert faults < measured(kept=False)[1] / 10
