"""What code that is not ours does to the process is undone."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

import numpy as np
import torch

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def kept() -> Iterator[None]:
    """Leave the process as it was before the block: torch's defaults, random numbers, folder, warnings, signals.

    What the block imports or sets in the environment stays; what it prints goes to standard error, for standard output
    may be a table that somebody else reads.
    """
    undo = [*_torch_defaults(), *_random_numbers(), *_interpreter()]
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        for one in undo:
            one()


def _torch_defaults() -> list[Callable[[], object]]:
    device, dtype = torch.get_default_device(), torch.get_default_dtype()
    gradients, threads = torch.is_grad_enabled(), torch.get_num_threads()
    mode, warns_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    precision, autocast = torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu")

    def default_device() -> None:
        if torch.get_default_device() != device:  # a device that is set costs every call a little: "cpu" is none
            torch.set_default_device(None if device.type == "cpu" else device)

    def number_of_threads() -> None:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

    return [
        default_device,
        number_of_threads,
        lambda: torch.set_default_dtype(dtype),
        lambda: torch.set_grad_enabled(gradients),
        lambda: torch.use_deterministic_algorithms(mode, warn_only=warns_only),
        lambda: torch.set_float32_matmul_precision(precision),
        lambda: torch.set_autocast_enabled("cpu", autocast),
    ]


def _random_numbers() -> list[Callable[[], object]]:
    of_torch, of_python, of_numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()
    return [
        lambda: torch.set_rng_state(of_torch),
        lambda: random.setstate(of_python),
        lambda: np.random.set_state(of_numpy),
    ]


def _interpreter() -> list[Callable[[], object]]:
    folder, arguments, filters = os.getcwd(), list(sys.argv), list(warnings.filters)  # noqa: PTH109
    handlers: dict[signal.Signals, Any] = {one: signal.getsignal(one) for one in _SIGNALS}

    def working_folder() -> None:
        with suppress(FileNotFoundError):  # it was removed meanwhile
            os.chdir(folder)

    def command_line() -> None:
        sys.argv[:] = arguments

    def warning_filters() -> None:
        if list(warnings.filters) != filters:
            warnings.filters[:] = filters  # type: ignore[index]  # a list, whatever its stub says
            warnings._filters_mutated()  # type: ignore[attr-defined]  # as warnings.catch_warnings does

    def signal_handlers() -> None:
        if threading.current_thread() is threading.main_thread():  # no other thread can set them
            for one, handler in handlers.items():
                if handler is not None and signal.getsignal(one) is not handler:
                    signal.signal(one, handler)

    return [working_folder, command_line, warning_filters, signal_handlers]
