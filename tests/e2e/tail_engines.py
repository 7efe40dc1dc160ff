"""A user's own tail engine, which dies in the middle of an answer while a file says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from harness.tails.base import Engine, Tail


class Fickle(Engine):
    """Checked and warmed up it is sound."""

    name: ClassVar[str] = "fickle"

    def load(self, tail: Tail) -> Callable[[Tensor], Tensor]:
        """Count the answers of the check."""
        checks = iter(range(3))

        def finish(activation: Tensor) -> Tensor:
            if next(checks, None) is None and Path("fickle").exists():
                os.kill(os.getpid(), signal.SIGSEGV)
            logits: Tensor = tail.graph(activation)
            return logits

        return finish
