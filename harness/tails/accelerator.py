"""PyTorch on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from harness.networks.cutting import on_device
from harness.tails.base import Engine, Tail
from harness.tails.torch_engine import prepare


class Accelerator(Engine):
    """A GPU as torch names it. The way there and back is part of the tail's time."""

    device: ClassVar[str]

    def load(self, tail: Tail) -> Callable[[Tensor], Tensor]:
        """Move the weights there once."""
        torch.backends.cudnn.allow_tf32 = False  # its 10 bits would give other logits than PyTorch's on the CPU
        device = torch.device(self.device)
        finish = prepare(on_device(tail.graph, device))
        return lambda activation: finish(activation.to(device)).cpu()  # .cpu() waits for the result


class CudaEngine(Accelerator):
    """The first CUDA device."""

    name: ClassVar[str] = "cuda"
    device: ClassVar[str] = "cuda:0"

    @classmethod
    def unavailable(cls) -> str:
        """Whether torch sees one."""
        return "" if torch.cuda.is_available() else "torch sees no CUDA device here"


class MpsEngine(Accelerator):
    """Apple's GPU."""

    name: ClassVar[str] = "mps"
    device: ClassVar[str] = "mps"

    @classmethod
    def unavailable(cls) -> str:
        """Whether torch sees one."""
        return "" if torch.backends.mps.is_available() else "torch sees no Apple GPU here"
