"""Networks of a user's own, by factory ("tiny_networks:plain"): small ones, some that cannot be split or lowered."""

from __future__ import annotations

import multiprocessing
import os
import signal

import torch
from torch import Tensor, nn


def plain() -> nn.Module:
    """Convolution, batch norm and ReLU6; convolution and ReLU; pooling, dropout and a linear layer."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()),
        *(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(inplace=True)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, 10)),
    )


class InPlace(nn.Module):
    """Changes its values where they lie, and a view of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x.mul_(2).add_(1)
        x[:, 0].zero_()
        x = self.second(x).relu_()
        return x.flatten(1).clamp_(max=1)


class Strided(nn.Module):
    """Hands on values that do not lie one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).permute(0, 2, 3, 1)
        x = torch.relu(x)
        return torch.tanh(self.second(x)).mean((1, 2))


class KeepsInput(nn.Module):
    """Uses the picture again at the end, so that nowhere between is there one tensor alone."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.convolution(x)) + x


class Branching(nn.Module):
    """Looks at its values before it decides what to do."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x * 2
        return x - 1


class TwoOutputs(nn.Module):
    """Gives two tensors."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x * 2


class IgnoresPicture(nn.Module):
    """Gives the same for every picture."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Parameter(torch.ones(1, 10))

    def forward(self, x: Tensor) -> Tensor:
        return (self.answer * 2).expand(len(x), -1)


class Volumetric(nn.Module):
    """Convolves in three dimensions, which XNNPACK leaves to the portable kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(3, 4, (1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.convolution(x.unsqueeze(2)))


@torch.library.custom_op("splitbench_tests::unknown", mutates_args=())
def unknown(x: Tensor) -> Tensor:
    """Twice x, by an operator that ExecuTorch does not have."""
    return x * 2


@unknown.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("splitbench_tests::deadly", mutates_args=())
def deadly(x: Tensor) -> Tensor:
    """Twice x, by an operator whose lowering kills the process that lowers."""
    return x * 2


@deadly.register_fake
def _(x: Tensor) -> Tensor:
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.empty_like(x)


class _WithOperator(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.first, self.last = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.first(x))
        x = getattr(torch.ops.splitbench_tests, self.name)(x)
        out: Tensor = self.last(x)
        return out


def unlowerable() -> nn.Module:
    """An operator that ExecuTorch does not have, in the middle."""
    return _WithOperator("unknown")


def deadly_to_lower() -> nn.Module:
    """An operator that kills whoever lowers it, in the middle."""
    return _WithOperator("deadly")


def gives_a_number() -> int:
    """No network at all."""
    return 3


NOT_CALLABLE = 3
