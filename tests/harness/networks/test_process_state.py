"""Whatever code does inside `kept()`, the process is as it was before."""

from __future__ import annotations

import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.networks.process_state import kept

CHANGES: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "gradients": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads),
    "deterministic": (
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        torch.are_deterministic_algorithms_enabled,
    ),
    "precision": (lambda: torch.set_float32_matmul_precision("medium"), torch.get_float32_matmul_precision),
    "autocast": (lambda: torch.set_autocast_enabled("cpu", True), lambda: torch.is_autocast_enabled("cpu")),
    "torch's random numbers": (lambda: torch.rand(1), lambda: torch.get_rng_state().tolist()),
    "Python's random numbers": (random.random, random.getstate),
    "numpy's random numbers": (np.random.rand, lambda: np.random.get_state(legacy=False)["state"]["pos"]),
    "folder": (lambda: os.chdir("/"), Path.cwd),
    "arguments": (lambda: sys.argv.append("--more"), lambda: list(sys.argv)),
    "warnings": (lambda: warnings.simplefilter("ignore"), lambda: list(warnings.filters)),
    "signals": (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN), lambda: signal.getsignal(signal.SIGTERM)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_it_is_undone_when_the_block_ends_and_when_it_raises(what: str) -> None:
    change, look = CHANGES[what]
    before = look()
    with kept():
        change()
        assert look() != before, "the change itself has to show"
    assert look() == before
    with suppress(ValueError), kept():
        change()
        raise ValueError
    assert look() == before
