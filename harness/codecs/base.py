"""What a codec is: how an activation travels, and what everybody who reads it makes of it."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import cache
from typing import ClassVar

import numpy as np
from torch import Tensor

from device_runner.frames import Frame, encode_payload
from device_runner.strict import StrictModel


class Codec(StrictModel):
    """How an activation travels. A subclass is one way; its fields are what the receiver must know beside the bytes.

    An activation travels as one tensor named `activation`. A cut inside a branch would ship several: their names would
    be `activation.0`, `activation.1`, .., each with a codec of its own.

    Attributes:
        name: what tables and options call it.
        dtype: of the numbers that travel, as torch and numpy call it.
        zero_point: of quantised numbers: what stands for 0; None for others.
        steps: how far two computations that round differently may be apart, in steps of the numbers that travel; None
            where these are no steps, and a tolerance of the values themselves applies.
    """

    name: str
    dtype: ClassVar[str]
    zero_point: int | None = None
    steps: ClassVar[float | None] = None

    @abstractmethod
    def decode(self, travelled: Tensor) -> Tensor:
        """What travelled -> the activation, float32."""

    @abstractmethod
    def rounded(self, activation: Tensor) -> Tensor:
        """What the receiver would read of an activation (float32); gradients pass straight through."""

    def read(self, value: Tensor) -> Tensor:
        """The value at the cut in a graph -> what the receiver reads of it, float32.

        Graphs of quantised networks hold what travels; those of others the activation.
        """
        return self.decode(value) if str(value.dtype) == f"torch.{self.dtype}" else self.rounded(value)

    def activation_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of an activation of this shape, without the frame around it."""
        return math.prod(shape) * np.dtype(self.dtype).itemsize

    def max_payload_bytes(self, shape: tuple[int, ...]) -> int:
        """The largest frame payload that an activation of this shape can take; anything larger is refused."""
        return _payload_bytes(self.dtype, shape)


@cache
def _payload_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    longest = {"kind": "activation", "picture": "9" * 9}
    return len(encode_payload(Frame(longest, {"activation": np.zeros(shape, dtype)})))


def straight_through(activation: Tensor, rounded: Tensor) -> Tensor:
    """Take the rounded value forward, and the gradient of the value itself back (Bengio et al. 2013, section 3)."""
    return activation + (rounded - activation).detach()
