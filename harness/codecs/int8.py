"""int8: the numbers that an int8 network computes with."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from harness.codecs.base import Codec, straight_through


class Int8(Codec):
    """One byte a number: activation = (q - zero_point) * scale."""

    name: Literal["int8"] = "int8"
    dtype: ClassVar[str] = "int8"
    steps: ClassVar[float | None] = 1.0
    scale: float
    zero_point: int

    def decode(self, travelled: Tensor) -> Tensor:
        """int8 -> float32."""
        return (travelled.float() - self.zero_point) * self.scale

    def rounded(self, activation: Tensor) -> Tensor:
        """To the nearest step within -128 to 127."""
        steps = (activation.detach() / self.scale + self.zero_point).round().clamp(-128, 127)
        return straight_through(activation, self.decode(steps))
