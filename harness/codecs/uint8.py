"""uint8: the picture itself, at split 0."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from harness.codecs.base import Codec, straight_through


class Uint8(Codec):
    """One byte a colour of a pixel: picture on [0, 1] = q / 255."""

    name: Literal["uint8"] = "uint8"
    dtype: ClassVar[str] = "uint8"

    def decode(self, travelled: Tensor) -> Tensor:
        """uint8 -> float32 on [0, 1]."""
        return travelled.float() / 255

    def rounded(self, activation: Tensor) -> Tensor:
        """To the nearest of 256 values."""
        return straight_through(activation, (activation.detach() * 255).round().clamp(0, 255) / 255)
