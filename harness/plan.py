"""model x split x precision x device x threads -> cells, each with a content hash; and the order of measuring."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import ExportError
from harness.results.schema import Cell, DeviceEntry, RunConfig
from harness.splits import Cut, Network, SplitPoint

# Rough rates of a two-core workstation, for --dry-run alone; what was measured is in the table.
_LOWER_S_PER_HEAD, _LOWER_S_PER_NODE = 0.5, 0.03
_MACS_PER_S = 1e10
_ATTACK_S = 2.5
_ROUND_TRIP_S = 0.004


@dataclass(frozen=True)
class Settings:
    """What decides a cell's figures beside network, split, precision and device."""

    config: RunConfig
    pictures_sha256: str


def plan_cell(
    network: Network,
    point: SplitPoint,
    precision: str,
    device: DeviceEntry,
    threads: int,
    cut: Cut | ExportError,
    program: str,
    settings: Settings,
) -> Cell:
    """One cell; a split that this precision cannot be cut at keeps its place, with the reason.

    Args:
        program: hash over all that the head's program depends on (harness.export.head_hash).
    """
    config, model = settings.config, network.model
    is_int8 = isinstance(cut, Cut) and cut.scale is not None
    facts: dict[str, object] = {
        "model": model.name,
        "weights": model.weights,
        "weights_sha256": network.weights_sha256,
        "trained": model.trained,
        "input_size": model.input_size,
        "split_index": point.index,
        "split": point.name,
        "op": point.op,
        "activation_shape": point.activation_shape,
        "device": device.label,
        "backend": "xnnpack" if point.index else "none",
        "precision": precision,
        "codec": "uint8" if point.index == 0 else "int8" if is_int8 else "fp32",
        "threads": threads,
        "affinity": config.affinity,
        "link": device.link,
        "head_params": point.head_params,
        "head_macs": point.head_macs,
        "activation_bytes": point.activation_bytes // (4 if is_int8 else 1),
        "unavailable": str(cut) if isinstance(cut, ExportError) else None,
    }
    decisive = {
        **facts,
        "program": program,
        "loops": (config.warmup, config.iterations, config.rounds, config.seed),
        "pictures": settings.pictures_sha256,
    }
    digest = hashlib.sha256(repr(sorted(decisive.items())).encode()).hexdigest()
    return Cell.model_validate({"hash": digest[:16], **facts})


def round_order(hashes: Iterable[str], round_: int, seed: int) -> list[str]:
    """The order of one round, shuffled, so that heat and drift favour none; the same seed gives the same order."""
    order = sorted(hashes)
    random.Random(f"{seed}/{round_}").shuffle(order)  # noqa: S311 - an order, not a secret
    return order


@dataclass(frozen=True)
class Estimate:
    """What a run would roughly take: seconds by phase, and bytes on disk."""

    export_s: float
    measure_s: float
    attack_s: float
    disk_bytes: int


def estimate(
    points: Sequence[SplitPoint],
    measured: Sequence[SplitPoint],
    config: RunConfig,
    *,
    surveys: int,
    nodes: int,
    pictures: int,
    cores: int,
) -> Estimate:
    """A rough estimate for one network, one precision and one device with nothing cached.

    Args:
        points: the splits that are shipped and attacked.
        measured: those whose heads are exported and timed; the few that scale a survey's estimates are left out.
        surveys: survey programs.
        nodes: of the network's graph.
        pictures: held-out pictures.
        cores: that heads are lowered on.
    """
    total = max((p.head_macs + p.tail_macs for p in points), default=0)
    passes = config.warmup + config.iterations + pictures
    heads = [p for p in points if p.index]
    parts = [p.head_macs / max(total, 1) for p in measured if p.index] + [1.0] * surveys
    exported = sum(_LOWER_S_PER_HEAD + _LOWER_S_PER_NODE * nodes * part for part in parts)
    shipped_s = pictures * sum(p.tail_macs / _MACS_PER_S * 2 + _ROUND_TRIP_S for p in points)
    timed = sum(0.1 + passes * p.head_macs / _MACS_PER_S for p in measured)
    return Estimate(
        export_s=exported / cores,
        measure_s=config.rounds * (timed + (shipped_s if measured else 0.0)) + surveys * shipped_s,
        attack_s=len(heads) * _ATTACK_S * len(config.attacks),
        disk_bytes=sum(p.head_params * 4 for p in measured) + sum(p.activation_bytes * pictures for p in points),
    )
