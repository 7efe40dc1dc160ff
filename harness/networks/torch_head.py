"""A head as PyTorch runs it: for any number of pictures, with gradients."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, fx

from harness.networks.constants import compute_weights
from harness.networks.cutting import channels_last, extract_head, on_device, with_any_strides
from harness.networks.folding import fold_batch_norm
from harness.networks.splits import Cut, Network, SplitPoint

# Graphs are traced for a fixed number of pictures; this one's is there already, for it collects the activations.
BATCH = 16
CPU = torch.device("cpu")


class TorchHead:
    """Pictures (float32, N x 3 x H x W on [0, 1]) -> the activation at a split point, float32, N x ...

    Batch norm is folded into the convolutions before it: half the work, and the same values but for rounding.

    Args:
        cut: activations are rounded as they would be when they travel like this; gradients pass through.
        device: where it computes, and where its pictures are.
    """

    def __init__(self, network: Network, point: SplitPoint, cut: Cut | None = None, device: torch.device = CPU) -> None:
        self._network, self._point, self._cut, self._device = network, point, cut, device

    @cached_property
    def _graph(self) -> fx.GraphModule:
        """Made when the head is first asked: black-box attacks that ask nothing pay nothing."""
        graph = extract_head(self._network.graph(BATCH), self._point.node)
        compute_weights(graph)
        fold_batch_norm(graph)
        return on_device(with_any_strides(graph).requires_grad_(False), self._device)

    def __call__(self, pictures: Tensor) -> Tensor:
        """The activations of N pictures; gradients flow where they are asked for."""
        activations = self._run(pictures)
        return self._cut.codec.rounded(activations) if self._cut else activations

    def _run(self, pictures: Tensor) -> Tensor:
        if self._takes_any_number:
            activations: Tensor = self._graph(channels_last(pictures))
            return activations
        parts = []
        for part in torch.split(pictures, BATCH):
            missing = BATCH - len(part)
            whole = torch.cat([part, part[-1:].expand(missing, -1, -1, -1)]) if missing else part
            parts.append(self._graph(channels_last(whole))[: len(part)])
        return torch.cat(parts)

    @cached_property
    @torch.no_grad()
    def _takes_any_number(self) -> bool:
        """Whether the graph, traced for 16 pictures, is right for another number: convolutions are, windows are not."""
        pictures = torch.rand(
            BATCH, 3, *self._network.model.input_size, generator=torch.Generator("cpu").manual_seed(0), device="cpu"
        ).to(self._device)
        expected = self._graph(channels_last(pictures))[:2]
        try:
            value = self._graph(channels_last(pictures[:2]))
        except RuntimeError:
            return False
        return value.shape == expected.shape and torch.allclose(value, expected, rtol=1e-3, atol=1e-4)
