"""A convolutional decoder, trained on top of the linear one."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows it by

from analysis.attacks.base import Attack, HeadFunction, Pairs, Progress
from analysis.attacks.linear import Linear
from analysis.attacks.maps import resize
from analysis.attacks.queries import Queries
from analysis.attacks.validation import kept_back, spread
from analysis.metrics import LEAST_ERROR, psnr_db

DEFAULT_BUDGET_S = 60.0
WARM_BUDGET_S = 10.0
MOST_STEPS = 20_000
BATCH = 16
LEARNING_RATE = 3e-3
# The state that is judged and kept is a running mean of the weights over about 1 / (1 - this) steps.
AVERAGING = 0.98
# Channels where a place stands for 1, 2, 4, 8 and more pixels a side: most of the work is done where it is cheap.
WIDTHS = (24, 32, 48, 96)
MOST_JUDGED = 64
_STEPS_BETWEEN_JUDGEMENTS = 50
_WARM_UP = 50


class Decoder(Attack):
    """Convolutional decoder trained to correct the linear one. Learns much of trained networks, little of random ones.

    The network sees principal components of the activation and the linear answer, and adds to the latter. It learns
    from ever new crops, mirrors and colours of the receiver's own pictures, whose activations it asks the head for,
    is judged on source photographs that it is not trained on, and its best state is kept: with too little time the
    answer is the linear decoder's. At a neighbouring split it goes on from what it learned there.
    """

    name, access = "decoder", "black-box"
    knows, cost = "pictures, and answers to queries", "60 s, or its budget; 10 s after its neighbour"
    fewest_sources = 3
    _network: _Corrector

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        warm = self.neighbour if isinstance(self.neighbour, Decoder) else None
        own_choice = WARM_BUDGET_S if warm else DEFAULT_BUDGET_S
        deadline = time.monotonic() + (own_choice if budget_s is None else budget_s)
        self._linear = Linear()
        self._linear.fit(own, head=head)
        judged = kept_back(own.sources)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            jury = _Jury(self._linear, own.where(judged))
            _, channels, *grid = jury.components.shape
            network = _Corrector(channels, grid, own.input_size)
            learner = copy.deepcopy(network)
            if warm:
                learner.inherit(warm._network)
            queries = Queries(head, own.where(~judged).pictures)
            self._network = _train(network, learner, _Course(self._linear, queries), jury, deadline, self._progress)
        self._learned = self._network is not network

    def _rebuild(self, activations: Tensor) -> Tensor:
        linear = torch.cat([self._linear.rebuild(part) for part in torch.split(activations, BATCH)])
        return self._correct(activations, linear).clamp(0, 1)

    def unseen(self, own: Pairs) -> Pairs:
        """Those of the receiver's own pictures that the network was not trained on; all where it learned nothing."""
        return own.where(kept_back(own.sources)) if self._learned else own

    def rehearse(self, own: Pairs) -> Tensor:
        """Its answers to pictures out of `unseen`."""
        return self._correct(own.activations, self._linear.rehearse(own)).clamp(0, 1)

    @torch.no_grad()
    def _correct(self, activations: Tensor, linear: Tensor) -> Tensor:
        parts = zip(torch.split(activations, BATCH), torch.split(linear, BATCH), strict=True)
        return torch.cat([self._network(self._linear.components(part), answers) for part, answers in parts])


class _Course:
    """Pictures to learn from, as many as are asked for."""

    def __init__(self, linear: Linear, queries: Queries) -> None:
        self._linear, self._queries = linear, queries

    def error(self, network: nn.Module) -> Tensor:
        """Of a fresh batch: mean logarithm of the pictures' mean squared errors, so that all count as in PSNR."""
        pictures, activations = self._queries.draw(BATCH)
        rebuilt = network(self._linear.components(activations), self._linear.rebuild(activations))
        squared = (rebuilt - pictures).square().mean((1, 2, 3))
        error: Tensor = squared.clamp(min=LEAST_ERROR).log().mean()
        return error


class _Jury:
    """Pictures to be judged by: components of their activations, linear answers, the truth."""

    def __init__(self, linear: Linear, pairs: Pairs) -> None:
        chosen = spread(pairs, MOST_JUDGED)
        self.pictures = chosen.pictures
        self.components = linear.components(chosen.activations)
        self.linear = linear.rehearse(chosen)

    @torch.no_grad()
    def psnr_db(self, network: nn.Module) -> float:
        """Mean PSNR of the network's answers in dB."""
        parts = zip(torch.split(self.components, BATCH), torch.split(self.linear, BATCH), strict=True)
        answers = torch.cat([network(components, linear) for components, linear in parts])
        return float(psnr_db(self.pictures, answers).mean())


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

    def inherit(self, other: _Corrector) -> None:
        """Take over the layers of another split's network that fit; stages are matched from the picture's side."""
        pairs = [(self.enter, other.enter), (self.leave, other.leave)]
        pairs += list(zip(reversed(self.stages), reversed(other.stages), strict=False))
        for mine, theirs in pairs:
            known = theirs.state_dict()
            fitting = {k: v for k, v in known.items() if mine.state_dict().get(k, v[:0]).shape == v.shape}
            mine.load_state_dict(fitting, strict=False)

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


def _train(
    first: _Corrector,
    learner: _Corrector,
    course: _Course,
    jury: _Jury,
    deadline: float,
    progress: list[Progress],
) -> _Corrector:
    """The state that the jury likes best, of `first` and what `learner` becomes before the deadline (monotonic, s)."""
    began = time.monotonic()
    best, averaged = first, copy.deepcopy(learner)
    highest = jury.psnr_db(best)
    progress.append(Progress(0.0, highest))
    optimizer = torch.optim.Adam(learner.parameters(), lr=LEARNING_RATE)
    for step in range(1, MOST_STEPS + 1):
        now = time.monotonic()
        if now >= deadline:
            break
        for group in optimizer.param_groups:  # falls to nothing at the deadline, which is worth half a decibel
            group["lr"] = LEARNING_RATE * min(
                step / _WARM_UP, (1 + math.cos(math.pi * _share(began, now, deadline))) / 2
            )
        optimizer.zero_grad()
        torch.autograd.backward(course.error(learner))
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        for kept, current in zip(averaged.parameters(), learner.parameters(), strict=True):
            kept.data.lerp_(current.data, 1 - min(AVERAGING, step / (step + _WARM_UP)))
        if step % _STEPS_BETWEEN_JUDGEMENTS == 0:
            reached = jury.psnr_db(averaged)
            if reached > highest:
                highest, best = reached, copy.deepcopy(averaged)
            progress.append(Progress(time.monotonic() - began, highest))
    return best


def _share(began: float, now: float, end: float) -> float:
    return (now - began) / (end - began)
