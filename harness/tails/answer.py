"""What the workstation says to an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Answer:
    """What the tail made of an activation.

    Attributes:
        logits: float32.
        decode_ns: what it took to make the activation of what travelled; the rest is the tail's.
    """

    logits: AnyArray
    decode_ns: int
