"""A convolutional decoder, trained on top of the linear one."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows it by

from analysis.attacks.augmentation import Augmentation
from analysis.attacks.base import CrossFitted, HeadFunction, Pairs, Progress
from analysis.attacks.linear import Linear
from analysis.attacks.maps import resize
from analysis.attacks.validation import in_validation
from analysis.metrics import LEAST_ERROR, psnr_db

DEFAULT_BUDGET_S = 60.0
WARM_BUDGET_S = 7.0
MOST_STEPS = 20_000
BATCH = 16
# Of kernels, by Muon, whose steps change them by as much in all directions; of biases and the last layer, by Adam.
KERNELS_RATE, LEARNING_RATE = 0.01, 3e-3
# Checkpoints are of a running mean of the weights over about 1 / (1 - this) steps.
AVERAGING = 0.98
# Channels where a place stands for 1, 2, 4, 8 and more pixels a side: most of the work is done where it is cheap.
WIDTHS = (24, 32, 48, 96)
MOST_VALIDATION_PICTURES = 64
_STEPS_BETWEEN_CHECKPOINTS = 50
_WARM_UP = 10
# While steps are few, that mean is over one more for each so many.
_AVERAGED_MORE_EVERY = 50


class Decoder(CrossFitted):
    """Convolutional decoder trained to correct the linear one. Learns much of trained networks, little of random ones.

    The network sees principal components of the activation and the linear answer, and adds to the latter. It learns
    from ever new crops, mirrors and colours of the receiver's own pictures, whose activations it asks the head for,
    is validated on source photographs that it is not trained on, and its best checkpoint is kept: with too little time
    the answer is the linear decoder's. From a neighbouring split's decoder it goes on with the layers that fit.
    """

    name, access = "decoder", "black-box"
    knows, cost = "pictures, and answers to queries", "60 s, or its budget; 7 s after its neighbour"
    fewest_sources = 3
    _network: _Corrector

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Decoder | None = None) -> None:
        own_choice = WARM_BUDGET_S if start_from else DEFAULT_BUDGET_S
        deadline = time.monotonic() + (own_choice if budget_s is None else budget_s)
        self._linear = Linear()
        self._linear.fit(own, head=head)
        validated = in_validation(own.sources)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            validation = _Validation(self._linear, own.where(validated))
            _, channels, *grid = validation.components.shape
            with torch.device("cpu"):  # anywhere the same numbers
                untrained = _Corrector(channels, grid, own.input_size).to(own.pictures.device)
            network = copy.deepcopy(untrained)
            if start_from:
                network.warm_start(start_from._network)
            with closing(Augmentation(head, own.where(~validated))) as augmentation:
                batches = _Batches(self._linear, augmentation)
                self._network = _train(untrained, network, batches, validation, deadline, self._progress)
        self._learned = self._network is not untrained
        self._cut_short = budget_s is not None and budget_s < own_choice and time.monotonic() >= deadline

    def _warm_fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Decoder) -> None:
        self._fit(own, head, budget_s, start_from)

    def _rebuild(self, activations: Tensor) -> Tensor:
        linear = torch.cat([self._linear.rebuild(part) for part in torch.split(activations, BATCH)])
        return self._correct(activations, linear).clamp(0, 1)

    def validation_pairs(self, own: Pairs) -> Pairs:
        """Those that the network was not trained on; all where it learned nothing."""
        return super().validation_pairs(own) if self._learned else own

    def _out_of_fold(self, own: Pairs) -> Tensor:
        return self._correct(own.activations, self._linear.out_of_fold(own))

    @torch.no_grad()
    def _correct(self, activations: Tensor, linear: Tensor) -> Tensor:
        parts = zip(torch.split(activations, BATCH), torch.split(linear, BATCH), strict=True)
        return torch.cat([self._network(self._linear.components(part), answers) for part, answers in parts])


@dataclass(frozen=True)
class _Batches:
    """Training batches, as many as are asked for."""

    linear: Linear
    augmentation: Augmentation

    def loss(self, network: nn.Module) -> Tensor:
        """Of a fresh batch: mean logarithm of the pictures' mean squared errors, so that all count as in PSNR."""
        pictures, activations = self.augmentation.draw(BATCH)
        rebuilt = network(self.linear.components(activations), self.linear.rebuild(activations))
        squared = (rebuilt - pictures).square().mean((1, 2, 3))
        loss: Tensor = squared.clamp(min=LEAST_ERROR).log().mean()
        return loss


class _Validation:
    """Validation pictures: components of their activations, linear answers, the truth."""

    def __init__(self, linear: Linear, pairs: Pairs) -> None:
        chosen = pairs.round_robin(MOST_VALIDATION_PICTURES)
        self.pictures = chosen.pictures
        self.components = linear.components(chosen.activations)
        self.linear = linear.out_of_fold(chosen)

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

    def warm_start(self, other: _Corrector) -> None:
        """Take over the layers of another split's network that fit; stages are matched from the picture's side.

        First layers that do not fit begin at zero: noise would undo what was taken over behind them.
        """
        for part in (self.enter, *self.stages):
            nn.init.zeros_(part.get_submodule("0").get_parameter("weight"))
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


class _Optimizer:
    """Muon (Jordan et al., 2024) for kernels, as matrices, and Adam for biases and the last layer."""

    def __init__(self, network: _Corrector) -> None:
        inner = [one for part in (network.enter, network.stages) for one in part.parameters()]
        self._kernels = [one for one in inner if one.dim() > 1]
        self._matrices = [kernel.detach().flatten(1) for kernel in self._kernels]  # in the same memory
        others = [*(one for one in inner if one.dim() == 1), *network.leave.parameters()]
        self._muon: torch.optim.Optimizer = torch.optim.Muon(self._matrices, weight_decay=0.0)
        self._adam: torch.optim.Optimizer = torch.optim.Adam(others)

    def step(self, share: float) -> None:
        """A step at this share of the learning rates."""
        for matrix, kernel in zip(self._matrices, self._kernels, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        for optimizer, rate in ((self._muon, KERNELS_RATE), (self._adam, LEARNING_RATE)):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()


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
    untrained: _Corrector,
    network: _Corrector,
    batches: _Batches,
    validation: _Validation,
    deadline: float,
    progress: list[Progress],
) -> _Corrector:
    """The best checkpoint on validation pictures: `untrained`, or one of `network` before the deadline (monotonic, s).

    Args:
        network: is trained.
        progress: gets an entry for each checkpoint.
    """
    began = time.monotonic()
    best, averaged = untrained, copy.deepcopy(network)
    highest = validation.psnr_db(best)
    progress.append(Progress(0.0, highest))
    optimizer = _Optimizer(network)
    step, now = 0, began
    while now < deadline and step < MOST_STEPS:
        step += 1
        network.zero_grad()
        torch.autograd.backward(batches.loss(network))
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        # The rate falls to nothing at the deadline, which is worth half a decibel.
        optimizer.step(min(step / _WARM_UP, (1 + math.cos(math.pi * (now - began) / (deadline - began))) / 2))
        for mean, current in zip(averaged.parameters(), network.parameters(), strict=True):
            mean.data.lerp_(current.data, 1 - min(AVERAGING, step / (step + _AVERAGED_MORE_EVERY)))
        now = time.monotonic()
        if step % _STEPS_BETWEEN_CHECKPOINTS == 0 or step == MOST_STEPS or now >= deadline:
            reached = validation.psnr_db(averaged)
            if reached > highest:
                highest, best = reached, copy.deepcopy(averaged)
            progress.append(Progress(now - began, highest))
    return best
