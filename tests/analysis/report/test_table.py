"""The terminal's table fits, says what failed and why; the CSV loses nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from analysis.report import Findings
from analysis.report.table import WIDTH, summary_tables, to_csv

Rows = list[dict[str, Any]]
MakeRows = Callable[..., Rows]
MakeTable = Callable[[Rows], pd.DataFrame]
Failed = Callable[..., dict[str, Any]]
Profiled = Callable[..., dict[str, Any]]
Estimates = Callable[..., pd.DataFrame]
Found = Callable[..., Findings]


def printed(found: Findings, *, width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(summary_tables(found), width=min(width, WIDTH))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_it_fits_100_columns_and_cuts_no_number(make_rows: MakeRows, make_table: MakeTable, found: Found) -> None:
    rows = make_rows(splits=200)
    for row in rows[1:]:
        row |= {
            "split": "features.denseblock4.denselayer16.conv2." + row["split"],
            "head_p50_ms": 99_999.0,
            "head_ci95_low_ms": 99_000.0,
            "head_ci95_high_ms": 101_000.0,
            "wire_bytes": 1_234_567_890,
            "transfer_p50_ms": 12_345.6,
            "end_to_end_p50_ms": 123_456.7,
            "delegated_share": 0.2,
            "unstable": True,
            "throttled": True,
        }
    text = printed(found(make_table(rows), notices=["a notice that is longer than a line " * 6]))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "99,999 ±1,000" in text
    assert "1,234,567.9" in text
    line = next(line for line in text.splitlines() if line.lstrip().startswith("17 "))
    assert line.count("…") == 1, "only the split's name is shortened"


def test_a_row_shows_what_was_measured(make_rows: MakeRows, make_table: MakeTable, found: Found) -> None:
    rows = make_rows(splits=3)
    rows[1] |= {"head_p50_ms": 1.5, "head_ci95_low_ms": 1.4, "head_ci95_high_ms": 1.7, "wire_bytes": 12_340,
                "transfer_p50_ms": 0.25, "end_to_end_p50_ms": 9.0, "psnr_db": 21.46, "psnr_worst_db": 30.0,
                "ssim": 0.5}  # fmt: skip
    line = next(line for line in printed(found(make_table(rows))).splitlines() if line.lstrip().startswith("1 "))
    assert line.split()[2:] == ["1.50", "±0.15", "12.3", "0.25", "9.00", "21.5", "30.0", "0.50"]


def test_a_profiled_time_has_its_mark_its_interval_and_a_footnote_that_says_what_to_do(
    make_rows: MakeRows, make_table: MakeTable, profiled: Profiled, found: Found
) -> None:
    rows = make_rows(splits=4)
    rows[2] = profiled(rows[2] | {"head_p50_ms": 0.5, "end_to_end_p50_ms": 9.0})
    text = printed(found(make_table(rows)))
    lines = {line.split()[0]: line for line in text.splitlines() if line.split()[:1] != []}
    assert lines["2"].split()[2:4] == ["≈0.50", "±0.05"]
    assert "≈9.00" in lines["2"]
    assert lines["2"].endswith(" a")
    assert text.count("≈") == 2
    assert "a  head time profiled, not measured yet: bench run --resume (split 2)" in text


def test_the_estimates_accuracy_is_one_line_under_the_tables(
    make_rows: MakeRows, make_table: MakeTable, found: Found, estimates: Estimates
) -> None:
    summary, judged = make_table(make_rows(splits=3)), estimates(31, error=0.031, anchors=2)
    judged.loc[[8, 13, 21], "error"] = 0.09
    judged.loc[13, ["low_ms", "high_ms"]] = 0.0
    said = " ".join(printed(found(summary, estimates=judged)).split())
    assert said.endswith(
        "Estimate: the survey's profile gave head times to within 3.1 % (median; 95th percentile 9 %; 97 % inside their"
        " intervals) of those measured, 29 heads."
    )
    assert "Estimate" not in printed(found(summary))


def test_failed_and_skipped_rows_say_why_once_for_all_with_the_same_reason(
    make_rows: MakeRows, make_table: MakeTable, failed: Failed, found: Found
) -> None:
    rows = make_rows(splits=8)
    for index in (2, 3, 4):
        rows[index] = failed(rows[index], "the disk is full; free 20 MB")
    rows[6] = failed(rows[6], "cut short", status="skipped")
    text = printed(found(make_table(rows)))
    assert text.count("failed: the disk is full; free 20 MB (split 2-4)") == 1
    assert text.count("skipped: cut short (split 6)") == 1


def test_a_run_of_failures_only_still_shows_every_row(
    make_rows: MakeRows, make_table: MakeTable, failed: Failed, found: Found
) -> None:
    rows = [failed(row, "no compiler; install g++") for row in make_rows(splits=5)]
    text = printed(found(make_table(rows)))
    assert sum("failed: " in line for line in text.splitlines()) == 6
    assert "PSNR" not in text


def test_the_floor_and_the_threat_model_stand_once_under_the_table(
    make_rows: MakeRows, make_table: MakeTable, found: Found
) -> None:
    text = " ".join(printed(found(make_table(make_rows()))).split())
    assert text.count("Floor (training mean picture, no activation needed): 12.6 dB.") == 1
    assert text.count("Low does not mean private.") == 1


def test_random_weights_emulated_devices_and_missing_attacks_are_announced(
    make_rows: MakeRows, make_table: MakeTable, found: Found
) -> None:
    text = printed(
        found(
            make_table(make_rows(splits=4, weights="random, seed 0", device="emulated", attack=None)),
            notices=["mind the gap"],
        )
    )
    assert text.startswith("! mind the gap")
    assert "the leakage of random weights is not that of trained ones" in text
    assert "Emulated device: its times mean nothing." in text
    assert "No attack gave a figure" in text


def test_markup_in_names_is_text(make_rows: MakeRows, make_table: MakeTable, found: Found) -> None:
    text = printed(
        found(make_table(make_rows(splits=2, model="[bold]net[/]", device="[red]x")), notices=["[link=a]b[/link]"])
    )
    assert "[bold]net[/]" in text
    assert "[red]x" in text
    assert "[link=a]b[/link]" in text


def test_an_empty_run_says_so(make_table: MakeTable, found: Found) -> None:
    assert "this run has no rows" in printed(found(make_table([])))


def test_csv_round_trips_and_empty_is_empty(
    make_rows: MakeRows, make_table: MakeTable, failed: Failed, tmp_path: Path
) -> None:
    rows = make_rows(splits=5)
    rows[3] = failed(rows[3], 'a "quoted", comma; and\nline')
    summary = make_table(rows)
    to_csv(summary, tmp_path / "table.csv")
    read = pd.read_csv(tmp_path / "table.csv")
    assert list(read.columns) == list(summary.columns)
    assert read["reason"][3] == summary["reason"][3]
    assert read["energy_mj"].isna().all()
    assert ",nan," not in (tmp_path / "table.csv").read_text().lower()
    measured = ["head_p50_ms", "wire_bytes", "psnr_db"]
    pd.testing.assert_frame_equal(read[measured], summary[measured], check_dtype=False, check_exact=True)


def test_csv_goes_to_an_open_file_too(make_rows: MakeRows, make_table: MakeTable) -> None:
    target = io.StringIO()
    to_csv(make_table(make_rows(splits=2)), target)
    assert len(target.getvalue().splitlines()) == 3


@pytest.mark.parametrize("splits", [1, 2])
def test_a_single_split_is_a_table_too(make_rows: MakeRows, make_table: MakeTable, splits: int, found: Found) -> None:
    assert "the picture itself" in printed(found(make_table(make_rows(splits=splits))))
