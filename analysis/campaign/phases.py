"""The phases of a run: who is told how far it is, and how long each took."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Protocol


class Phase(Enum):
    """A phase, and what its user reads meanwhile."""

    SPLIT = "Finding split points"
    EXPORT = "Exporting heads"
    DEVICE = "Preparing devices"
    MEASURE = "Measuring"
    ATTACK = "Attacking"
    STRONG = "Attacking more strongly where it decides"


class Watcher(Protocol):
    """Who is told how far the run is."""

    def phase(self, phase: Phase, total: int | None) -> None:
        """A phase begins; `total` steps, where that is known."""

    def step(self, text: str) -> None:
        """One step of the phase is done."""

    def note(self, text: str) -> None:
        """Something that the user must know."""


class Phases:
    """Tells a watcher of each phase, and takes its time.

    Attributes:
        seconds: how long each phase took so far.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.step, self.note = watcher.step, watcher.note
        self.seconds: dict[Phase, float] = defaultdict(float)

    @contextmanager
    def phase(self, phase: Phase, total: int | None = None) -> Iterator[None]:
        """A phase that takes as long as the block runs."""
        self._watcher.phase(phase, total)
        began = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - began
