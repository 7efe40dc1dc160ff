"""Heads -> exported_models/<model>/<split>/<hash>/: lowered in parallel, cached by content."""

from __future__ import annotations

import hashlib
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

import numpy as np
import psutil
import torch
from torch import Tensor

from device_runner.files import file_sha256, partial_beside, remove_left_over, safe_name
from device_runner.frames import Frame, encode_payload
from harness.errors import ExportError, first_line
from harness.lowering import Lowered, LoweringJob, serve, warm_up
from harness.manifest import (
    MANIFEST_FORMAT,
    PROGRAM,
    REFERENCE,
    Head,
    Manifest,
    Survey,
    SurveyManifest,
    read_head,
    read_survey,
)
from harness.splits import Cut, CuttableGraph, Network, SplitPoint, capture, dequantize

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


# One split: its head. Several: one survey program with the activation of each among its outputs.
Wanted = SplitPoint | tuple[SplitPoint, ...]
Made = Head | Survey | ExportError


def export_heads(
    network: Network, points: Sequence[SplitPoint], settings: ExportSettings, graph: Callable[[], CuttableGraph]
) -> Iterator[tuple[SplitPoint, Head | ExportError]]:
    """Every point's head, from the cache or lowered now; in the order in which they are ready.

    Args:
        graph: gives the graph to cut (the network itself, or its int8 twin); called only if a head must be lowered.

    Yields:
        A point and its head, or the reason why it has none. A failure ends that head, not the others.
    """
    for point, made in export(network, points, settings, graph):
        assert isinstance(point, SplitPoint) and not isinstance(made, Survey)  # noqa: S101, PT018 - as was asked for
        yield point, made


def export(
    network: Network, wanted: Sequence[Wanted], settings: ExportSettings, graph: Callable[[], CuttableGraph]
) -> Iterator[tuple[Wanted, Made]]:
    """Like `export_heads`, of heads and survey programs side by side."""
    missing: list[_Job] = []
    for one in wanted:
        if isinstance(one, SplitPoint) and one.index == 0:
            yield one, Head(folder=None, manifest=_manifest(network, one, settings, Cut(one.node)))
            continue
        folder = (
            survey_folder(network, one, settings) if isinstance(one, tuple) else head_folder(network, one, settings)
        )
        found = read_survey(folder) if isinstance(one, tuple) else read_head(folder)
        if found:
            yield one, found
        else:
            missing.append(_Job(one, folder))
    if missing:
        yield from _Exporter(network, graph(), settings).lower_all(missing)


def head_folder(network: Network, point: SplitPoint, settings: ExportSettings) -> Path:
    """Where a head is kept: the last part is a hash over everything that its program depends on."""
    name = safe_name(f"{point.index:03d}-{point.name}")
    return settings.root / safe_name(network.model.name) / name / head_hash(network, point, settings)


def survey_folder(network: Network, points: Sequence[SplitPoint], settings: ExportSettings) -> Path:
    """Where a survey program is kept, likewise."""
    digest = hashlib.sha256("".join(head_hash(network, point, settings) for point in points).encode())
    return settings.root / safe_name(network.model.name) / "survey" / digest.hexdigest()[:16]


def _folder(network: Network, wanted: Wanted, settings: ExportSettings) -> Path:
    if isinstance(wanted, tuple):
        return survey_folder(network, wanted, settings)
    return head_folder(network, wanted, settings)


def head_hash(network: Network, point: SplitPoint, settings: ExportSettings) -> str:
    """Over everything that a head's program depends on."""
    digest = hashlib.sha256()
    parts: list[object] = [
        MANIFEST_FORMAT, network.weights_sha256, network.digests[point.node], network.model.input_size,
        settings.precision, settings.calibration_sha256, library_versions(), settings.reference.numpy().tobytes(),
    ]  # fmt: skip
    for part in parts:
        digest.update(repr(part).encode())
    return digest.hexdigest()[:16]


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that make a program."""
    return {name: importlib.metadata.version(name) for name in ("torch", "torchao", "executorch")}


@dataclass(frozen=True)
class _Job:
    wanted: Wanted
    folder: Path

    @property
    def points(self) -> tuple[SplitPoint, ...]:
        """The split of each of the program's outputs."""
        return self.wanted if isinstance(self.wanted, tuple) else (self.wanted,)

    @property
    def what(self) -> str:
        """What messages call it."""
        last = self.points[-1]
        place = f"split {last.index} ({last.name})"
        return f"the survey up to {place}" if isinstance(self.wanted, tuple) else place


@dataclass(frozen=True)
class _Output:
    """One output of a program, and what is expected of it."""

    point: SplitPoint
    cut: Cut
    expected: Tensor
    min_cosine: float | None


@dataclass(frozen=True)
class _Started:
    job: _Job
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

    def lower_all(self, jobs: Sequence[_Job]) -> Iterator[tuple[Wanted, Made]]:
        """Lower in parallel processes within the machine's memory, the longest first."""
        try:
            self.graph.graph(1)
        except ExportError as exc:  # the int8 twin cannot be made: none of its heads can
            yield from ((job.wanted, exc) for job in jobs)
            return
        warm_up()
        waiting = sorted(jobs, key=lambda job: (len(job.points), job.points[-1].index))
        workers: dict[Connection, _Worker] = {}
        for _ in range(min(self._places(), len(waiting))):
            worker = self._worker(workers)
            workers[worker.connection] = worker
        idle = list(workers.values())
        try:
            while waiting or len(idle) < len(workers):
                while waiting and idle:
                    job = waiting.pop()
                    started = self._start(job)
                    if isinstance(started, ExportError):
                        yield job.wanted, started
                        continue
                    worker = idle.pop()
                    worker.work = started
                    with suppress(ConnectionError):  # it was killed while it waited: its end is read below
                        nodes = tuple(output.cut.node for output in started.outputs)
                        worker.connection.send(LoweringJob(nodes, started.scratch / PROGRAM))
                busy = [w.connection for w in workers.values() if w.work]
                for connection in wait(busy) if busy else ():  # waiting for nothing would never end
                    worker = workers[connection]  # type: ignore[index]
                    lowered, work = _receive(worker), worker.work
                    assert work is not None  # noqa: S101 - it was waited for
                    worker.work = None
                    if not worker.process.is_alive():
                        del workers[worker.connection]
                        worker.connection.close()
                        worker = self._worker(workers)
                        workers[worker.connection] = worker
                    idle.append(worker)
                    yield work.job.wanted, self._finish(work, lowered)
        finally:
            for worker in workers.values():
                worker.process.kill()
                worker.process.join()
                if worker.work:
                    shutil.rmtree(worker.work.scratch, ignore_errors=True)

    def _worker(self, siblings: Iterable[Connection]) -> _Worker:
        # Forked, not spawned: the network and the libraries are there at once and shared.
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        arguments = (self.graph.graph(1), self.picture, theirs, [ours, *siblings])
        process = context.Process(target=serve, args=arguments, daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python >= 3.12 warns of threads; the child uses none
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _places(self) -> int:
        weights = sum(p.numel() * p.element_size() for p in self.network.model.module.parameters())
        memory = psutil.virtual_memory().available // (_WORKER_BYTES + _WORKER_COPIES * weights)
        return max(1, min(os.cpu_count() or 1, int(memory)))

    def _start(self, job: _Job) -> _Started | ExportError:
        try:
            cuts = [self.graph.cut(point) for point in job.points]
            values = self._values(self.graph, [cut.node for cut in cuts])
            exact = self._values(self.network, [point.node for point in job.points]) if self._is_int8 else values
            for point, value in zip(job.points, exact, strict=True):
                _require_finite(point, value)
            outputs = tuple(
                _Output(point, cut, value, _min_cosine(dequantize(value, cut), wanted) if self._is_int8 else None)
                for point, cut, value, wanted in zip(job.points, cuts, values, exact, strict=True)
            )
            return _Started(job, outputs, _scratch_beside(job.folder))
        except ExportError as exc:
            return exc
        except Exception as exc:  # PyTorch ran the user's network
            return ExportError(f"{job.what} cannot be computed: {first_line(exc)}", remedy="cut before it")

    @property
    def _is_int8(self) -> bool:
        return self.settings.precision == "int8"

    def _values(self, graph: CuttableGraph, nodes: Sequence[str]) -> list[Tensor]:
        places = {node: place for place, node in enumerate(dict.fromkeys(nodes))}  # int8 splits may share a node
        found = capture(graph.graph(1), self.picture, places)
        return [found[places[node]] for node in nodes]

    def _finish(self, work: _Started, lowered: Lowered) -> Made:
        try:
            if lowered.failure is not None:
                return ExportError(f"{work.job.what} cannot be lowered: {lowered.failure}")
            made = self._write(work, lowered)
            _move_into_place(work.scratch, work.job.folder)
        except OSError as exc:
            return ExportError(f"{work.job.what} cannot be stored: {exc}", remedy="free disk space")
        finally:
            shutil.rmtree(work.scratch, ignore_errors=True)
        return made

    def _write(self, work: _Started, lowered: Lowered) -> Head | Survey:
        """Put manifest and reference beside the program; what is returned will lie in the job's folder."""
        program, folder = work.scratch / PROGRAM, work.job.folder
        manifests = tuple(
            _manifest(self.network, o.point, self.settings, o.cut, o.expected).model_copy(
                update={"tolerance_cosine": o.min_cosine}
            )
            for o in work.outputs
        )
        written = {"pte_sha256": file_sha256(program), "pte_bytes": program.stat().st_size}
        tensors = {"picture": self.settings.reference.numpy()}
        if isinstance(work.job.wanted, SplitPoint):
            share = {"delegated_share": _delegated_share(work.job.wanted, lowered)}
            made: Head | Survey = Head(folder=folder, manifest=manifests[0].model_copy(update=written | share))
            tensors["activation"] = work.outputs[0].expected.numpy()
            (work.scratch / "manifest.json").write_text(made.manifest.model_dump_json(indent=1))
        else:
            survey = SurveyManifest.model_validate({"outputs": manifests, "before": lowered.before, **written})
            made = Survey(folder=folder, manifest=survey)
            tensors |= {f"activation.{i}": output.expected.numpy() for i, output in enumerate(work.outputs)}
            (work.scratch / "survey.json").write_text(survey.model_dump_json(indent=1))
        (work.scratch / REFERENCE).write_bytes(encode_payload(Frame({}, tensors)))
        return made


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
        answer = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        return Lowered(failure=f"the lowering process ended with status {worker.process.exitcode} (out of memory?)")
    assert isinstance(answer, Lowered)  # noqa: S101 - our own child
    return answer


def _delegated_share(point: SplitPoint, lowered: Lowered) -> float | None:
    return 1 - lowered.outside_macs / point.head_macs if point.head_macs else None


def _manifest(
    network: Network, point: SplitPoint, settings: ExportSettings, cut: Cut, expected: Tensor | None = None
) -> Manifest:
    if expected is None:  # split 0: the picture itself travels, and there is nothing to verify
        expected = settings.reference.unsqueeze(0)
    codec: Literal["uint8", "int8", "fp32"] = (
        "uint8" if point.index == 0 else "int8" if cut.scale is not None else "fp32"
    )
    frame = Frame({"kind": "activation", "picture": "9" * 9}, {"activation": np.zeros_like(expected.numpy())})
    exact = settings.precision == "fp32" and point.index > 0
    return Manifest(
        model=network.model.name,
        weights_sha256=network.weights_sha256,
        input_size=network.model.input_size,
        split_index=point.index,
        split=point.name,
        precision=settings.precision,
        codec=codec,
        activation_shape=tuple(expected.shape),
        activation_bytes=expected.numel() * expected.element_size(),
        scale=cut.scale,
        zero_point=cut.zero_point,
        max_frame_bytes=len(encode_payload(frame)),
        tolerance_abs=RELATIVE_TOLERANCE * max(1.0, float(expected.abs().max())) if exact else None,
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
