"""What a survey tells, made up: for tests of what is read out of it."""

from __future__ import annotations

from collections.abc import Sequence

from device_runner.runner import Verification
from device_runner.survey import Profile, SurveyOutput, SurveyReport, SurveyShipment

VERIFIED = Verification(max_abs_err=0.0, cosine=1.0, passed=True)


def survey_report(
    outputs: int, operators: Sequence[str], times_ns: list[list[int]] | None, *shipments: SurveyShipment
) -> SurveyReport:
    """A report with so many verified outputs, each shipped alike; without times it has no profile, and says why."""
    output = SurveyOutput(dtype="F32", shape=(1, 2), verification=VERIFIED, shipments=list(shipments))
    return SurveyReport(
        load_ns=1,
        outputs=[output] * outputs,
        run_ns=[9],
        profile=Profile(operators=list(operators), times_ns=times_ns) if times_ns else None,
        profile_reason=None if times_ns else "no event came",
        peak_rss_bytes=1,
        threads=1,
        affinity=None,
        timer_resolution_ns=1,
        overhead_ns=1,
    )
