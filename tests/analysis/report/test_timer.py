"""Which figures of a device's clock the report states, and where."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from analysis.report import Findings
from analysis.report.html import render_html
from analysis.report.table import summary_tables
from analysis.report.timer import Timer, timers
from harness.results.schema import RoundRecord
from harness.results.store import RunStore

MakeRows = Callable[..., list[dict[str, Any]]]
MakeTable = Callable[[list[dict[str, Any]]], pd.DataFrame]
Found = Callable[..., Findings]

PI = Timer("ssh://pi", step_ns=52, added_ns=1_200, head_ns=12_000_000)


@pytest.fixture
def old_run(tmp_path: Path) -> RunStore:
    """A run of before these figures were told."""
    golden = Path(__file__).parents[2] / "golden" / "schema-1"
    return RunStore(shutil.copytree(golden, tmp_path / "run"))


def with_figures(record: RoundRecord, **figures: int) -> RoundRecord:
    assert record.report is not None
    return record.model_copy(update={"report": record.report.model_copy(update=figures)})


def test_the_medians_of_a_device_s_rounds_are_stated(old_run: RunStore) -> None:
    records = [
        with_figures(record, timer_resolution_ns=20 if record.round else 25, overhead_ns=70 if record.round else 9000)
        for record in old_run.journal.rounds().values()
    ]
    (found,) = timers(old_run.file, records)
    assert (found.device, found.step_ns, found.added_ns) == ("local", 20, 70)
    heads = sorted(ns for record in records if record.report for ns in record.report.run_ns)
    assert found.head_ns is not None
    assert heads[0] <= found.head_ns <= heads[-1]


def test_a_run_that_knows_nothing_of_its_clock_says_nothing(old_run: RunStore) -> None:
    assert timers(old_run.file, old_run.journal.rounds().values()) == []


def test_each_is_one_line() -> None:
    share = "ssh://pi: clock step 52 ns, the harness adds at most 1,200 ns to a sample (0.010% of the median head)"
    assert str(PI) == share
    assert (
        str(Timer("adb\n", 20, 70, None))
        == "adb\N{REPLACEMENT CHARACTER}: clock step 20 ns, the harness adds at most 70 ns to a sample"
    )


def test_the_terminal_has_one_line_for_each_device(make_rows: MakeRows, make_table: MakeTable, found: Found) -> None:
    console = Console(width=120, file=io.StringIO(), color_system=None)
    summary = make_table(make_rows(splits=3) + make_rows(splits=3, device="ssh://pi"))
    console.print(summary_tables(found(summary, timers=[Timer("local", 20, 70, 5e6), PI])))
    assert isinstance(console.file, io.StringIO)
    last = console.file.getvalue().splitlines()[-2:]
    assert [line.partition(",")[0] for line in last] == ["local: clock step 20 ns", "ssh://pi: clock step 52 ns"]


def test_the_page_states_each_beside_its_own_device(make_rows: MakeRows, make_table: MakeTable, found: Found) -> None:
    summary = make_table(make_rows(splits=3) + make_rows(splits=3, device="ssh://pi"))
    page = render_html(found(summary, timers=[PI]))
    before, _, section = page.partition('<section id="e2"')
    assert "steps of 52 ns" in section
    assert "the harness adds at most 1,200 ns to a sample (0.010% of the median head)" in section
    assert "<dt>Clock</dt>" not in before
