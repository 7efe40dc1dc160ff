"""Time that only a head moves on."""

from __future__ import annotations

import time

import pytest
from torch import Tensor

from analysis.attacks import HeadFunction


class Clock:
    """A head that takes a second whenever it is asked, while nothing else takes any time."""

    def __init__(self, patch: pytest.MonkeyPatch, head: HeadFunction) -> None:
        self.asked, self._head = 0, head
        patch.setattr(time, "monotonic", lambda: float(self.asked))

    def __call__(self, pictures: Tensor) -> Tensor:
        self.asked += 1
        return self._head(pictures)
