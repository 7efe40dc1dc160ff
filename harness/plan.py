"""model x split x precision x device x threads -> cells, each with a content hash; and the order of measuring."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import ExportError
from harness.manifest import Head
from harness.models import Model
from harness.results.schema import Cell, DeviceEntry, RunConfig
from harness.splits import SplitPoint

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
    model: Model,
    point: SplitPoint,
    precision: str,
    device: DeviceEntry,
    threads: int,
    head: Head | ExportError,
    settings: Settings,
) -> Cell:
    """One cell; a head that could not be exported keeps its place, with the reason."""
    config = settings.config
    manifest = head.manifest if isinstance(head, Head) else None
    facts: dict[str, object] = {
        "model": model.name,
        "weights": model.weights,
        "weights_sha256": model.weights_sha256,
        "trained": model.trained,
        "input_size": model.input_size,
        "split_index": point.index,
        "split": point.name,
        "op": point.op,
        "activation_shape": point.activation_shape,
        "device": device.label,
        "backend": "xnnpack" if point.index else "none",
        "precision": precision,
        "codec": manifest.codec if manifest else "fp32",
        "threads": threads,
        "affinity": config.affinity,
        "link": device.link,
        "head_params": point.head_params,
        "head_macs": point.head_macs,
        "delegated_share": manifest.delegated_share if manifest else None,
        "pte_bytes": manifest.pte_bytes if manifest else None,
        "activation_bytes": manifest.activation_bytes if manifest else point.activation_bytes,
        "unavailable": None if manifest else str(head),
    }
    decisive = {
        **facts,
        "program": manifest.pte_sha256 if manifest else None,
        "loops": (config.warmup, config.iterations, config.rounds, config.seed),
        "pictures": settings.pictures_sha256,
    }
    digest = hashlib.sha256(repr(sorted(decisive.items())).encode()).hexdigest()
    return Cell.model_validate({"hash": digest[:16], **facts})


def round_order(cells: Sequence[Cell], round_: int, seed: int) -> list[Cell]:
    """The cells of one round, shuffled, so that heat and drift favour none; the same seed gives the same order."""
    order = sorted(cells, key=lambda cell: cell.hash)
    random.Random(f"{seed}/{round_}").shuffle(order)  # noqa: S311 - an order, not a secret
    return order


@dataclass(frozen=True)
class Estimate:
    """What a run would roughly take: seconds by phase, and bytes on disk."""

    export_s: float
    measure_s: float
    attack_s: float
    disk_bytes: int


def estimate(points: Sequence[SplitPoint], config: RunConfig, *, nodes: int, pictures: int, cores: int) -> Estimate:
    """A rough estimate for one network, one precision and one device with nothing cached.

    Args:
        nodes: of the network's graph.
        pictures: held-out pictures.
        cores: that heads are lowered on.
    """
    total = max((p.head_macs + p.tail_macs for p in points), default=0)
    passes = config.warmup + config.iterations + pictures
    heads = [p for p in points if p.index]
    return Estimate(
        export_s=sum(_LOWER_S_PER_HEAD + _LOWER_S_PER_NODE * nodes * p.head_macs / max(total, 1) for p in heads)
        / cores,
        measure_s=config.rounds
        * sum(
            0.1 + passes * p.head_macs / _MACS_PER_S + pictures * (p.tail_macs / _MACS_PER_S * 2 + _ROUND_TRIP_S)
            for p in points
        ),
        attack_s=len(heads) * _ATTACK_S * len(config.attacks),
        disk_bytes=sum(p.head_params * 4 + p.activation_bytes * pictures for p in points),
    )
