"""What head_runner reports, read back."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from device_runner.report import RunnerReport


def test_a_report_of_an_older_runner_still_loads() -> None:
    older: dict[str, Any] = {
        "load_ns": 1,
        "outputs": [{"dtype": "U8", "shape": [1, 3, 2, 2], "verification": None, "shipments": []}],
        "warmup_ns": [],
        "run_ns": [],
        "peak_rss_bytes": 1,
        "threads": 1,
    }
    report = RunnerReport.model_validate(older)
    assert (report.affinity, report.overhead_ns, report.energy_mj, report.power_reason) == (None,) * 4


def test_a_report_has_an_output() -> None:
    empty = {"load_ns": 1, "outputs": [], "warmup_ns": [], "run_ns": [], "peak_rss_bytes": 1, "threads": 1}
    with pytest.raises(ValidationError, match="outputs"):
        RunnerReport.model_validate(empty)
