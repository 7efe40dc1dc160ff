"""The controlled families: small networks in which one thing differs, and everything else that can be equal is equal.

All take 3 x 64 x 64 pictures through a stem (32 x 32 places) and two stages (16 x 16 and 8 x 8) to logits. Within a
family the activation's shape at each cut is equal, parameters and MACs of the heads are within 5 % (but in `depth`),
and members whose convolutions are the same get the same weights from one seed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from harness.networks.models import Model, PictureModel, calibrate_batch_norm

INPUT_SIZE = (64, 64)
# Logits: the most photographs that a network can be fitted to tell apart.
CLASSES = 32
STEM_WIDTH = 32
# Channels of the stages: a 3 x 3 convolution takes 2.4 million MACs in either.
WIDTHS = (32, 64)
DEPTHS = (2, 4, 8, 16, 32)
_MEAN, _STD = (0.5,) * 3, (0.25,) * 3


@dataclass(frozen=True)
class Structure:
    """How a network is built; the defaults are the network that the others are compared with.

    Attributes:
        body: how a stage's convolutions are put together: "plain", one after the other; "residual", the input added to
            what each pair makes of it (He et al., CVPR 2016); "dense", each sees the input and all before it, and a
            1 x 1 convolution sums up (Huang et al., CVPR 2017); "inception", a module of four branches for each pair
            (Szegedy et al., CVPR 2015).
        convolutions: 3 x 3 ones in the body of each stage; those of the stem and into a stage are not counted. Few, so
            that every attack finds something that can differ: `linear` finds nothing behind eight plain ones.
        pooling: what halves a map's sides between stages: the convolution's "stride", or a "max" in front of it.
        norm: whether batch norm follows each convolution, which has a bias otherwise.
        activation: what follows the norm.
    """

    body: Literal["plain", "residual", "dense", "inception"] = "plain"
    convolutions: tuple[int, int] = (2, 2)
    pooling: Literal["stride", "max"] = "stride"
    norm: bool = True
    activation: Literal["relu", "gelu"] = "relu"


@dataclass(frozen=True)
class Member:
    """A network of a family.

    Attributes:
        family, name: "skip", "residual".
        cuts: after which module paths the network is cut, as split points name them, shallow to deep. One tensor is
            live there, whatever the stage is made of.
    """

    family: str
    name: str
    structure: Structure
    cuts: tuple[str, ...] = ("stage1", "stage2")

    def build(self, seed: int) -> PictureModel:
        """The network in eval mode, with random weights from the seed alone (He et al., ICCV 2015).

        It takes N x 3 x 64 x 64 on [0, 1] to N x CLASSES logits. Its batch norm is not calibrated.
        """
        with torch.random.fork_rng(devices=[]):
            network = _assemble(self.structure)
            torch.manual_seed(
                seed
            )  # only now: layers have drawn weights of their own, more of them where there are biases
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        return PictureModel(network, _MEAN, _STD).eval()

    def untrained(self, seed: int, pictures: Tensor) -> Model:
        """The network with random weights, batch norm calibrated on pictures (N x 3 x 64 x 64 on [0, 1])."""
        network = self.build(seed)
        calibrate_batch_norm(network, pictures)
        return self.model(network, f"random, seed {seed}")

    def model(self, network: PictureModel, weights: str) -> Model:
        """What `build` gave, whatever has become of its weights since, ready to be split.

        Args:
            weights: where they come from, for people: "fitted, seed 0".
        """
        name = f"{self.family}/{self.name}"
        return Model(name, network, INPUT_SIZE, weights, trained=False)


def _family(name: str, structures: Mapping[str, Structure]) -> tuple[Member, ...]:
    return tuple(Member(name, member, structure) for member, structure in structures.items())


_REFERENCE = Structure()
_IN_DEPTH = {
    f"{body}_{depth}": replace(_REFERENCE, body=body, convolutions=(depth, 2))
    for body in ("plain", "residual")
    for depth in DEPTHS
}
# The first member of each family is the one that its others are compared with. `depth` varies the convolutions of the
# first stage, so that all of them lie before both cuts.
FAMILIES: Mapping[str, tuple[Member, ...]] = MappingProxyType(
    {
        name: _family(name, structures)
        for name, structures in {
            "skip": {
                "plain": _REFERENCE,
                "residual": replace(_REFERENCE, body="residual"),
                "dense": replace(_REFERENCE, body="dense"),
            },
            "branches": {"one": _REFERENCE, "inception": replace(_REFERENCE, body="inception")},
            "depth": _IN_DEPTH,
            "pooling": {"stride": _REFERENCE, "max": replace(_REFERENCE, pooling="max")},
            "norm": {"with": _REFERENCE, "without": replace(_REFERENCE, norm=False)},
            "activation": {"relu": _REFERENCE, "gelu": replace(_REFERENCE, activation="gelu")},
        }.items()
    }
)


class _Residual(nn.Module):
    def __init__(self, branch: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.branch, self.activation = branch, activation

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.activation(inputs + self.branch(inputs))
        return out


class _Dense(nn.Module):
    def __init__(self, layers: list[nn.Module], summing_up: nn.Module) -> None:
        super().__init__()
        self.layers, self.summing_up = nn.ModuleList(layers), summing_up

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.layers:
            inputs = torch.cat([inputs, layer(inputs)], 1)
        out: Tensor = self.summing_up(inputs)
        return out


class _Branches(nn.Module):
    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([branch(inputs) for branch in self.branches], 1)


def _assemble(structure: Structure) -> nn.Sequential:
    first, second = WIDTHS
    stages: list[tuple[str, nn.Module]] = [
        ("stem", _layer(structure, 3, STEM_WIDTH, stride=2)),
        ("stage1", nn.Sequential(*_narrowing(structure, STEM_WIDTH, first), _body(structure, 0))),
        ("stage2", nn.Sequential(*_narrowing(structure, first, second), _body(structure, 1))),
        ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("classifier", nn.Linear(second, CLASSES)),
    ]
    return nn.Sequential(OrderedDict(stages))


def _layer(
    structure: Structure, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, activated: bool = True
) -> nn.Sequential:
    """A convolution with what follows it; the map keeps its sides but for the stride."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not structure.norm)]
    if structure.norm:
        layers.append(nn.BatchNorm2d(outputs))
    if activated:
        layers.append(_activation(structure))
    return nn.Sequential(*layers)


def _activation(structure: Structure) -> nn.Module:
    return nn.ReLU() if structure.activation == "relu" else nn.GELU()


def _narrowing(structure: Structure, inputs: int, outputs: int) -> list[nn.Module]:
    """Into a stage: half the sides, at the same cost either way."""
    if structure.pooling == "max":
        return [nn.MaxPool2d(2), _layer(structure, inputs, outputs)]
    return [_layer(structure, inputs, outputs, stride=2)]


def _body(structure: Structure, stage: int) -> nn.Module:
    width, count = WIDTHS[stage], structure.convolutions[stage]
    if structure.body == "dense":
        return _dense(structure, width, count)
    pair = {"plain": _plain, "residual": _residual, "inception": _inception}[structure.body]
    return nn.Sequential(*(pair(structure, width) for _ in range(count // 2)))


def _plain(structure: Structure, width: int) -> nn.Module:
    return nn.Sequential(_layer(structure, width, width), _layer(structure, width, width))


def _residual(structure: Structure, width: int) -> nn.Module:
    branch = nn.Sequential(_layer(structure, width, width), _layer(structure, width, width, activated=False))
    return _Residual(branch, _activation(structure))


def _inception(structure: Structure, width: int) -> nn.Module:
    """A quarter of the channels from each branch: 1 x 1; 3 x 3; 5 x 5; a maximum. As many weights as a pair has."""
    part = width // 4
    reduced = _closest(2 * 9 * width**2, lambda r: 2 * width * part + 2 * width * r + (9 + 25) * r * part)
    return _Branches(
        _layer(structure, width, part, 1),
        nn.Sequential(_layer(structure, width, reduced, 1), _layer(structure, reduced, part, 3)),
        nn.Sequential(_layer(structure, width, reduced, 1), _layer(structure, reduced, part, 5)),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), _layer(structure, width, part, 1)),
    )


def _dense(structure: Structure, width: int, count: int) -> nn.Module:
    """Each convolution adds as many channels as make the whole cost what `count` convolutions of full width do."""

    def weights(growth: int) -> int:
        seen = [width + index * growth for index in range(count + 1)]
        return sum(9 * inputs * growth for inputs in seen[:-1]) + seen[-1] * width

    growth = _closest(count * 9 * width**2, weights)
    layers: list[nn.Module] = [_layer(structure, width + i * growth, growth) for i in range(count)]
    return _Dense(layers, _layer(structure, width + count * growth, width, 1))


def _closest(wanted: int, cost: Callable[[int], int]) -> int:
    """The number of channels whose cost comes closest to what is wanted."""
    return min(range(1, 256), key=lambda channels: abs(cost(channels) - wanted))
