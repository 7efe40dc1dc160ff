"""fp32: the activation as it is."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from harness.codecs.base import Codec


class Fp32(Codec):
    """Four bytes a number; nothing is lost."""

    name: Literal["fp32"] = "fp32"
    dtype: ClassVar[str] = "float32"

    def decode(self, travelled: Tensor) -> Tensor:
        """What travelled is the activation."""
        return travelled

    def rounded(self, activation: Tensor) -> Tensor:
        """Nothing is rounded."""
        return activation
