"""A study attacks what is missing, keeps every cell at once, and goes on after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from analysis.study.carry_out import attack_specimen, missing
from analysis.study.cells import Plan, Specimen, StudyCell
from analysis.study.photographs import Photographs
from analysis.study.records import StudyJournal

NETWORK = Specimen(kind="family", network="skip/plain", state="untrained", seed=0, fold=0)
ROOT = Path(__file__).parents[3]
# Four networks with a cell each; the process says what it finished and how long that took.
SCRIPT = """
import sys
from pathlib import Path
from analysis.study.carry_out import carry_out, missing
from analysis.study.cells import StudyCell, Plan, Specimen
from analysis.study.photographs import gather
from analysis.study.records import StudyJournal

if __name__ == "__main__":
    ones = [Specimen(kind="family", network="skip/plain", state="untrained", seed=s, fold=0) for s in range(4)]
    plan = Plan(tuple(StudyCell(specimen=one, cut=1, attack="linear") for one in ones), 4, ())
    photographs, journal = gather(["builtin"]), StudyJournal(Path(sys.argv[1]))
    todo = missing(plan, photographs, journal)
    print("missing", len(todo), flush=True)
    carry_out(todo, photographs, journal, lambda record: print(record.status, flush=True))
"""


@pytest.fixture
def journal(tmp_path: Path) -> StudyJournal:
    return StudyJournal(tmp_path / "study")


def cell(attack: str, cut: int = 1) -> StudyCell:
    return StudyCell(specimen=NETWORK, cut=cut, attack=attack)


def test_every_cell_is_kept_and_one_that_fails_does_not_stop_the_others(
    photographs: Photographs, journal: StudyJournal
) -> None:
    cells = [cell("no.such.module:Attack"), cell("linear")]
    attack_specimen(NETWORK, cells, photographs, journal)
    failed, done = journal.read([one.key(photographs.sha256) for one in cells]).values()
    assert failed.status == "failed"
    assert "no.such.module" in failed.reason
    assert done.status == "ok"
    assert done.at is not None
    assert len(done.psnr_db) == len(done.ssim) == len(done.floor_psnr_db) == len(done.sources) == 16
    assert sum(done.psnr_db) / 16 > sum(done.floor_psnr_db) / 16 + 1

    plan = Plan((*cells, cell("linear", 0)), 1, ())
    assert missing(plan, photographs, journal) == [cells[0], cell("linear", 0)], "what failed is tried again"


def test_a_network_that_cannot_be_made_fails_in_all_of_its_cells(
    photographs: Photographs, journal: StudyJournal
) -> None:
    unknown = Specimen(kind="zoo", network="no_such_network", state="untrained", seed=0, fold=0)
    cells = [StudyCell(specimen=unknown, cut=cut, attack="linear") for cut in range(4)]
    records = attack_specimen(unknown, cells, photographs, journal)
    assert [record.status for record in records] == ["failed"] * 4
    assert all("no_such_network" in record.reason for record in records)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_study_leaves_no_process_and_goes_on_where_it_was(tmp_path: Path, kill: signal.Signals) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "study"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "missing 4\n"
    assert killed.stdout.readline() == "ok\n"
    children = psutil.Process(killed.pid).children(recursive=True)
    killed.send_signal(kill)
    began = time.monotonic()
    _, told = killed.communicate()
    assert kill == signal.SIGKILL or "leaked" not in told
    assert time.monotonic() - began < 15
    psutil.wait_procs(children, timeout=15)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)

    again = subprocess.run(command, capture_output=True, env=environment, text=True, check=True)
    first, *finished = again.stdout.split("\n")[:-1]
    assert first in {"missing 3", "missing 2"}
    assert finished == ["ok"] * int(first[-1])
    assert len((folder / "cells.jsonl").read_bytes().splitlines()) >= 4
