"""A run that is killed or interrupted goes on where it was; nothing finished is repeated, lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from analysis import load_run
from tests.e2e.command import TINY, Bench, assert_one_line

ASKED = ("run", TINY, "--input-size", "32", "--iterations", "2", "--warmup", "1", "--attack-total", "1s")


def wait_for_rounds(bench: Bench, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(list(bench.folder.glob("runs/*/journal/rounds/*.json"))) < count:
        assert time.monotonic() < deadline, "the run never began to measure"
        time.sleep(0.01)


def finished_files(run: Path) -> dict[Path, tuple[int, bytes]]:
    found = [*run.glob("journal/rounds/*.json"), *run.glob("journal/leakage/*.json")]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_kill_and_resume_finishes_without_repeating_or_losing(used_bench: Bench, seed: int) -> None:
    rng = random.Random(seed)
    process = used_bench.start(*ASKED)
    wait_for_rounds(used_bench, rng.randrange(2, 12))
    time.sleep(rng.random() * 0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = finished_files(used_bench.only_run)
    assert before
    done = used_bench("run", "--resume")
    assert done.returncode == 0, done.stderr
    after = finished_files(used_bench.only_run)
    assert {path: after[path] for path in before} == before
    run = load_run(used_bench.only_run)
    assert set(run.summary()["status"]) == {"ok"}
    assert not run.samples().duplicated(["cell", "round", "loop", "iteration"]).any()
    assert not run.leakage().duplicated(["cell", "attack", "picture"]).any()
    done = used_bench("run", "--resume")
    assert done.returncode == 0, done.stderr
    assert f"{used_bench.only_run.name} is complete: nothing is left" in done.stderr


def test_ctrl_c_says_how_to_go_on(used_bench: Bench) -> None:
    process = used_bench.start(*ASKED)
    wait_for_rounds(used_bench, 2)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"--resume" in stderr
    assert b"Traceback" not in stderr


def test_an_unfinished_run_says_so_in_its_table(used_bench: Bench) -> None:
    process = used_bench.start(*ASKED)
    wait_for_rounds(used_bench, 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    table = load_run(used_bench.only_run).summary()
    assert "skipped" in set(table["status"])
    assert table.loc[table["status"] == "skipped", "reason"].str.contains("--resume").all()


def test_a_run_cannot_go_on_with_other_weights(used_bench: Bench) -> None:
    assert used_bench(*ASKED, "--split", "5").returncode == 0
    path = used_bench.only_run / "run.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1', 1))
    assert_one_line(used_bench("run", "--resume"), "cannot go on", "start a new run")


def test_two_harnesses_never_write_one_run(used_bench: Bench) -> None:
    process = used_bench.start(*ASKED)
    try:
        wait_for_rounds(used_bench, 1)
        os.killpg(process.pid, signal.SIGSTOP)  # or it might be done before the other one begins
        assert_one_line(used_bench("run", "--resume"), "another process")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
