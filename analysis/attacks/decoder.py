"""A convolutional decoder, trained on top of the linear one."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows it by

from analysis.attacks.base import Attack, Head, Pairs
from analysis.attacks.linear import Linear
from analysis.attacks.maps import resize
from analysis.attacks.validation import kept_back

DEFAULT_BUDGET_S = 60.0
MOST_STEPS = 20_000
BATCH = 16
LEARNING_RATE = 3e-3
# The state that is judged and kept is a running mean of the weights over about 1 / (1 - this) steps.
AVERAGING = 0.98
# Channels where a place stands for 1, 2, 4, 8 and more pixels a side: most of the work is done where it is cheap.
WIDTHS = (24, 32, 48, 96)
MOST_JUDGED = 64
_STEPS_BETWEEN_JUDGEMENTS = 50
# Mean squared errors are not told apart below the cap of PSNR, 60 dB.
_SMALLEST_ERROR = 1e-6


class Decoder(Attack):
    """Convolutional decoder trained to correct the linear one. Learns much of trained networks, little of random ones.

    The network sees principal components of the activation and the linear answer, and adds to the latter. It begins
    by adding nothing, is judged on source photographs that it is not trained on, and its best state is kept: with too
    little time the answer is the linear decoder's. The default budget is 60 s.
    """

    name, access = "decoder", "black-box"
    knows, cost = "pictures with their activations", "60 s, or its budget"
    fewest_sources = 3

    def _fit(self, own: Pairs, head: Head, budget_s: float | None) -> None:  # noqa: ARG002
        deadline = time.monotonic() + (DEFAULT_BUDGET_S if budget_s is None else budget_s)
        self._linear = Linear()
        self._linear.fit(own)
        judged = kept_back(own.sources)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            to_learn, to_judge = (
                _Course(self._linear, own.where(torch.nonzero(part).flatten())) for part in (~judged, judged)
            )
            _, channels, *grid = to_learn.components.shape
            self._network = _train(_Corrector(channels, grid, own.input_size), to_learn, to_judge, deadline)

    def _rebuild(self, activations: Tensor) -> Tensor:
        return self._correct(activations, self._linear.rebuild)

    def rehearse(self, activations: Tensor) -> Tensor:
        """As `rebuild`, by weights that never saw the pictures that are kept back (see validation.py)."""
        return self._correct(activations, self._linear.rehearse).clamp(0, 1)

    @torch.no_grad()
    def _correct(self, activations: Tensor, linear: Callable[[Tensor], Tensor]) -> Tensor:
        parts = torch.split(activations, BATCH)
        return torch.cat([self._network(self._linear.components(part), linear(part)) for part in parts])


class _Course:
    """Pictures to learn from or be judged by: components of their activations, linear answers, the truth."""

    def __init__(self, linear: Linear, pairs: Pairs) -> None:
        self.pictures = pairs.pictures
        self.components = linear.components(pairs.activations)
        self.linear = torch.cat([linear.rehearse(part) for part in torch.split(pairs.activations, BATCH)])

    def error(self, network: nn.Module, chosen: Tensor) -> Tensor:
        """Mean logarithm of the pictures' mean squared errors: what PSNR measures, all pictures counting alike."""
        rebuilt = network(self.components[chosen], self.linear[chosen])
        squared = (rebuilt - self.pictures[chosen]).square().mean((1, 2, 3))
        error: Tensor = squared.clamp(min=_SMALLEST_ERROR).log().mean()
        return error


class _Residual(nn.Module):
    """x plus two 3x3 convolutions of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.gelu(self.first(F.gelu(x))))
        return x + change


class _Corrector(nn.Module):
    """Components of an activation and the linear answer -> a better answer, doubling the size from stage to stage."""

    def __init__(self, channels: int, grid: Sequence[int], input_size: tuple[int, int]) -> None:
        super().__init__()
        self._sizes = _stages(grid, input_size)
        width = _width(grid, input_size)
        self.enter = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), _Residual(width), _Residual(width))
        self.stages = nn.ModuleList()
        for size in self._sizes:
            seen, width = width + 3, _width(size, input_size)
            self.stages.append(nn.Sequential(nn.Conv2d(seen, width, 3, padding=1), _Residual(width)))
        # Where the last stage is at half the picture's size, each of its places gives 2x2 pixels.
        self._pixels = 1 if self._sizes[-1] == input_size else 2
        self.leave = nn.Conv2d(width, 3 * self._pixels**2, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, components: Tensor, linear: Tensor) -> Tensor:
        x = self.enter(components)
        for size, stage in zip(self._sizes, self.stages, strict=True):
            x = stage(torch.cat([F.interpolate(x, size=size, mode="nearest"), resize(linear, size)], dim=1))
        change = F.pixel_shuffle(self.leave(x), self._pixels)
        return linear + resize(change, (linear.shape[2], linear.shape[3]))


def _width(size: Sequence[int], input_size: tuple[int, int]) -> int:
    doublings = round(math.log2(max(1.0, input_size[0] / size[0])))
    return WIDTHS[min(doublings, len(WIDTHS) - 1)]


def _stages(grid: Sequence[int], input_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Heights and widths, each about twice the one before, from just above the grid's to half the picture's or all."""
    half = (-(-input_size[0] // 2), -(-input_size[1] // 2))
    sizes = [half if half[0] >= grid[0] and half[1] >= grid[1] else input_size]
    while sizes[0][0] >= 3 * grid[0] and sizes[0][1] >= 3 * grid[1]:
        sizes.insert(0, (-(-sizes[0][0] // 2), -(-sizes[0][1] // 2)))
    return sizes


def _train(first: _Corrector, train: _Course, judged: _Course, deadline: float) -> _Corrector:
    """The best state, by the error on `judged`, that is found before the deadline (a monotonic time in seconds)."""
    learner, averaged, best = first, copy.deepcopy(first), copy.deepcopy(first)
    jury = torch.randperm(len(judged.pictures))[:MOST_JUDGED]
    lowest = _judge(best, judged, jury)
    optimizer = torch.optim.Adam(learner.parameters(), lr=LEARNING_RATE)
    for step in range(1, MOST_STEPS + 1):
        if time.monotonic() >= deadline:
            break
        optimizer.zero_grad()
        loss = train.error(learner, torch.randint(len(train.pictures), (BATCH,)))
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        for kept, current in zip(averaged.parameters(), learner.parameters(), strict=True):
            kept.data.lerp_(current.data, 1 - AVERAGING)
        if step % _STEPS_BETWEEN_JUDGEMENTS == 0:
            error = _judge(averaged, judged, jury)
            if error < lowest:
                lowest, best = error, copy.deepcopy(averaged)
    return best


@torch.no_grad()
def _judge(network: _Corrector, judged: _Course, jury: Tensor) -> float:
    return sum(float(judged.error(network, part)) * len(part) for part in torch.split(jury, BATCH)) / len(jury)
