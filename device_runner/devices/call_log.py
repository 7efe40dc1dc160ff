"""Every call to a device in a log, with its duration and status: what somebody else needs to read a failure."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from device_runner.devices.base import Completed, Device
from device_runner.shown import shown

CALLS = logging.getLogger("splitbench.calls")
CALLS.setLevel(logging.INFO)
CALLS.propagate = False
CALLS.addHandler(logging.NullHandler())

_MOST_LETTERS = 400  # of a command line: scripts are long

SomeDevice = TypeVar("SomeDevice", bound=Device)
P = ParamSpec("P")
Verb = Callable[Concatenate[SomeDevice, Sequence[str], P], Completed]


def logged(verb: Verb[SomeDevice, P]) -> Verb[SomeDevice, P]:
    """Log each call of a verb that runs a command line. What goes in and comes out is not told: tokens, activations."""

    @wraps(verb)
    def logged_verb(device: SomeDevice, argv: Sequence[str], /, *args: P.args, **kwargs: P.kwargs) -> Completed:
        began = time.monotonic()
        try:
            done = verb(device, argv, *args, **kwargs)
        except BaseException as exc:
            _log(device, argv, began, f"{type(exc).__name__}: {exc}")
            raise
        _log(device, argv, began, f"status {done.status}" + (f" ({done.said})" if done.status else ""))
        return done

    return logged_verb


def _log(device: Device, argv: Sequence[str], began: float, outcome: str) -> None:
    took_s = time.monotonic() - began
    command = shown(" ".join(shlex.join(argv).split()))  # scripts have many lines
    if len(command) > _MOST_LETTERS:
        command = f"{command[:_MOST_LETTERS]}..."
    CALLS.info("%s  %.3f s  %s  %s", shown(device.name), took_s, shown(outcome), command)
