"""bench run surveys first, and then measures: activations, estimates and what replaces them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from analysis import load_run
from tests.e2e.command import DEEPER, Bench

ASKED = ("run", DEEPER, "--input-size", "32", "--warmup", "1")
BOTH = (*ASKED, "--precision", "fp32,int8", "--attack", "linear")
QUICK = (*ASKED, "--attack", "tiny_attack:MeanPicture")


def summary(bench: Bench) -> pd.DataFrame:
    return load_run(bench.only_run).summary()


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("survey"))
    done = bench(*BOTH, "--survey")
    assert done.returncode == 0, done.stderr
    return bench


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("no-survey"))
    done = bench(*BOTH, "--no-survey")
    assert done.returncode == 0, done.stderr
    return bench


@pytest.fixture
def used_bench(bench: Bench, measured: Bench) -> Bench:
    """Give `bench` in a folder in which every head was exported before."""
    shutil.copytree(measured.exported_models, bench.exported_models)
    return bench


def test_a_survey_alone_gives_the_whole_curve_and_says_what_it_estimated(surveyed: Bench) -> None:
    table = summary(surveyed)
    assert set(table["status"]) == {"ok"}, table[["split", "status", "reason"]]
    assert table["psnr_db"].notna().all()
    assert table[table["split_index"] > 0]["verified"].all()
    profiled = table[table["head_source"] == "profiled"]
    assert (profiled["rounds"].fillna(0) == 0).all()
    assert (profiled["head_ci95_low_ms"] < profiled["head_p50_ms"]).all()
    assert (profiled["head_p50_ms"] < profiled["head_ci95_high_ms"]).all()
    for _, rows in table.groupby("precision"):
        assert 3 <= (rows["head_source"] == "measured").sum() - 1 <= 4  # the anchors, beside split 0
        assert (rows["head_source"] == "profiled").sum() == len(rows) - (rows["head_source"] == "measured").sum() > 0


def test_heads_run_until_their_medians_are_known_and_profiles_ten_times(surveyed: Bench) -> None:
    rounds = load_run(surveyed.only_run).store.journal.rounds().values()
    reports = {
        profiled: [r.report for r in rounds if r.report and r.profiled is profiled] for profiled in (True, False)
    }
    assert all(report.profile and len(report.profile.times_ns) == 10 for report in reports[True])
    counts = [len(report.run_ns) for report in reports[False] if report.warmup_ns]  # no head runs at split 0
    assert all(10 <= count <= 1000 for count in counts)


def test_it_takes_one_program_a_precision_and_the_anchors(surveyed: Bench) -> None:
    of_devices = surveyed.folder.glob("exported_models/*/*/*/reference.safetensors")  # parts of tails have none
    programs = [path.parent.parent.name for path in of_devices]
    assert programs.count("survey") == 2
    assert len(programs) < len(summary(surveyed)) - 2


def test_without_a_survey_every_head_is_measured_and_nothing_is_profiled(measured: Bench) -> None:
    assert not list(measured.only_run.glob("journal/surveys/*"))
    assert set(summary(measured)["head_source"]) == {"measured"}


def test_activations_and_leakage_are_those_of_single_heads(surveyed: Bench, measured: Bench) -> None:
    one, other = summary(surveyed), summary(measured)
    assert one["cell"].tolist() == other["cell"].tolist()
    np.testing.assert_allclose(one["psnr_db"], other["psnr_db"], atol=0.05)
    np.testing.assert_array_equal(one["wire_bytes"], other["wire_bytes"])
    for cell in one["cell"]:
        for path in sorted((surveyed.only_run / "activations" / cell).iterdir()):
            mine = load_file(path)["activation"].astype(np.float64)
            theirs = load_file(measured.only_run / "activations" / cell / path.name)["activation"].astype(np.float64)
            tolerance = 1.0 if load_file(path)["activation"].dtype == np.int8 else 1e-4 * max(1.0, np.abs(theirs).max())
            np.testing.assert_allclose(mine, theirs, atol=tolerance)


def test_a_resumed_survey_measures_nothing_more(surveyed: Bench) -> None:
    before = sorted(surveyed.only_run.glob("journal/*/*"))
    done = surveyed("run", "--resume")
    assert done.returncode == 0, done.stderr
    assert sorted(surveyed.only_run.glob("journal/*/*")) == before


def test_a_run_shows_its_survey_and_then_replaces_every_estimate(used_bench: Bench) -> None:
    done = used_bench(*QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report.html") == 2
    table = summary(used_bench)
    assert set(table["head_source"]) == {"measured"}
    assert (table[table["split_index"] > 0]["rounds"] == 5).all()
    assert set(table["status"]) == {"ok"}


def test_finest_surveys_everything_and_measures_where_a_head_can_end(used_bench: Bench) -> None:
    done = used_bench(*QUICK, "--split", "finest")
    assert done.returncode == 0, done.stderr
    table = summary(used_bench)
    assert set(table["status"]) == {"ok"}, table[["split", "status", "reason"]]
    assert set(table["head_source"]) == {"measured", "profiled"}
    assert table["psnr_db"].notna().all()


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_killed_at_any_moment_it_goes_on_and_doubles_nothing(used_bench: Bench, seed: int) -> None:
    rng = random.Random(seed)
    finished = ("journal/surveys", "journal/rounds", "journal/leakage")
    killed = 0
    process = used_bench.start(*QUICK)
    for wanted in sorted(rng.sample(range(1, 55), 3)):
        deadline = time.monotonic() + 120
        while process.poll() is None and _count(used_bench.folder, finished) < wanted:
            assert time.monotonic() < deadline, "nothing was finished"
            time.sleep(0.01)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        process = used_bench.start("run", "--resume")
    process.communicate(timeout=200)
    assert killed
    assert process.returncode == 0
    run = load_run(used_bench.only_run)
    table = run.summary()
    assert set(table["status"]) == {"ok"}, table[["split", "status", "reason"]]
    assert set(table["head_source"]) == {"measured"}
    assert not run.samples().duplicated(["cell", "round", "loop", "iteration"]).any()
    assert not run.leakage().duplicated(["cell", "attack", "picture"]).any()


def _count(folder: Path, journals: tuple[str, ...]) -> int:
    return sum(len(list(folder.glob(f"runs/*/{journal}/*.json"))) for journal in journals)
