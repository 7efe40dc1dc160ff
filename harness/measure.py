"""Executes a plan: round by round, every cell verified, timed and shipped; what is finished is kept at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import fx

from device_runner.bundle import build_bundle
from device_runner.devices import Device
from device_runner.errors import DeviceError
from device_runner.runner import Job, RunnerReport, Shipping, UnverifiedError, run_head
from harness.manifest import Head
from harness.plan import round_order
from harness.receiver import Array, Receiver, Session
from harness.results.schema import Cell, RoundRecord
from harness.results.store import RunStore
from harness.splits import Cut, dequantize

ROUND_LIMIT_S = 600.0
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


def measure(store: RunStore, work: Sequence[Work], device: Device, pictures: Path) -> Iterator[RoundRecord]:
    """Every (cell, round) of one device that is not on disk yet, one after the other.

    A cell that fails is not tried again in later rounds of this call.

    Args:
        pictures: safetensors file with the held-out pictures, N x 3 x H x W uint8, as `pictures`.

    Yields:
        Each finished (cell, round), after it was kept.

    Raises:
        SplitbenchError: the run cannot go on (no space left, no compiler); what is finished is kept.
    """
    done = store.rounds()
    missing = [w for w in work if any((w.cell.hash, r) not in done for r in range(store.file.config.rounds))]
    if not missing:
        return
    runner = device.deploy(build_bundle(device.target))
    remote_pictures = device.push(pictures)
    by_hash = {w.cell.hash: w for w in work}
    failed = {cell for (cell, _), record in done.items() if record.status == "failed"}
    with Receiver() as receiver:
        for round_ in range(store.file.config.rounds):
            for cell in round_order([w.cell for w in work], round_, store.file.config.seed):
                if (cell.hash, round_) in done or cell.hash in failed:
                    continue
                one = _Round(store, by_hash[cell.hash], round_, device, runner, remote_pictures, receiver)
                record = one.execute()
                store.keep_round(record)
                if record.status == "failed":
                    failed.add(cell.hash)
                yield record


@dataclass(frozen=True)
class _Round:
    store: RunStore
    work: Work
    round: int
    device: Device
    runner: str
    pictures: str
    receiver: Receiver

    def execute(self) -> RoundRecord:
        cell = self.work.cell.hash
        session = self._session()
        try:
            with self.receiver.expect(session):
                report = run_head(self.device, self.runner, self._job(), timeout_s=ROUND_LIMIT_S)
        except DeviceError as exc:
            if session.broken is not None:
                raise session.broken from exc
            reason = "; ".join([str(exc), *session.refusals[-1:]])
            kept: RunnerReport | None = exc.report if isinstance(exc, UnverifiedError) else None
            return RoundRecord(cell=cell, round=self.round, status="failed", reason=reason, report=kept)
        return RoundRecord(cell=cell, round=self.round, status="ok", report=report)

    def _job(self) -> Job:
        head, config = self.work.head, self.store.file.config
        manifest = head.manifest
        return Job(
            program=self.device.push(head.program) if head.program else None,
            reference=self.device.push(head.reference) if head.reference else None,
            max_abs_err=manifest.tolerance_abs,
            min_cosine=manifest.tolerance_cosine,
            zero_point=manifest.zero_point,
            threads=config.threads,
            warmup=config.warmup,
            iterations=config.iterations,
            shipping=Shipping(
                pictures=self.pictures,
                address=self.device.way_back(self.receiver.port),
                token=self.receiver.token,
                cell=self.work.cell.hash,
                round=self.round,
            ),
        )

    def _session(self) -> Session:
        manifest, cell = self.work.head.manifest, self.work.cell.hash
        return Session(
            cell=cell,
            round=self.round,
            max_payload_bytes=manifest.max_frame_bytes,
            shape=manifest.activation_shape,
            dtype=_DTYPES[manifest.codec],
            pictures=len(self.store.file.held_out),
            answer=make_answer(self.work.tail, self.work.head),
            keep=lambda picture, payload: self.store.keep_activation(cell, picture, payload),
        )


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
