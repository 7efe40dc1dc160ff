"""What trained decoders of the literature share: a network from the activation to pixels, and their squared error."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows it by

from analysis.attacks import Attack, HeadFunction, Pairs
from analysis.attacks.maps import Layout, layout_of, resize
from harness.networks.cutting import channels_last
from tests.benchmarks.attacks.budget import CpuBudget

DEFAULT_BUDGET_S = 60.0
LEARNING_RATE = 1e-3
BATCH = 32


class PixelDecoder(Attack):
    """A network trained by Adam on the mean squared error of pixels until the budget is spent."""

    access = "black-box"
    knows, cost = "pictures with their activations", "60 s, or its budget"

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:  # noqa: ARG002
        budget = CpuBudget(budget_s or DEFAULT_BUDGET_S)
        self._layout, self._size = layout_of(own.activation_shape, own.input_size), own.input_size
        maps = channels_last(self._layout.to_map(own.activations))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._network = self._build(self._layout, own).to(memory_format=torch.channels_last)
            self._train(maps, own.pictures, budget)

    def _rebuild(self, activations: Tensor) -> Tensor:
        return torch.cat([self._answer(self._layout.to_map(part)) for part in torch.split(activations, BATCH)])

    @abstractmethod
    def _build(self, layout: Layout, own: Pairs) -> nn.Module:
        """A network from maps to pictures of about the right size; its random numbers are seeded."""

    @abstractmethod
    def _optimizer(self) -> torch.optim.Adam:
        """The optimizer of `self._network`."""

    def _learning_rate(self, spent: float) -> float:  # noqa: ARG002
        """By the share of the budget that is spent."""
        return LEARNING_RATE

    def _train(self, maps: Tensor, pictures: Tensor, budget: CpuBudget) -> None:
        optimizer = self._optimizer()
        self._network.train()
        while budget.spent < 1:
            for chosen in torch.split(torch.randperm(len(maps)), BATCH):
                optimizer.param_groups[0]["lr"] = self._learning_rate(budget.spent)
                loss = F.mse_loss(self._answer(maps[chosen]), pictures[chosen])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                if budget.spent >= 1:
                    break
        self._network.eval()

    def _answer(self, maps: Tensor) -> Tensor:
        return resize(self._network(channels_last(maps)), self._size)


def doublings(layout: Layout, input_size: tuple[int, int]) -> int:
    """How often a map must be doubled to be about as large as the picture (height and width in pixels)."""
    return max(0, round(math.log2(input_size[0] / layout.height)))
