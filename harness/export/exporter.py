"""Heads -> exported_models/<model>/<split>/<hash>/: lowered in parallel, cached by content."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

import psutil
import torch
from torch import Tensor

from device_runner.files import digest, file_sha256, partial_beside, remove_left_over, safe_name
from device_runner.frames import Frame, encode_payload
from device_runner.raised import class_and_message
from harness.codecs import Uint8
from harness.errors import ExportError
from harness.export.lowering import Lowered, LoweringRequest, serve, warm_up
from harness.export.manifest import (
    MANIFEST,
    MANIFEST_FORMAT,
    PROGRAM,
    REFERENCE,
    Exported,
    Manifest,
    Output,
    read_exported,
)
from harness.export.program import Program
from harness.networks.cutting import capture
from harness.networks.splits import Cut, CuttableGraph, Network, SplitPoint

Precision = Literal["fp32", "int8"]
# Seen: fp32 heads match PyTorch to 1.3e-5 of their largest value; a wrong kernel is off by orders of magnitude.
RELATIVE_TOLERANCE = 1e-4
# Two int8 computations that round differently each lie as far from fp32 as int8 itself does (cosine c); where their
# errors are independent, their cosine is c squared. Deep random networks amplify rounding, and stay below 0.99.
INT8_MIN_COSINE = 0.99
_WORKER_BYTES = 900 * 2**20  # a lowering process: the libraries' own memory
_WORKER_COPIES = 6  # and copies of the weights that its passes make


@dataclass(frozen=True)
class ExportSettings:
    """What an export depends on beside the network.

    Attributes:
        precision: "fp32" or "int8".
        reference: the reference picture, 3 x H x W uint8, which the head is verified on.
        calibration_sha256: of the pictures that int8 is calibrated on; empty for fp32.
        root: where exported heads are kept.
    """

    precision: Precision
    reference: Tensor
    calibration_sha256: str
    root: Path


def export(
    network: Network, programs: Sequence[Program], settings: ExportSettings, graph: Callable[[], CuttableGraph]
) -> Iterator[tuple[Program, Exported | ExportError]]:
    """Every program, from the cache or lowered now; in the order in which they are ready.

    Args:
        graph: gives the graph to cut (the network itself, or its int8 twin); called only if something must be lowered.

    Yields:
        A program and its files, or the reason why it has none. A failure ends that program, not the others.
    """
    missing: list[_Request] = []
    for program in programs:
        if program.is_empty:
            yield program, _picture_itself(network, program.points[0], settings)
            continue
        folder = program_folder(network, program, settings)
        if known := read_exported(folder):
            yield program, known
        else:
            missing.append(_Request(program, folder))
    if missing:
        yield from _Exporter(network, graph(), settings).lower_all(missing)


def program_folder(network: Network, program: Program, settings: ExportSettings) -> Path:
    """Where a program is kept: the last part is a hash over everything that it depends on."""
    point = program.points[0]
    name = "survey" if program.profiled else safe_name(f"{point.index:03d}-{point.name}")
    if program.start:
        name = safe_name(f"{program.start.index:03d}-to-{point.index:03d}-{point.name}")
    return settings.root / safe_name(network.model.name) / name / program_hash(network, program, settings)


def program_hash(network: Network, program: Program, settings: ExportSettings) -> str:
    """Over everything that a program depends on."""
    digests = [network.digests[point.node] for point in program.points]
    start = [network.digests[program.start.node]] if program.start else []
    return digest(
        MANIFEST_FORMAT, network.weights_sha256, digests, program.profiled, network.model.input_size,
        settings.precision, settings.calibration_sha256, library_versions(), settings.reference.numpy().tobytes(),
        *start,
    )[:16]  # fmt: skip


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that make a program."""
    return {name: importlib.metadata.version(name) for name in ("torch", "torchao", "executorch")}


@dataclass(frozen=True)
class _Request:
    program: Program
    folder: Path


@dataclass(frozen=True)
class _Output:
    """One output of a program, and what is expected of it."""

    point: SplitPoint
    cut: Cut
    expected: Tensor
    min_cosine: float | None


@dataclass(frozen=True)
class _Started:
    request: _Request
    outputs: tuple[_Output, ...]
    scratch: Path


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    work: _Started | None = None


class _Exporter:
    def __init__(self, network: Network, graph: CuttableGraph, settings: ExportSettings) -> None:
        self.network, self.graph, self.settings = network, graph, settings
        self.picture = settings.reference.float().div(255).unsqueeze(0)

    def lower_all(self, requests: Sequence[_Request]) -> Iterator[tuple[Program, Exported | ExportError]]:
        """Lower in parallel processes within the machine's memory, the longest first."""
        try:
            self.graph.graph(1)
        except ExportError as exc:  # the int8 twin cannot be made: none of its heads can
            yield from ((request.program, exc) for request in requests)
            return
        warm_up()
        waiting = sorted(requests, key=lambda request: _length(request.program))
        workers: dict[Connection, _Worker] = {}
        idle = [self._add_worker(workers) for _ in range(min(self._places(), len(waiting)))]
        try:
            while waiting or len(idle) < len(workers):
                while waiting and idle:
                    request = waiting.pop()
                    started = self._start(request)
                    if isinstance(started, ExportError):
                        yield request.program, started
                        continue
                    worker = idle.pop()
                    worker.work = started
                    with suppress(ConnectionError):  # it was killed while it waited: its end is read below
                        nodes = tuple(output.cut.node for output in started.outputs)
                        start = request.program.start.node if request.program.start else None
                        worker.connection.send(LoweringRequest(nodes, started.scratch / PROGRAM, start))
                busy = [w.connection for w in workers.values() if w.work]
                for connection in wait(busy) if busy else ():  # waiting for nothing would never end
                    worker = workers[connection]  # type: ignore[index]
                    lowered, work = _receive(worker), worker.work
                    assert work is not None  # noqa: S101 - it was waited for
                    worker.work = None
                    if not worker.process.is_alive():
                        del workers[worker.connection]
                        worker.connection.close()
                        worker = self._add_worker(workers)
                    idle.append(worker)
                    yield work.request.program, self._finish(work, lowered)
        finally:
            for worker in workers.values():
                worker.process.kill()
                worker.process.join()
                if worker.work:
                    shutil.rmtree(worker.work.scratch, ignore_errors=True)

    def _add_worker(self, workers: dict[Connection, _Worker]) -> _Worker:
        # Forked, not spawned: the network and the libraries are there at once and shared.
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        arguments = (self.graph.graph(1), self.picture, theirs, [ours, *workers])
        process = context.Process(target=serve, args=arguments, daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python >= 3.12 warns of threads; the child uses none
            process.start()
        theirs.close()
        workers[ours] = worker = _Worker(process, ours)
        return worker

    def _places(self) -> int:
        weights = sum(p.numel() * p.element_size() for p in self.network.model.module.parameters())
        memory = psutil.virtual_memory().available // (_WORKER_BYTES + _WORKER_COPIES * weights)
        return max(1, min(os.cpu_count() or 1, int(memory)))

    def _start(self, request: _Request) -> _Started | ExportError:
        try:
            points = request.program.points
            cuts = [self.graph.cut(point) for point in points]
            values = self._values(self.graph, [cut.node for cut in cuts])
            exact = self._values(self.network, [point.node for point in points]) if self._is_int8 else values
            for point, value in zip(points, exact, strict=True):
                _require_finite(point, value)
            outputs = tuple(
                _Output(point, cut, value, _min_cosine(cut.codec.read(value), wanted) if self._is_int8 else None)
                for point, cut, value, wanted in zip(points, cuts, values, exact, strict=True)
            )
            return _Started(request, outputs, _scratch_beside(request.folder))
        except ExportError as exc:
            return exc
        except Exception as exc:  # PyTorch ran the user's network
            return ExportError(
                f"{request.program} cannot be computed: {class_and_message(exc)}", remedy="cut before it"
            )

    @property
    def _is_int8(self) -> bool:
        return self.settings.precision == "int8"

    def _values(self, graph: CuttableGraph, nodes: Sequence[str]) -> list[Tensor]:
        places = {node: place for place, node in enumerate(dict.fromkeys(nodes))}  # int8 splits may share a node
        values = capture(graph.graph(1), self.picture, places)
        return [values[places[node]] for node in nodes]

    def _finish(self, work: _Started, lowered: Lowered) -> Exported | ExportError:
        try:
            if lowered.failure is not None:
                return ExportError(f"{work.request.program} cannot be lowered: {lowered.failure}")
            made = self._write(work, lowered)
            _move_into_place(work.scratch, work.request.folder)
        except OSError as exc:
            return ExportError(f"{work.request.program} cannot be stored: {exc}", remedy="free disk space")
        finally:
            shutil.rmtree(work.scratch, ignore_errors=True)
        return made

    def _write(self, work: _Started, lowered: Lowered) -> Exported:
        """Put manifest and reference beside the program; what is returned will lie in the request's folder."""
        path, program = work.scratch / PROGRAM, work.request.program
        manifest = _manifest(self.network, self.settings, self._outputs(work, lowered)).model_copy(
            update={
                "profiled": program.profiled,
                "pte_sha256": file_sha256(path),
                "pte_bytes": path.stat().st_size,
                "start": program.start.index if program.start else None,
                "delegated_share": None if program.start else _delegated_share(program.points[-1], lowered),
            }
        )
        (work.scratch / MANIFEST).write_text(manifest.model_dump_json(indent=1))
        if program.start is None:
            tensors = {f"activation.{i}": output.expected.numpy() for i, output in enumerate(work.outputs)}
            reference = Frame({}, {"picture": self.settings.reference.numpy(), **tensors})
            (work.scratch / REFERENCE).write_bytes(encode_payload(reference))
        return Exported(folder=work.request.folder, manifest=manifest)

    def _outputs(self, work: _Started, lowered: Lowered) -> Iterator[Output]:
        for output, operators in zip(work.outputs, lowered.operators, strict=True):
            tolerance = RELATIVE_TOLERANCE * max(1.0, float(output.expected.abs().max())) if not self._is_int8 else None
            yield Output(
                split_index=output.point.index,
                split=output.point.name,
                codec=output.cut.codec,
                activation_shape=tuple(output.expected.shape),
                tolerance_abs=tolerance,
                tolerance_cosine=output.min_cosine,
                operators=operators if work.request.program.profiled else {},
            )


def _length(program: Program) -> tuple[int, int]:
    """Orders programs by how long lowering takes."""
    return len(program.points), program.points[-1].index - (program.start.index if program.start else 0)


def _require_finite(point: SplitPoint, value: Tensor) -> None:
    if not value.isfinite().all():
        raise ExportError(
            f"split {point.index} ({point.name}) cannot be verified: PyTorch's own activation holds NaN or infinity",
            remedy="look at the weights, or cut before it",
        )


def _min_cosine(own: Tensor, exact: Tensor) -> float:
    cosine = torch.cosine_similarity(exact.flatten(), own.flatten(), dim=0)
    return min(INT8_MIN_COSINE, max(0.0, float(cosine)) ** 2)


def _receive(worker: _Worker) -> Lowered:
    try:
        lowered: Lowered = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        return Lowered(failure=f"the lowering process ended with status {worker.process.exitcode} (out of memory?)")
    return lowered


def _delegated_share(point: SplitPoint, lowered: Lowered) -> float | None:
    return 1 - lowered.outside_macs / point.head_macs if point.head_macs else None


def _picture_itself(network: Network, point: SplitPoint, settings: ExportSettings) -> Exported:
    shape = (1, *settings.reference.shape)
    output = Output(split_index=point.index, split=point.name, codec=Uint8(), activation_shape=shape)
    return Exported(folder=None, manifest=_manifest(network, settings, [output]))


def _manifest(network: Network, settings: ExportSettings, outputs: Iterable[Output]) -> Manifest:
    return Manifest(
        model=network.model.name,
        weights_sha256=network.weights_sha256,
        input_size=network.model.input_size,
        precision=settings.precision,
        outputs=tuple(outputs),
        versions=library_versions(),
    )


def _scratch_beside(folder: Path) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_left_over(folder.parent)
        scratch = partial_beside(folder)
        scratch.mkdir()
        return scratch
    except OSError as exc:
        raise ExportError(
            f"cannot write to {folder.parent}: {exc.strerror}", remedy="free disk space or change folder"
        ) from exc


def _move_into_place(scratch: Path, folder: Path) -> None:
    """A finished head appears whole or not at all; another process may have made the same one meanwhile."""
    try:
        scratch.rename(folder)
    except OSError:
        if not (folder / PROGRAM).is_file():
            raise
