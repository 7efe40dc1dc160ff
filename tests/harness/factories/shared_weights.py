"""Networks that use one tensor in several places, or compute their weights; small ones, by factory."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune


class ThereAndBack(nn.Module):
    """A convolution and a transposed one with the same weight."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.there(x))
        x = F.conv_transpose2d(x, self.there.weight, stride=2, padding=1, output_padding=1)
        out: Tensor = self.last(torch.relu(x).mean((2, 3)))
        return out


class Recurrent(nn.Module):
    """Calls one block of convolution and batch norm three times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 10)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        for _ in range(3):
            x = self.block(x)
        out: Tensor = self.last(x.mean((2, 3)))
        return out


class ManyUses(nn.Module):
    """One weight with several strides and as an operand, a bias of two layers, weights that are parts of a tensor."""

    part: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 10)
        numbers = torch.randn(2, 8, 8, 1, 1) * 0.3
        self.weight, self.bias = nn.Parameter(torch.randn(8, 8, 1, 1) * 0.3), nn.Parameter(torch.rand(8))
        self.register_buffer("part", numbers[1])
        self.register_buffer("spread", torch.rand(8, 1, 1, 1).expand(8, 8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(F.conv2d(torch.relu(self.first(x)), self.weight, self.bias))
        x = torch.relu(F.conv2d(x, self.weight, self.bias, stride=2)) + self.weight[0]
        x = torch.relu(F.conv2d(torch.relu(F.conv2d(x, self.part)), self.spread))
        out: Tensor = self.last(x.mean((2, 3)) * self.bias)
        return out


class ComputedWeights(nn.Module):
    """Weights that forward itself makes: normalised, masked, transposed, cast."""

    def __init__(self) -> None:
        super().__init__()
        self.first = parametrizations.weight_norm(nn.Conv2d(3, 8, 3, 2, 1))
        self.second, self.norm = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)
        prune.l1_unstructured(self.second, "weight", 0.5)  # type: ignore[no-untyped-call]
        self.last = nn.Parameter((torch.randn(8, 10) * 0.3).half())

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.second(torch.relu(self.first(x)))))
        return F.linear(x.mean((2, 3)), self.last.t().float())


class HalfInside(nn.Module):
    """Computes its middle in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x)).half()
        out: Tensor = self.last((torch.relu(x * 2) + 1).float().mean((2, 3)))
        return out


class Unbounded(nn.Module):
    """Gives infinity in the middle, and numbers again at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x)) + float("inf")
        out: Tensor = self.last(torch.sigmoid(x).mean((2, 3)))
        return out


class ChannelsLast(nn.Module):
    """Weights and maps with their channels last in memory, of one channel also."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Conv2d(3, 1, 1), nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2)
        self.maps = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.last = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.maps(x.to(memory_format=torch.channels_last)))
        out: Tensor = self.last(x.contiguous(memory_format=torch.channels_last).mean((2, 3)))
        return out
