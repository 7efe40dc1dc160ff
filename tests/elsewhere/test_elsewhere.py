"""What computes where it is told, checked in a process of its own.

PyTorch's autograd counts the processors when it is first used: one that comes later it cannot serve.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


@pytest.mark.parametrize("checks", ["check_attacks.py", "check_heads.py"])
def test_it_computes_where_it_is_told_and_as_on_the_cpu(checks: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(HERE / checks)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
