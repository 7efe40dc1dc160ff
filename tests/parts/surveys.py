"""What a survey tells, made up: for tests of what is read out of it."""

from __future__ import annotations

from collections.abc import Sequence

from device_runner.report import OutputReport, Profile, RunnerReport, Shipment, Verification

VERIFIED = Verification(max_abs_err=0.0, cosine=1.0, passed=True)


def survey_shipment(picture: int, transfer_ns: int, tail_ns: int, wire_bytes: int, **apart_ns: int) -> Shipment:
    """One activation's way; the run was all outputs'. `encode_ns` and `decode_ns` are told apart where given."""
    times = {"transfer_ns": transfer_ns, "tail_ns": tail_ns, "head_ns": None, "end_to_end_ns": None, **apart_ns}
    return Shipment.model_validate({"picture": picture, "wire_bytes": wire_bytes, **times})


def survey_report(
    outputs: int, operators: Sequence[str], times_ns: list[list[int]] | None, *shipments: Shipment
) -> RunnerReport:
    """A report with so many verified outputs, each shipped alike; without times it has no profile, and says why."""
    output = OutputReport(dtype="F32", shape=(1, 2), verification=VERIFIED, shipments=list(shipments))
    return RunnerReport(
        load_ns=1,
        outputs=[output] * outputs,
        warmup_ns=[],
        run_ns=[9],
        profile=Profile(operators=list(operators), times_ns=times_ns) if times_ns else None,
        profile_reason=None if times_ns else "no event came",
        peak_rss_bytes=1,
        threads=1,
        timer_resolution_ns=1,
        overhead_ns=1,
    )
