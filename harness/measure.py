"""Executes a plan: round by round, every cell verified, timed and shipped; what is finished is kept at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import fx

from device_runner.devices import Device
from device_runner.devices.probe import DeviceState, read_state
from device_runner.errors import DeviceError, HeldError, RunnerError
from device_runner.runner import Job, Shipping, UnverifiedError, run_head
from device_runner.survey import SurveyJob, run_survey
from harness.affinity import core_mask
from harness.cool_down import CoolDown
from harness.energy import with_energy
from harness.errors import LostDeviceError
from harness.manifest import Head, Manifest, Survey
from harness.plan import round_order
from harness.prepare import ReadyDevice
from harness.receiver import Array, Session
from harness.results.schema import Cell, RoundRecord, SurveyRecord
from harness.results.store import RunStore
from harness.splits import Cut, channels_last, dequantize, op_name
from harness.verification import (
    PROGRAM_LIMIT_S,
    device_tolerance,
    host_job,
    host_reference,
    host_survey_job,
)

_DTYPES = {"uint8": "uint8", "int8": "int8", "fp32": "float32"}


@dataclass(frozen=True)
class Work:
    """A cell, its head, and what the workstation does with its activation.

    Attributes:
        tail: activation (float32) -> logits; at split 0 the whole network.
        surveyed: a survey has shipped this cell's activations: those are the ones that are attacked, and stay.
        anchor: it is measured for the sake of its neighbours' profiled times.
    """

    cell: Cell
    head: Head
    tail: fx.GraphModule
    surveyed: bool = False
    anchor: bool = False

    @property
    def hash(self) -> str:
        """Names it among the run's work."""
        return self.cell.hash

    def failed(self, round_: int, reason: str) -> RoundRecord:
        """What is kept of a round without result."""
        return RoundRecord(cell=self.hash, round=round_, status="failed", reason=reason)


@dataclass(frozen=True)
class SurveyWork:
    """A survey program, the cell of each of its outputs, and what the workstation does with their activations."""

    cells: tuple[Cell, ...]
    survey: Survey
    tails: tuple[fx.GraphModule, ...]

    @property
    def hash(self) -> str:
        """Names it among the run's work."""
        return survey_hash(self.cells)

    def record(self, round_: int, **outcome: object) -> SurveyRecord:
        """What is kept of a round."""
        facts: dict[str, object] = {
            "survey": self.hash,
            "round": round_,
            "cells": tuple(cell.hash for cell in self.cells),
            "before": self.survey.manifest.before,
            "planar": tuple(len(cell.activation_shape) == 4 for cell in self.cells),
        }
        return SurveyRecord.model_validate(facts | outcome)

    def failed(self, round_: int, reason: str) -> SurveyRecord:
        """What is kept of a round without result."""
        return self.record(round_, status="failed", reason=reason)


def survey_hash(cells: Sequence[Cell]) -> str:
    """Names the survey of these cells."""
    return hashlib.sha256("".join(cell.hash for cell in cells).encode()).hexdigest()[:16]


def measure(
    store: RunStore, work: Sequence[Work | SurveyWork], ready: ReadyDevice, pictures: Path
) -> Iterator[RoundRecord | SurveyRecord]:
    """Every round of every piece of work on one device that is not on disk yet, one after the other.

    What fails is not tried again in later rounds of this call.

    Args:
        pictures: safetensors file with the held-out pictures, N x 3 x H x W uint8, as `pictures`.

    Yields:
        What came of each finished round, after it was kept.

    Raises:
        LostDeviceError: the device is gone; what is finished is kept.
        SplitbenchError: the run cannot go on (no space left, no compiler); what is finished is kept.
    """
    config = store.file.config
    by_hash = {w.hash: w for w in work}
    done = {key: record.status for key, record in (store.rounds() | store.surveys()).items()}
    failed = {hash_ for (hash_, _), status in done.items() if status == "failed"}
    bench = _Bench(store, ready, pictures, CoolDown.parse(config.cool_down) if config.cool_down else None)
    for round_ in range(config.rounds):
        for hash_ in round_order(by_hash, round_, config.seed):
            if (hash_, round_) in done or hash_ in failed:
                continue
            record = bench.attempt(by_hash[hash_], round_)
            if isinstance(record, SurveyRecord):
                store.keep_survey(record)
            else:
                store.keep_round(record)
            if record.status == "failed":
                failed.add(hash_)
            yield record


@dataclass
class _Bench:
    """One device, and what its cells have in common."""

    store: RunStore
    ready: ReadyDevice
    pictures: Path
    cool_down: CoolDown | None
    before: DeviceState | None = None

    @property
    def device(self) -> Device:
        return self.ready.device

    def attempt(self, work: Work | SurveyWork, round_: int) -> RoundRecord | SurveyRecord:
        """One round of a piece of work; where the connection broke it is tried once more.

        Raises:
            LostDeviceError: the device does not answer any more.
        """
        pause_s = self.cool_down.longest_s if self.cool_down else 0.0
        try:
            with self.ready.undisturbed(pause_s):
                return self._attempt(work, round_)
        except HeldError as exc:
            raise LostDeviceError(self.device.name, exc) from exc

    def _attempt(self, work: Work | SurveyWork, round_: int) -> RoundRecord | SurveyRecord:
        for last in (False, True):
            try:
                return self._survey(work, round_) if isinstance(work, SurveyWork) else self._execute(work, round_)
            except DeviceError as exc:
                self._require_alive(exc)
                if last:
                    return work.failed(round_, str(exc))
        raise AssertionError("the second attempt ends the loop")

    def _require_alive(self, lost: DeviceError) -> None:
        self.before = None
        try:
            read_state(self.device)
        except DeviceError as exc:
            raise LostDeviceError(self.device.name, lost, exc) from exc

    def _execute(self, work: Work, round_: int) -> RoundRecord:
        self._cool_down()
        # Cells follow one another at once: what was read after one is read before the next.
        before = self.before or read_state(self.device)
        session = self._session(work.cell, work.head.manifest, work.tail, round_, keeps=not work.surveyed)
        cell, kept = work.cell.hash, None
        try:
            job = self._job(work, round_)
            with self.ready.receiver.expect(session):
                report = run_head(self.device, self.ready.runner, job, timeout_s=PROGRAM_LIMIT_S)
            if round_ == 0 and job.program and (command := self.ready.power.command):
                report = with_energy(report, self.device, self.ready.runner, job, command)
        except RunnerError as exc:
            if session.broken is not None:
                raise session.broken from exc
            self.before = None
            reason = "; ".join([str(exc), *session.refusals[-1:]])
            kept = exc.report if isinstance(exc, UnverifiedError) else None
            return RoundRecord(cell=cell, round=round_, status="failed", reason=reason, report=kept, before=before)
        self.before = read_state(self.device)
        return RoundRecord(
            cell=cell,
            round=round_,
            status="ok",
            report=report,
            before=before,
            after=self.before,
            energy_reason=report.power_reason or self.ready.power.reason,
            anchor=work.anchor,
        )

    def _survey(self, work: SurveyWork, round_: int) -> SurveyRecord:
        self._cool_down()
        self.before = None
        outputs = zip(work.cells, work.survey.manifest.outputs, work.tails, strict=True)
        sessions = [self._session(cell, output, tail, round_, keeps=True) for cell, output, tail in outputs]
        try:
            job = self._survey_job(work, round_)
            with self.ready.receiver.expect(*sessions):
                report = run_survey(self.device, self.ready.runner, job, timeout_s=PROGRAM_LIMIT_S)
        except RunnerError as exc:
            for broken in (session.broken for session in sessions if session.broken is not None):
                raise broken from exc
            refusals = [reason for session in sessions for reason in session.refusals[-1:]]
            return work.failed(round_, "; ".join([str(exc), *refusals[:1]]))
        return work.record(round_, status="ok", report=report)

    def _cool_down(self) -> None:
        if self.cool_down:
            self.cool_down.wait(self.device)
            self.before = None

    def _job(self, work: Work, round_: int) -> Job:
        config = self.store.file.config
        return replace(
            self._verified_job(work.head),
            threads=work.cell.threads,
            affinity=core_mask(config.affinity, self.device),
            warmup=config.warmup,
            iterations=config.iterations,
            shipping=self._shipping(work.cell.hash, round_),
            link_shape=self.ready.shape,
            power=self.ready.power.files if round_ == 0 else None,  # it takes seconds: once a cell is enough
        )

    def _shipping(self, cell: str, round_: int) -> Shipping:
        return Shipping(
            pictures=self.device.push(self.pictures),
            address=self.ready.receiver_address(),
            token=self.ready.receiver.token,
            cell=cell,
            round=round_,
        )

    def _verified_job(self, head: Head) -> Job:
        """Program and reference on the device: PyTorch's activation here, on other machines the host runner's."""
        if head.program is None or head.reference is None:
            return Job()
        job = host_job(head)
        if self.device.target != "host":
            tolerance = device_tolerance(head.manifest)
            job = replace(job, reference=str(host_reference(head)), max_abs_err=tolerance, min_cosine=None)
        return replace(
            job,
            program=self.device.push(Path(job.program or "")),
            reference=self.device.push(Path(job.reference or "")),
        )

    def _survey_job(self, work: SurveyWork, round_: int) -> SurveyJob:
        config, job = self.store.file.config, host_survey_job(work.survey)
        if self.device.target != "host":
            tolerances = tuple(device_tolerance(output) for output in work.survey.manifest.outputs)
            reference = str(host_reference(work.survey))
            job = replace(job, reference=reference, max_abs_err=tolerances, min_cosine=())
        ships = round_ == 0  # the later rounds are for the profile alone
        return replace(
            job,
            program=self.device.push(Path(job.program)),
            reference=self.device.push(Path(job.reference)),
            cells=tuple(cell.hash for cell in work.cells) if ships else (),
            threads=work.cells[0].threads,
            affinity=core_mask(config.affinity, self.device),
            warmup=config.warmup,
            iterations=config.iterations,
            shipping=self._shipping("survey", round_) if ships else None,
            link_shape=self.ready.shape if ships else None,
        )

    def _session(self, cell: Cell, manifest: Manifest, tail: fx.GraphModule, round_: int, *, keeps: bool) -> Session:
        def keep(picture: int, payload: bytes) -> None:
            if keeps:
                self.store.keep_activation(cell.hash, picture, payload)

        return Session(
            cell=cell.hash,
            round=round_,
            max_payload_bytes=manifest.max_frame_bytes,
            shape=manifest.activation_shape,
            dtype=_DTYPES[manifest.codec],
            pictures=len(self.store.file.held_out),
            answer=make_answer(tail, manifest),
            keep=keep,
        )


def make_answer(tail: fx.GraphModule, manifest: Manifest) -> Callable[[Array], Array]:
    """What the workstation does with an activation as it was received: read it, and finish the network."""
    cut = Cut("", manifest.scale, manifest.zero_point)
    convolves = any(op_name(node) == "conv2d" for node in tail.graph.nodes)

    def answer(received: Array) -> Array:
        value = torch.from_numpy(received.copy())  # what was received is read-only
        value = value.float() / 255 if manifest.codec == "uint8" else dequantize(value, cut)
        with torch.no_grad():
            logits: torch.Tensor = tail(channels_last(value) if convolves else value)
        return logits.numpy()

    return answer
