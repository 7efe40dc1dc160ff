"""Executes a plan: round by round, every cell verified, timed and shipped; what is finished is kept at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import fx

from device_runner.bundle import Bundle, build_bundle
from device_runner.devices import Device
from device_runner.devices.local import Local
from device_runner.devices.probe import DeviceState, read_state
from device_runner.errors import DeviceError, RunnerError
from device_runner.runner import Job, Shipping, UnverifiedError, run_head
from harness.affinity import core_mask
from harness.cool_down import CoolDown
from harness.energy import with_energy
from harness.errors import LostDeviceError
from harness.manifest import Head
from harness.plan import round_order
from harness.prepare import ReadyDevice
from harness.receiver import Array, Session
from harness.results.schema import Cell, RoundRecord
from harness.results.store import RunStore
from harness.splits import Cut, dequantize

ROUND_LIMIT_S = 600.0
# Two computations of one program that round differently are at most one step of int8 apart.
INT8_STEPS = 1.0
_DTYPES = {"uint8": "uint8", "int8": "int8", "fp32": "float32"}


@dataclass(frozen=True)
class Work:
    """A cell, its head, and what the workstation does with its activation.

    Attributes:
        tail: activation (float32) -> logits; at split 0 the whole network.
    """

    cell: Cell
    head: Head
    tail: fx.GraphModule


def measure(store: RunStore, work: Sequence[Work], ready: ReadyDevice, pictures: Path) -> Iterator[RoundRecord]:
    """Every (cell, round) of one device that is not on disk yet, one after the other.

    A cell that fails is not tried again in later rounds of this call.

    Args:
        pictures: safetensors file with the held-out pictures, N x 3 x H x W uint8, as `pictures`.

    Yields:
        Each finished (cell, round), after it was kept.

    Raises:
        LostDeviceError: the device is gone; what is finished is kept.
        SplitbenchError: the run cannot go on (no space left, no compiler); what is finished is kept.
    """
    done = store.rounds()
    config = store.file.config
    by_hash = {w.cell.hash: w for w in work}
    failed = {cell for (cell, _), record in done.items() if record.status == "failed"}
    bench = _Bench(store, ready, pictures, CoolDown.parse(config.cool_down) if config.cool_down else None)
    for round_ in range(config.rounds):
        for cell in round_order([w.cell for w in work], round_, config.seed):
            if (cell.hash, round_) in done or cell.hash in failed:
                continue
            record = bench.attempt(by_hash[cell.hash], round_)
            store.keep_round(record)
            if record.status == "failed":
                failed.add(cell.hash)
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

    def attempt(self, work: Work, round_: int) -> RoundRecord:
        """One (cell, round); where the connection broke it is tried once more.

        Raises:
            LostDeviceError: the device does not answer any more.
        """
        for last in (False, True):
            try:
                return self._execute(work, round_)
            except DeviceError as exc:
                self._require_alive(exc)
                if last:
                    return RoundRecord(cell=work.cell.hash, round=round_, status="failed", reason=str(exc))
        raise AssertionError("the second attempt ends the loop")

    def _require_alive(self, lost: DeviceError) -> None:
        self.before = None
        try:
            read_state(self.device)
        except DeviceError as exc:
            raise LostDeviceError(self.device.name, lost, exc) from exc

    def _execute(self, work: Work, round_: int) -> RoundRecord:
        if self.cool_down:
            self.cool_down.wait(self.device)
            self.before = None
        # Cells follow one another at once: what was read after one is read before the next.
        before = self.before or read_state(self.device)
        session = self._session(work, round_)
        cell, kept = work.cell.hash, None
        try:
            job = self._job(work, round_)
            with self.ready.receiver.expect(session):
                report = run_head(self.device, self.ready.runner, job, timeout_s=ROUND_LIMIT_S)
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
        )

    def _job(self, work: Work, round_: int) -> Job:
        config = self.store.file.config
        shipping = Shipping(
            pictures=self.device.push(self.pictures),
            address=self.ready.receiver_address(),
            token=self.ready.receiver.token,
            cell=work.cell.hash,
            round=round_,
        )
        job = self._verified_job(work.head)
        return replace(
            job,
            threads=work.cell.threads,
            affinity=core_mask(config.affinity, self.device),
            warmup=config.warmup,
            iterations=config.iterations,
            shipping=shipping,
            link_shape=self.ready.shape,
            power=self.ready.power.files if round_ == 0 else None,  # it takes seconds: once a cell is enough
        )

    def _verified_job(self, head: Head) -> Job:
        """Program and reference on the device: PyTorch's activation here, on other machines the host runner's."""
        if head.program is None or head.reference is None:
            return Job()
        job = host_job(head)
        if self.device.target != "host":
            steps = INT8_STEPS if head.manifest.codec == "int8" else head.manifest.tolerance_abs
            job = replace(job, reference=str(host_reference(head)), max_abs_err=steps, min_cosine=None)
        return replace(
            job,
            program=self.device.push(Path(job.program or "")),
            reference=self.device.push(Path(job.reference or "")),
        )

    def _session(self, work: Work, round_: int) -> Session:
        manifest, cell = work.head.manifest, work.cell.hash
        return Session(
            cell=cell,
            round=round_,
            max_payload_bytes=manifest.max_frame_bytes,
            shape=manifest.activation_shape,
            dtype=_DTYPES[manifest.codec],
            pictures=len(self.store.file.held_out),
            answer=make_answer(work.tail, work.head),
            keep=lambda picture, payload: self.store.keep_activation(cell, picture, payload),
        )


def host_job(head: Head) -> Job:
    """Verify a head on this machine against PyTorch: the job runs nothing else."""
    manifest = head.manifest
    return Job(
        program=str(head.program),
        reference=str(head.reference),
        max_abs_err=manifest.tolerance_abs,
        min_cosine=manifest.tolerance_cosine,
        zero_point=manifest.zero_point,
    )


def host_reference(head: Head) -> Path:
    """What this machine's runner makes of the reference picture, verified against PyTorch; kept beside the head.

    Raises:
        UnverifiedError: this machine's runner itself gives something else than PyTorch.
    """
    assert head.folder is not None  # noqa: S101 - split 0 has no program to verify
    bundle: Bundle = build_bundle("host")
    path = head.folder / f"host-{bundle.sha256[:16]}.safetensors"
    if not path.is_file():
        host = Local("local")
        run_head(host, host.deploy(bundle), replace(host_job(head), write_output=str(path)), timeout_s=ROUND_LIMIT_S)
    return path


def make_answer(tail: fx.GraphModule, head: Head) -> Callable[[Array], Array]:
    """What the workstation does with an activation as it was received: read it, and finish the network."""
    manifest = head.manifest
    cut = Cut("", manifest.scale, manifest.zero_point)

    def answer(received: Array) -> Array:
        value = torch.from_numpy(received.copy())  # what was received is read-only
        value = value.float() / 255 if manifest.codec == "uint8" else dequantize(value, cut)
        with torch.no_grad():
            logits: torch.Tensor = tail(value)
        return logits.numpy()

    return answer
