"""`--tail`: what finishes the network is chosen, insisted on, told, and may die without ending the run."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis import load_run
from tests.e2e.command import TINY, Bench, assert_one_line

SHORT = ("--input-size", "32", "--no-survey", "--attack", "linear", "--warmup", "0", "--iterations", "1")


def rows(bench: Bench) -> pd.DataFrame:
    return load_run(bench.only_run).summary()


def test_auto_takes_the_fastest_engine_and_rows_say_which(used_bench: Bench) -> None:
    done = used_bench("run", TINY, "--split", "0,3", "--tail-threads", "1", *SHORT)
    assert done.returncode == 0, done.stderr
    (chosen,) = load_run(used_bench.only_run).file.engines.values()
    assert chosen.engine == min(chosen.times_ms, key=chosen.times_ms.__getitem__)
    assert set(rows(used_bench)["tail_engine"]) == {chosen.engine}
    assert set(rows(used_bench)["tail_threads"]) == {1}
    assert f"tails on {chosen.engine}, 1 thread" in done.stdout


@pytest.mark.parametrize("engine", ["torch", "executorch"])
def test_an_engine_that_is_named_is_taken(used_bench: Bench, engine: str) -> None:
    done = used_bench("run", TINY, "--split", "0,3", "--tail", engine, *SHORT)
    assert done.returncode == 0, done.stderr
    assert set(rows(used_bench)["tail_engine"]) == {engine}
    assert rows(used_bench)["tail_reason"].isna().all()


@pytest.mark.parametrize(
    ("engine", "why"), [("cuda", "torch sees no CUDA device here"), ("tensorrt", "unknown tail engine"), (" ", "empty")]
)
def test_an_engine_that_is_not_here_is_refused_at_once(bench: Bench, engine: str, why: str) -> None:
    assert_one_line(bench("run", TINY, "--tail", engine), why)
    assert not (bench.folder / "runs").exists()


def test_no_module_of_the_folder_is_run(used_bench: Bench) -> None:
    for name in ("torch", "harness", "random"):
        (used_bench.folder / f"{name}.py").write_text("open('was_run', 'w')\nraise SystemExit(3)\n")
    done = used_bench("run", TINY, "--split", "0,3", "--tail", "torch", *SHORT)
    assert done.returncode == 0, done.stderr
    assert not (used_bench.folder / "was_run").exists()


def test_an_engine_that_dies_fails_its_rows_alone_and_resume_goes_on(used_bench: Bench) -> None:
    flag = used_bench.folder / "fickle"
    flag.touch()
    arguments = ("run", TINY, "--split", "0,3", "--tail", "tail_engines:Fickle", *SHORT)
    done = used_bench(*arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "its process ended (status -11)" in done.stderr
    assert set(rows(used_bench)["status"]) == {"failed"}
    flag.unlink()
    resumed = used_bench("run", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert set(rows(used_bench)["status"]) == {"ok"}
    assert set(rows(used_bench)["tail_engine"]) == {"tail_engines:Fickle"}
