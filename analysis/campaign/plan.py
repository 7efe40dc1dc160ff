"""What a run will measure: model x precision x split x device x threads -> cells; and what that would take."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.campaign.exports import export_settings
from analysis.campaign.inputs import Inputs
from analysis.campaign.leakage import write_pictures
from analysis.campaign.selection import heads, surveys
from analysis.campaign.structure import structure_of
from analysis.campaign.subject import Variant
from analysis.judging import learned_from
from device_runner.errors import UsageError
from device_runner.files import digest
from harness.codecs import Fp32
from harness.errors import ExportError, ResultsError
from harness.export.exporter import program_hash
from harness.export.program import Program
from harness.export.tail_parts import tail_parts
from harness.measure.ready import ReadyDevice
from harness.networks.splits import Cut, SplitPoint
from harness.results.schema import AUTO, Cell, DeviceEntry, RunConfig, RunFile
from harness.results.store import RunStore
from harness.workstation.compute import Compute
from harness.workstation.environment import describe_environment

# Rough rates of a two-core workstation, for --dry-run alone; what was measured is in the table.
_LOWER_S_PER_HEAD, _LOWER_S_PER_NODE = 0.5, 0.03
_MACS_PER_S = 1e10
_ATTACK_S = 2.5
_ROUND_TRIP_S = 0.004
_AUTO_ITERATIONS = 20  # on a quiet machine


def plan(config: RunConfig, inputs: Inputs, devices: Sequence[DeviceEntry]) -> tuple[Cell, ...]:
    """Every cell, in the order model, precision, split, device, threads."""
    return tuple(
        cell
        for variant in inputs.variants
        for point in variant.subject.points
        for cell in _cells(config, variant, point, devices, inputs.exported)
    )


def _cells(
    config: RunConfig, variant: Variant, point: SplitPoint, devices: Sequence[DeviceEntry], exported: Path
) -> Iterator[Cell]:
    """A split's cells; one that this precision cannot be cut at keeps its place, with the reason."""
    network, cut = variant.subject.network, variant.cut(point)
    program = program_hash(network, Program.head(point), export_settings(variant, exported))
    loops = (config.warmup, config.iterations, config.rounds, config.seed, config.tail, config.tail_threads)
    codec = cut.codec if isinstance(cut, Cut) else Fp32()
    for device in devices:
        for threads in config.threads:
            cell = Cell(
                hash="",
                model=network.model.name,
                weights=network.model.weights,
                weights_sha256=network.weights_sha256,
                trained=network.model.trained,
                input_size=network.model.input_size,
                split_index=point.index,
                split=point.name,
                op=point.op,
                activation_shape=point.activation_shape,
                device=device.label,
                backend="xnnpack" if point.index else "none",
                precision=variant.precision,
                codec=codec.name,
                threads=threads,
                affinity=config.affinity,
                link=device.link,
                head_params=point.head_params,
                head_macs=point.head_macs,
                activation_bytes=codec.activation_bytes(point.activation_shape),
                unavailable=str(cut) if isinstance(cut, ExportError) else None,
            )
            yield hashed(cell, program, loops, variant.subject.pictures.sha256)


def hashed(cell: Cell, *decisive: object) -> Cell:
    """The cell with its hash: over all that it says, and what else decides its figures."""
    return cell.model_copy(update={"hash": digest(sorted(cell.model_dump().items()), *decisive)[:16]})


def lay_run(folder: Path, config: RunConfig, inputs: Inputs, devices: Sequence[ReadyDevice]) -> RunStore:
    """Plan everything and lay the run's folder."""
    entries = tuple(ready.entry for ready in devices)
    subject, cells = inputs.subjects[0], plan(config, inputs, entries)
    held_out = subject.pictures.held_out
    if any(s.pictures.held_out.names != held_out.names for s in inputs.subjects):
        raise UsageError("these networks' pictures differ in more than size", remedy="run them one by one")
    now = datetime.datetime.now(datetime.UTC)
    file = RunFile(
        run_id=folder.resolve().name,
        created=now.isoformat(timespec="seconds"),
        config=config,
        environment=describe_environment(devices) | {"compute": str(Compute.of(config.compute))},
        pictures="; ".join(dict.fromkeys(s.pictures.description for s in inputs.subjects)),
        pictures_sha256=subject.pictures.sha256,
        held_out=held_out.names,
        held_out_sources=held_out.sources,
        notices=inputs.notices,
        devices=entries,
        cells=cells,
        structures={s.model.name: structure_of(s.network.graph(1)) for s in inputs.subjects},
    )
    store = RunStore.create(folder, file)
    write_pictures(folder / "pictures" / "held_out", held_out.as_float(), held_out.names)
    if subject.pictures.left_out:
        lines = "".join(f"{one}\n" for one in sorted(subject.pictures.left_out, key=str))
        (folder / "pictures" / "left_out.txt").write_bytes(lines.encode())
    return store


def check_unchanged(store: RunStore, config: RunConfig, inputs: Inputs) -> None:
    """A run goes on only with the networks, pictures and libraries that it began with.

    Raises:
        ResultsError: something that decides the figures is different now.
        SplitbenchError: a network that it began with cannot be measured any more.
    """
    for refusal in inputs.refusals.values():
        raise refusal
    if {cell.hash for cell in plan(config, inputs, store.file.devices)} != {cell.hash for cell in store.file.cells}:
        raise ResultsError(
            f"{store.folder.name} cannot go on: weights, pictures or programs are not those that it began with",
            remedy="start a new run; exported heads are kept",
        )


@dataclass(frozen=True)
class Cost:
    """What a network in one precision would roughly take with nothing cached: seconds by phase, and bytes on disk."""

    variant: Variant
    export_s: float
    measure_s: float
    attack_s: float
    disk_bytes: int


def cost(config: RunConfig, variant: Variant) -> Cost:
    """Roughly, for one network, one precision and one device; the few anchors of a survey are left out."""
    subject, network = variant.subject, variant.subject.network
    points, pictures = subject.points, len(subject.pictures.held_out)
    measured = [head.points[0] for head in heads(config, variant)] if config.survey != "only" else []
    programs = len(surveys(config, variant))
    nodes = len(network.graph(1).graph.nodes)
    total = max((p.head_macs + p.tail_macs for p in points), default=0)
    parts = [p.head_macs / max(total, 1) for p in measured if p.index] + [1.0] * programs
    if config.tail in (AUTO, "executorch") and variant.precision == config.precisions[0]:  # one tail for all precisions
        parts += [_macs(part) / max(total, 1) for part in {p for point in points for p in tail_parts(network, point)}]
    exported = sum(_LOWER_S_PER_HEAD + _LOWER_S_PER_NODE * nodes * part for part in parts)
    shipped_s = pictures * sum(p.tail_macs / _MACS_PER_S * 2 + _ROUND_TRIP_S for p in points)
    timed = sum(_round_s(config, pictures, p.head_macs / _MACS_PER_S) for p in measured)
    return Cost(
        variant=variant,
        export_s=exported / (os.cpu_count() or 1),
        measure_s=config.rounds * (timed + (shipped_s if measured else 0.0)) + programs * shipped_s,
        attack_s=config.folds * sum(1 for p in points if p.index) * _ATTACK_S * len(config.attacks)
        + learned_from(subject.pictures) * total / _MACS_PER_S
        + (config.attack_total_s or 0.0) / (len(config.models) * len(config.precisions)),
        disk_bytes=sum(p.head_params * 4 for p in measured) + sum(p.activation_bytes * pictures for p in points),
    )


def _round_s(config: RunConfig, pictures: int, head_s: float) -> float:
    """What a round of one head takes on the device."""
    iterations = _AUTO_ITERATIONS if config.iterations == "auto" else config.iterations
    return 0.1 + (config.warmup + iterations + pictures) * head_s


def _macs(program: Program) -> int:
    """Multiply-accumulates of a program of one output."""
    return program.points[-1].head_macs - (program.start.head_macs if program.start else 0)
