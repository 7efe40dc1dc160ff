"""`bench study` says beforehand what it will take, writes its document, and is interrupted without a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.study import cells
from harness.cli.study import study


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> cells.Plan:
    """One cell, in place of the quick plan."""
    one = cells.Plan(cells.quick_plan().cells[:1], 2, ())
    monkeypatch.setattr(cells, "quick_plan", lambda: one)
    return one


@pytest.mark.usefixtures("plan")
def test_it_announces_the_cells_and_writes_the_document_with_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.study.carry_out.carry_out", lambda *_: None)
    done = CliRunner().invoke(
        study, ["--quick", "--out", str(tmp_path / "study"), "--document", str(tmp_path / "d.md")]
    )
    assert done.exit_code == 0, done.output
    assert "1 cells, 0 done; about 0 h" in done.output
    assert "17 photographs: under 20, every verdict is undecided" in done.output
    assert (tmp_path / "d.md").read_text().startswith("# How a network's structure")


@pytest.mark.usefixtures("plan")
def test_an_interrupt_tells_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("analysis.study.carry_out.carry_out", interrupted)
    done = CliRunner().invoke(study, ["--quick", "--out", str(tmp_path / "study")])
    assert done.exit_code == 130
    assert "the same command goes on" in done.output
