"""PyTorch on the CPU, with batch norm folded and channels last."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, fx

from harness.networks.constants import compute_weights
from harness.networks.cutting import channels_last
from harness.networks.folding import fold_batch_norm
from harness.networks.graph import op_name
from harness.tails.base import Engine, Tail


class TorchEngine(Engine):
    """Takes every tail."""

    name: ClassVar[str] = "torch"

    def load(self, tail: Tail) -> Callable[[Tensor], Tensor]:
        """Fold and lay out the weights once."""
        finish = prepare(tail.graph)

        def finish_on_threads(activation: Tensor) -> Tensor:
            torch.set_num_threads(self.threads)
            try:
                return finish(activation)
            finally:
                torch.set_num_threads(1)

        return finish_on_threads


def prepare(tail: fx.GraphModule) -> Callable[[Tensor], Tensor]:
    """Fold batch norm in place, and let maps and weights have their channels last where the tail convolves."""
    compute_weights(tail)
    fold_batch_norm(tail)
    convolves = any(op_name(node) == "conv2d" for node in tail.graph.nodes)
    if not convolves:
        return tail
    for weight in tail.parameters():
        weight.data = channels_last(weight.data)
    return lambda activation: tail(channels_last(activation))
