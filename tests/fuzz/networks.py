"""Networks drawn at random, as users might write them, and what the product makes of each.

`python -m tests.fuzz.networks --count 2000` exports, verifies and attacks each (fp32, every tenth in int8 as well;
every twentieth through a whole run) and counts what came of them. `tests.fuzz.networks:seed_1234` is the factory of
one.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing import get_context
from multiprocessing.synchronize import Lock
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, weight_norm

from analysis.attacks import ATTACKS
from analysis.campaign.carry_out import Campaign
from analysis.campaign.devices import ready_devices
from analysis.campaign.exports import export_programs
from analysis.campaign.inputs import Inputs
from analysis.campaign.phases import Phase, Phases
from analysis.campaign.plan import lay_run
from analysis.campaign.selection import everything, surveys
from analysis.campaign.subject import Subject, Variant
from analysis.campaign.tails import Tails
from analysis.judging import collect_pairs, holds_pictures_apart
from analysis.run import Run
from device_runner.errors import RunnerError, SplitbenchError
from harness.errors import ExportError
from harness.export.manifest import Exported
from harness.export.program import Program
from harness.measure.verification import host_reference
from harness.networks.cutting import capture
from harness.networks.models import load_model
from harness.networks.splits import Network, SplitPoint
from harness.networks.torch_head import TorchHead
from harness.pictures import Pictures, load_pictures
from harness.results.schema import RunConfig

SIDE = 32
_MOST_VALUES = 40_000  # of an activation: a network stays small

_turn: Lock | None = None  # to measure on this machine, where several processes try networks

Step = Callable[[random.Random, tuple[int, ...]], nn.Module]


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor], name: str = "") -> None:
        super().__init__()
        self.function, self.name = function, name

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


# activations


_ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.ELU, nn.LeakyReLU,
    nn.Mish, nn.Softplus, nn.PReLU, nn.SELU, nn.Softsign, nn.Hardtanh, nn.LogSigmoid, nn.CELU, nn.Tanhshrink,
    partial(nn.ReLU, inplace=True), partial(nn.Hardtanh, -0.5, 0.7), partial(nn.GELU, approximate="tanh"),
    partial(nn.Softshrink, 0.1), partial(nn.Threshold, 0.1, 0.0), nn.Identity, nn.Dropout,
)  # fmt: skip


def _activation(rng: random.Random, _: tuple[int, ...]) -> nn.Module:
    return rng.choice(_ACTIVATIONS)()


# what keeps or changes the numbers one by one


class InPlace(nn.Module):
    """Changes its values where they lie, and a view of them."""

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1
        x.mul_(0.5).add_(0.25)
        x[:, 0].zero_()
        return x.clamp_(-2, 2)


class Constant(nn.Module):
    """Computes with a parameter, a buffer, a plain tensor or one made in forward."""

    def __init__(self, kind: str, channels: int, dims: int) -> None:
        super().__init__()
        self.kind = kind
        value = torch.rand(channels, *[1] * max(0, dims - 2)) + 0.5
        if kind == "parameter":
            self.value: Tensor = nn.Parameter(value)
        elif kind == "buffer":
            self.register_buffer("value", value, persistent=False)
        else:
            self.value = value

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "made":
            return x + torch.linspace(0, 1, x.shape[-1])
        return x * self.value + self.value


def _cast(rng: random.Random, _: tuple[int, ...]) -> nn.Module:
    kind = rng.choice([torch.float16, torch.bfloat16, torch.float64])
    inner = rng.choice([nn.Identity(), nn.ReLU(), Apply(lambda x: x * 2)])
    return Apply(lambda x: inner(x.to(kind)).float(), f"{kind} and back")


_PLAIN: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("float", lambda x: x.float().to(x.device)),
    ("contiguous", lambda x: x.contiguous()),
    ("clone", lambda x: x.clone()),
    ("detach", lambda x: x.detach()),
    ("abs", torch.abs),
    ("sqrt", lambda x: (x.abs() + 0.1).sqrt()),
    ("exp", lambda x: x.clamp(max=2).exp()),
    ("log1p", lambda x: x.abs().log1p()),
    ("pow", lambda x: x.pow(2)),
    ("cube", lambda x: x.clamp(-2, 2) ** 3),
    ("rsqrt", lambda x: (x * x + 1).rsqrt()),
    ("floor", lambda x: x.floor()),
    ("sign", lambda x: x.sign()),
    ("negative", lambda x: 1 - x),
    ("divided", lambda x: x / 3),
    ("reciprocal", lambda x: 1 / (x.abs() + 0.5)),
    ("where", lambda x: torch.where(x > 0, x, 0.1 * x)),
    ("maximum", lambda x: torch.maximum(x, -x)),
    ("integers", lambda x: (x * 8).round().int().float() / 8),
    ("clamped", lambda x: x.clamp(min=-0.3)),
    ("twice", lambda x: x + x),
    ("sin", torch.sin),
    ("softmax", lambda x: x.softmax(1)),
    ("log softmax", lambda x: x.log_softmax(-1)),
    ("normalised", lambda x: F.normalize(x, dim=1)),
    ("centred", lambda x: x - x.mean(-1, keepdim=True)),
    ("scaled", lambda x: x / (x.amax(1, keepdim=True).abs() + 1)),
    ("standardised", lambda x: (x - x.mean((1,), keepdim=True)) / (x.std(1, keepdim=True, correction=0) + 0.1)),
    ("summed", lambda x: x.cumsum(1) * 0.1),
    ("flipped", lambda x: x.flip(-1)),
    ("rolled", lambda x: x.roll(1, -1)),
    ("sorted", lambda x: x.sort(-1).values),
)


class Asserts(nn.Module):
    """Makes sure of what it was given."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] > 0
        torch._assert(x.dim() > 1, "not enough dimensions")
        return x.to(torch.float32) * 1.5


def _plain(rng: random.Random, shape: tuple[int, ...]) -> nn.Module:
    kind = rng.randrange(len(_PLAIN) + 8)
    if kind < len(_PLAIN):
        return Apply(_PLAIN[kind][1], _PLAIN[kind][0])
    if kind < len(_PLAIN) + 2:
        return InPlace()
    if kind < len(_PLAIN) + 3:
        return Asserts()
    return Constant(rng.choice(["parameter", "buffer", "plain", "made"]), shape[1], len(shape))


# convolutions and their like, N x C x H x W


_PADDINGS: tuple[int | str, ...] = (0, 1, 2, "same")
_KERNELS: tuple[int | tuple[int, int], ...] = (1, 1, 3, 3, 5, (1, 3))


def _conv(rng: random.Random, shape: tuple[int, ...], *, out: int | None = None) -> nn.Conv2d:
    channels = shape[1]
    groups = rng.choice([1, 1, 1, channels, *(g for g in (2, 4) if channels % g == 0)])
    kernel = rng.choice(_KERNELS)
    dilation = rng.choice([1, 1, 1, 2])
    stride = rng.choice([1, 1, 2])
    padding = rng.choice(_PADDINGS)
    if padding == "same" and stride != 1:
        padding = 1
    return nn.Conv2d(
        channels, groups * rng.randint(1, max(1, 16 // groups)) if out is None else out, kernel, stride,
        padding,
        dilation, 1 if out is not None else groups, rng.random() < 0.6,
        rng.choice(["zeros", "zeros", "zeros", "reflect", "circular", "replicate"]),
    )  # fmt: skip


def _same(channels: int, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, bias=bias)


def _norm(rng: random.Random, shape: tuple[int, ...]) -> nn.Module:
    channels = shape[1]
    if len(shape) == 2:
        return rng.choice([nn.BatchNorm1d(channels), nn.LayerNorm(channels), nn.BatchNorm1d(channels, affine=False)])
    if len(shape) == 3:
        return rng.choice([nn.BatchNorm1d(channels), nn.LayerNorm(shape[-1]), nn.InstanceNorm1d(channels, affine=True)])
    groups = rng.choice([g for g in (1, 2, 4, channels) if channels % g == 0])
    return rng.choice([
        nn.BatchNorm2d(channels), nn.BatchNorm2d(channels), nn.BatchNorm2d(channels, affine=False),
        nn.BatchNorm2d(channels, eps=1, momentum=None), nn.GroupNorm(groups, channels), nn.InstanceNorm2d(channels),
        nn.InstanceNorm2d(channels, affine=True), nn.LayerNorm(list(shape[1:])), nn.LocalResponseNorm(2),
        nn.InstanceNorm2d(channels, track_running_stats=True),
    ])  # fmt: skip


def _conv_norm(rng: random.Random, shape: tuple[int, ...]) -> nn.Module:
    conv = _conv(rng, shape)
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), _activation(rng, shape))


def _transposed(rng: random.Random, shape: tuple[int, ...]) -> nn.Module:
    groups = rng.choice([1, 1, 2 if shape[1] % 2 == 0 else 1])
    out = groups * rng.randint(1, 6)
    deconv = nn.ConvTranspose2d(shape[1], out, rng.choice([1, 2, 3]), rng.choice([1, 2]), groups=groups)
    return nn.Sequential(deconv, nn.BatchNorm2d(out)) if rng.random() < 0.4 else deconv


class Around(nn.Module):
    """What a branch makes of it, joined with itself."""

    def __init__(self, branch: nn.Module, join: str) -> None:
        super().__init__()
        self.branch, self.join = branch, join

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.branch(x)
        if self.join == "add":
            return x + y
        if self.join == "in place":
            y += x
            return y
        if self.join == "gate":
            return x * torch.sigmoid(y)
        return torch.cat([x, y], 1)


def _residual(rng: random.Random, shape: tuple[int, ...]) -> nn.Module:
    channels = shape[1]
    branch: list[nn.Module] = [_same(channels, bias=rng.random() < 0.5)]
    if rng.random() < 0.6:
        branch.append(nn.BatchNorm2d(channels))
    branch.append(_activation(rng, shape))
    if rng.random() < 0.5:
        branch.append(_same(channels))
    return Around(nn.Sequential(*branch), rng.choice(["add", "add", "in place", "gate", "concatenate"]))


class Squeeze(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 4, 1), nn.ReLU(), nn.Conv2d(4, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.inner(x))


# shared and computed weights


class Again(nn.Module):
    """Calls one block several times."""

    def __init__(self, block: nn.Module, times: int) -> None:
        super().__init__()
        self.block, self.times = block, times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.block(x)
        return x


class ThereAndBack(nn.Module):
    """A convolution and a transposed one with the same weight."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.there, self.stride = nn.Conv2d(channels, 6, 3, stride, 1), stride

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.there(x))
        return F.conv_transpose2d(y, self.there.weight, stride=self.stride, padding=1, output_padding=self.stride - 1)


class ManyUses(nn.Module):
    """One weight with several strides, groups and paddings, and as an operand; one bias for all."""

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.randn(channels, channels, 1, 1) * 0.3),
            nn.Parameter(torch.rand(channels)),
        )
        self.which = seed

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(F.conv2d(x, self.weight, self.bias))
        if self.which % 2:
            x = torch.relu(F.conv2d(x, self.weight, self.bias, stride=2))
        if self.which % 3:
            x = x + self.weight[0] + self.bias.view(1, -1, 1, 1)
        return F.conv2d(x, self.weight.transpose(0, 1), self.bias)


class Standardised(nn.Module):
    """A convolution whose weight is computed each time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.inner.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.inner.bias, padding=1)


class PartOfStorage(nn.Module):
    """Weights that are views of one tensor."""

    first: Tensor
    second: Tensor
    third: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        numbers = torch.randn(2 * channels * channels + 3) * 0.3
        self.register_buffer("first", numbers[: channels**2].view(channels, channels, 1, 1))
        self.register_buffer("second", numbers[3 : channels**2 + 3].view(channels, channels, 1, 1))
        self.register_buffer("third", torch.rand(channels, 1, 1, 1).expand(channels, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(torch.relu(F.conv2d(torch.relu(F.conv2d(x, self.first)), self.second)), self.third)


def _special_weights(rng: random.Random, shape: tuple[int, ...]) -> nn.Module:
    channels = shape[1]
    kind = rng.randrange(10)
    conv = _same(channels)
    if kind == 0:
        return weight_norm(conv)
    if kind == 1:
        parametrizations.weight_norm(conv)
        return conv
    if kind == 2:
        parametrizations.spectral_norm(conv)
        return conv
    if kind == 3:
        prune.l1_unstructured(conv, "weight", 0.5)  # type: ignore[no-untyped-call]
        return nn.Sequential(conv, nn.BatchNorm2d(channels))
    if kind == 4:
        return Again(nn.Sequential(_same(channels), nn.BatchNorm2d(channels), nn.ReLU()), rng.randint(2, 3))
    if kind == 5:
        return Again(nn.Sequential(conv, _activation(rng, shape)), 2)
    if kind == 6:
        return ThereAndBack(channels, rng.choice([1, 2]))
    if kind == 7:
        return ManyUses(channels, rng.randrange(6))
    if kind == 8:
        return nn.Sequential(Standardised(channels), nn.BatchNorm2d(6))
    return PartOfStorage(channels)


class Half(nn.Module):
    """A convolution in half precision."""

    def __init__(self, channels: int, kind: torch.dtype) -> None:
        super().__init__()
        self.inner, self.kind = nn.Conv2d(channels, 6, 3, padding=1).to(kind), kind

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.inner(x.to(self.kind))).float()


# where values lie


class Attention(nn.Module):
    """Self-attention over the places of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.MultiheadAttention(channels, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).transpose(1, 2)
        mixed: Tensor = self.mix(rows, rows, rows, need_weights=False)[0]
        return mixed.transpose(1, 2).reshape(x.shape)


def _places(rng: random.Random, shape: tuple[int, ...]) -> nn.Module:
    _, channels, height, width = shape
    even = channels % 2 == 0
    kinds: list[tuple[str, Callable[[Tensor], Tensor]]] = [
        ("channels last and back", lambda x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2)),
        ("swapped", lambda x: x.transpose(2, 3)),
        ("rows", lambda x: x.flatten(2)),
        ("viewed", lambda x: x.view(x.size(0), channels, -1).view(x.size(0), channels, height, width)),
        ("memory format", lambda x: x.to(memory_format=torch.channels_last)),
        ("padded", lambda x: F.pad(x, (1, 0, 2, 1))),
        ("reflected", lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")),
        ("nearest", lambda x: F.interpolate(x, scale_factor=2)),
        ("bilinear", lambda x: F.interpolate(x, size=(9, 7), mode="bilinear", align_corners=False)),
        ("bicubic", lambda x: F.interpolate(x, size=(6, 6), mode="bicubic")),
        ("channels sliced", lambda x: x[:, : max(1, channels // 2)]),
        ("places sliced", lambda x: x[:, :, ::2, 1:]),
        ("chunks", lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
        ("stacked", lambda x: torch.stack([x, -x], 2).flatten(1, 2)),
        ("mean of rows", lambda x: x.mean(-1)),
        ("greatest", lambda x: x.amax((2, 3))),
        ("squeezed", lambda x: x.unsqueeze(1).squeeze(1)),
        ("wider", lambda x: x.repeat(1, 2, 1, 1)),
        ("index", lambda x: x[:, [0, channels - 1]]),
        ("einsum", lambda x: torch.einsum("nchw,ndhw->ncd", x, x) / 100),
        ("batch moved", lambda x: x.transpose(0, 1)),
    ]
    if even:
        kinds.append(
            ("shuffled", lambda x: x.view(x.size(0), 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape))
        )
    if height % 2 == 0 and width % 2 == 0:
        kinds.append(("unshuffled", lambda x: F.pixel_unshuffle(x, 2)))
    if channels % 4 == 0:
        kinds.append(("pixel shuffle", lambda x: F.pixel_shuffle(x, 2)))
    name, function = rng.choice(kinds)
    return Apply(function, name)


def _pool(rng: random.Random, _: tuple[int, ...]) -> nn.Module:
    return rng.choice([
        nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.AdaptiveAvgPool2d(4), nn.AdaptiveAvgPool2d(3),
        nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(2), nn.LPPool2d(2, 2), nn.MaxPool2d(3, 1, 1, dilation=1),
    ])  # fmt: skip


class OtherDimensions(nn.Module):
    """Convolves a map as rows, or as a volume."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.inner = (
            nn.Conv1d(channels, 4, 3, padding=1) if dims == 1 else nn.Conv3d(channels, 4, (1, 3, 3), padding=(0, 1, 1))
        )
        self.norm = nn.BatchNorm1d(4) if dims == 1 else nn.BatchNorm3d(4)
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        if self.dims == 1:
            return torch.relu(self.norm(self.inner(x.flatten(2)))).view(x.size(0), -1, *x.shape[2:])
        return torch.relu(self.norm(self.inner(x.unsqueeze(2)))).squeeze(2)


def _layer(rng: random.Random, shape: tuple[int, ...]) -> nn.Module:
    return rng.choice([Squeeze(shape[1]), Attention(shape[1]), Half(shape[1], rng.choice([torch.half, torch.bfloat16])),
                       OtherDimensions(shape[1], 1), OtherDimensions(shape[1], 3)])  # fmt: skip


# vectors, N x C, and rows, N x C x L


def _vector(rng: random.Random, shape: tuple[int, ...]) -> nn.Module:
    width = shape[-1]
    linear = nn.Linear(width, rng.randint(1, 24), bias=rng.random() < 0.7)
    return rng.choice([
        linear, nn.Sequential(linear, nn.ReLU()), Around(nn.Linear(width, width), "add"),
        Again(nn.Sequential(nn.Linear(width, width), nn.Tanh()), 2),
        weight_norm(nn.Linear(width, 6)), Apply(lambda x: x @ torch.ones(width, 4), "product"), Tied(width),
    ])  # fmt: skip


class Tied(nn.Module):
    """An autoencoder whose two layers share a weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(7, width) * 0.3), nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.relu(F.linear(x, self.weight)), self.weight.t(), self.bias) + self.bias


def _rows(rng: random.Random, shape: tuple[int, ...]) -> nn.Module:
    choices: list[nn.Module] = [
        nn.Conv1d(shape[1], 4, 1), Apply(lambda x: x.mean(2), "mean"), Apply(lambda x: x.transpose(1, 2), "transposed"),
        nn.Flatten(), nn.LayerNorm(shape[-1]), nn.AdaptiveAvgPool1d(5), Apply(lambda x: x.unsqueeze(1), "as a map"),
        nn.ConvTranspose1d(shape[1], 4, 2),
    ]  # fmt: skip
    return rng.choice([*choices, _vector(rng, shape)])


_STEPS: dict[int, tuple[tuple[Step, int], ...]] = {
    4: ((_conv, 5), (_conv_norm, 5), (_activation, 5), (_plain, 4), (_cast, 1), (_norm, 2), (_transposed, 1),
        (_residual, 3), (_special_weights, 3), (_layer, 2), (_places, 4), (_pool, 2)),
    3: ((_rows, 5), (_activation, 2), (_plain, 2), (_cast, 1), (_norm, 1)),
    2: ((_vector, 5), (_activation, 3), (_plain, 3), (_cast, 1), (_norm, 1)),
}  # fmt: skip


class Generated(nn.Module):
    """A network of steps, with parameters and buffers that nothing uses."""

    def __init__(self, steps: Iterable[nn.Module], seed: int) -> None:
        super().__init__()
        self.steps = nn.Sequential(*steps)
        if seed % 5 == 0:
            self.unused = nn.Linear(3, 3)
            self.register_buffer("counter", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.steps(x)
        return out


def network(seed: int) -> nn.Module:
    """The network of that number, for pictures N x 3 x 32 x 32: always the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, of the older weight norm and of what is drawn without effect
        return _draw(seed)


def _draw(seed: int) -> nn.Module:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    steps: list[nn.Module] = []
    value = torch.rand(2, 3, SIDE, SIDE)
    if rng.random() < 0.9:
        steps.append(nn.Conv2d(3, rng.choice([4, 6, 8, 12]), 3, 2, 1))
        value = steps[0](value)
    for _ in range(rng.randint(2, 5)):
        step = _fitting(rng, value)
        if step is not None:
            steps.append(step[0])
            value = step[1]
    if value.dim() > 2 and rng.random() < 0.9:
        steps.append(nn.Flatten())
        value = value.flatten(1)
    if rng.random() < 0.9 and value.dim() == 2:
        steps.append(nn.Linear(value.shape[1], 10))
    return Generated(steps, seed).eval()


def _fitting(rng: random.Random, value: Tensor) -> tuple[nn.Module, Tensor] | None:
    """A step that takes this value, and what it makes of it; None where none was found in some tries."""
    choices, weights = zip(*_STEPS.get(value.dim(), ((_plain, 1),)), strict=True)
    for _ in range(6):
        try:
            step: nn.Module = rng.choices(choices, weights)[0](rng, tuple(value.shape)).eval()
            with torch.no_grad():
                found = step(value)
        except (RuntimeError, ValueError, IndexError):  # PyTorch does not take it: draw again
            continue
        if 2 <= found.dim() <= 5 and 0 < found.numel() <= _MOST_VALUES and bool(found.isfinite().all()):
            return step, found
    return None


def __getattr__(name: str) -> Callable[[], nn.Module]:
    if found := re.fullmatch(r"seed_(\d+)", name):
        return partial(network, int(found[1]))
    raise AttributeError(name)


# what the product makes of them


@dataclass
class Outcome:
    """What came of one network, or the sum of many.

    Attributes:
        refused: networks, by reason. rows: splits, by status and reason.
        broken: what must not be: tracebacks, and rows that are `ok` without having been verified.
    """

    networks: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def __iadd__(self, other: Outcome) -> Outcome:
        self.networks += other.networks
        self.refused += other.refused
        self.rows += other.rows
        self.broken += other.broken
        return self

    def __str__(self) -> str:
        def lines(title: str, counts: Counter[str]) -> Iterator[str]:
            yield f"{title}: {counts.total()}"
            yield from (f"  {count:6} {reason}" for reason, count in counts.most_common())

        refused, rows = lines("refused", self.refused), lines("rows", self.rows)
        broken = [f"broken: {len(self.broken)}", *self.broken]
        return "\n".join([f"networks: {self.networks}", *refused, *rows, *broken])


class _Silent:
    """A watcher that tells nobody."""

    def phase(self, phase: Phase, total: int | None) -> None:
        """Nothing."""

    def step(self, text: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


def try_network(seed: int) -> Outcome:
    """Take one network through what a run does: most through a survey alone, each twentieth through a run's all."""
    outcome = Outcome(networks=1)
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            config = _config(seed)
            inputs = _inputs(config, Path(folder) / "exported")
            if seed % 20:
                for variant in inputs.variants:
                    _survey(seed, config, inputs, variant, outcome)
            else:
                _run(seed, config, inputs, Path(folder) / "run", outcome)
    except SplitbenchError as exc:
        outcome.refused[_kind(str(exc))] += 1
    except Exception:  # what this looks for
        outcome.broken.append(f"seed {seed}: {traceback.format_exc()}")
    return outcome


def _config(seed: int) -> RunConfig:
    return RunConfig(
        models=(f"tests.fuzz.networks:seed_{seed}",),
        split="finest" if seed % 3 == 0 else "all",
        devices=("local",),
        precisions=("fp32", "int8") if seed % 10 == 0 else ("fp32",),
        input_size=(SIDE, SIDE),
        warmup=0,
        iterations=1,
        rounds=1,
        survey="none" if seed % 40 == 0 else "only",
        attacks=("linear",),
        pictures="builtin",
        weights="random",
        seed=0,
    )


def _inputs(config: RunConfig, exported: Path) -> Inputs:
    """What a run begins with, its pictures shared by all seeds."""
    (name,) = config.models
    calibration = _pictures().train.as_float()[:96]
    network = Network(load_model(name, weights="random", input_size=(SIDE, SIDE), calibration=lambda _: calibration))
    subject = Subject(network, network.select(config.split), _pictures())
    return Inputs((subject,), exported, tuple(Variant(subject, precision) for precision in config.precisions))


def _survey(seed: int, config: RunConfig, inputs: Inputs, variant: Variant, outcome: Outcome) -> None:
    """Export, verify on this machine and attack, without timing anything."""
    subject, precision, phases = variant.subject, variant.precision, Phases(_Silent())
    for point in subject.points:
        cut = variant.cut(point)
        if isinstance(cut, ExportError):
            outcome.rows[f"{precision} failed: {_kind(str(cut))}"] += 1
    verified: list[SplitPoint] = []
    programs = surveys(config, variant)
    for (_, survey), made in export_programs({variant: programs}, inputs.exported, phases).items():
        if _reason_against(made) is None:
            verified += survey.points
            continue
        alone = {variant: [Program.head(point) for point in survey.points]}  # as a run does: one by one
        for (_, head), one in export_programs(alone, inputs.exported, phases).items():
            if (reason := _reason_against(one)) is None:
                verified += head.points
            else:
                outcome.rows[f"{precision} failed: {_kind(reason)}"] += 1
    outcome.rows[f"{precision} ok"] += len(verified)
    verified = [point for point in verified if holds_pictures_apart(subject.network, point)]
    if verified:
        _attack(seed, variant, verified, outcome)


def _reason_against(made: Exported | ExportError) -> str | None:
    """Why a program has no figures: it could not be made, or gives something else than PyTorch."""
    if isinstance(made, ExportError):
        return str(made)
    try:
        host_reference(made)
    except RunnerError as exc:
        return str(exc)
    return None


def _attack(seed: int, variant: Variant, points: list[SplitPoint], outcome: Outcome) -> None:
    subject = variant.subject
    pairs = collect_pairs(variant.graph(), points, subject.pictures)
    last = points[-1]
    head = TorchHead(subject.network, last)
    ATTACKS.load("linear")().fit(pairs[last.index], head=head, budget_s=None)
    pictures = subject.pictures.held_out.as_float()
    with torch.no_grad():
        expected = torch.cat([capture(subject.network.graph(1), one[None], {last.node: 0})[0] for one in pictures])
        step = 1e-3 * max(1.0, float(expected.abs().max()))  # float16 within a network rounds in steps of this order
        if not torch.allclose(head(pictures), expected, rtol=1e-3, atol=step):
            outcome.broken.append(f"seed {seed}: the head that attacks ask is not the network's at {last.name}")


def _run(seed: int, config: RunConfig, inputs: Inputs, folder: Path, outcome: Outcome) -> None:
    """The whole of a run: timing, shipping and attacks."""
    phases = Phases(_Silent())
    programs = {variant: everything(config, variant) for variant in inputs.variants}
    export_programs(programs, inputs.exported, phases)  # many at once; then in turn
    with _turn or nullcontext(), ready_devices(config, config.devices, phases) as devices:
        store = lay_run(folder, config, inputs, devices)
        with store.locked(), Tails.of_run(store, inputs.exported, phases) as tails:
            Campaign(store, inputs, devices, tails, phases).carry_out(lambda: None)
    for row in Run(store).summary().to_dict("records"):
        reason = "" if row["status"] == "ok" else f": {_kind(row['reason'])}"
        outcome.rows[f"{row['precision']} {row['status']}{reason}"] += 1
        if row["status"] == "ok" and row["split_index"] and row["verified"] is not True:
            outcome.broken.append(f"seed {seed}: split {row['split_index']} is ok and was not verified")


@cache
def _pictures() -> Pictures:
    return load_pictures("builtin", size=(SIDE, SIDE), train_count=48, held_out_count=2)


def _kind(reason: str) -> str:
    """A reason without what is this network's own."""
    reason = re.sub(r"\S*/\S+/head\.pte", "head.pte", reason)
    reason = re.sub(r"split \d+ \([^)]*\)", "split", reason)
    return re.sub(r"\d+", "#", re.sub(r"tests\.fuzz\.networks:seed_\d+", "it", reason))[:160]


def _begin(turn: Lock) -> None:
    """What a process does first: its networks take turns on this machine, for one harness alone may measure on it."""
    global _turn
    _turn = turn
    torch.set_num_threads(1)


def main() -> int:
    """Try many networks in some processes, print what came of them; 1 where something is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="the first network's number")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    total, began = Outcome(), time.monotonic()
    seeds = range(asked.seed, asked.seed + asked.count)
    # New processes now and then: what PyTorch caches for each network is not given back.
    spawn = get_context("spawn")
    with ProcessPoolExecutor(asked.processes, spawn, _begin, (spawn.Lock(),), max_tasks_per_child=100) as pool:
        for seed, outcome in zip(seeds, pool.map(try_network, seeds), strict=True):
            total += outcome
            if total.networks % 50 == 0:
                sys.stderr.write(f"-- {total.networks} networks, {time.monotonic() - began:.0f} s\n{total}\n--\n")
            for line in itertools.chain(outcome.broken, (f"seed {seed}: {reason}" for reason in outcome.refused)):
                sys.stderr.write(f"{line}\n")
            for reason in outcome.rows:
                if " failed" in reason:
                    sys.stderr.write(f"seed {seed}: {reason}\n")
    sys.stdout.write(f"{total}\n{time.monotonic() - began:.0f} s\n")
    return 1 if total.broken else 0


if __name__ == "__main__":
    sys.exit(main())
