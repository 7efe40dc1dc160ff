"""Settings of the whole process that somebody else's code may change."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch


@contextmanager
def kept() -> Iterator[None]:
    """Whatever the block changes of these is undone when it ends, also by an error.

    torch's default dtype and device, gradients, threads, deterministic algorithms and their like, the states of all
    random number generators, the filters of warnings, and the working folder.
    """
    dtype, device, grad = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    anomalies, with_nan = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    drawn = torch.get_rng_state(), random.getstate(), np.random.get_state()
    folder = Path.cwd()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:  # "cpu", once set, would cost every call something
            torch.set_default_device(None if device.type == "cpu" else device)
        torch.set_grad_enabled(grad)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(deterministic, warn_only=only_warned)
        torch.autograd.set_detect_anomaly(anomalies, check_nan=with_nan)
        torch.set_rng_state(drawn[0])
        random.setstate(drawn[1])
        np.random.set_state(drawn[2])
        os.chdir(folder)
