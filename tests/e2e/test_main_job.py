"""bench run, from photographs to the report."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from analysis import load_run
from harness.results.columns import SUMMARY
from tests.e2e.command import TINY, Bench

ASKED = ("run", TINY, "--input-size", "32", "--precision", "fp32,int8", "--iterations", "2", "--warmup", "1")
TOTAL_S = 3.0
AUTO = ("--attack-total", f"{TOTAL_S:g}s")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("main-job"))
    done = bench(*ASKED, *AUTO)
    assert done.returncode == 0, done.stderr
    return bench


def test_the_table_has_every_cell_verified_and_attacked(finished: Bench) -> None:
    table = load_run(finished.only_run).summary()
    assert list(table.columns) == [column.name for column in SUMMARY]
    assert set(table["status"]) == {"ok"}, table[["split", "status", "reason"]]
    assert set(table["precision"]) == {"fp32", "int8"}
    heads = table[table["split_index"] > 0]
    assert heads["verified"].all()
    assert (heads["head_p50_ms"] > 0).all()
    assert (heads["rounds"] == 5).all()
    assert (heads["iterations"] == 10).all()
    assert table["psnr_db"].notna().all()


def test_split_0_ships_the_picture_itself(finished: Bench) -> None:
    table = load_run(finished.only_run).summary()
    assert set(table.loc[table["split_index"] == 0, "attack"]) == {"linear"}
    reference = table[table["split_index"] == 0]
    assert (reference["head_p50_ms"] == 0).all()
    assert (reference["psnr_db"] == 60).all()
    assert (reference["activation_bytes"] == 3 * 32 * 32).all()


def test_int8_heads_ship_a_quarter_of_the_bytes(finished: Bench) -> None:
    table = load_run(finished.only_run).summary().query("attack == 'linear'").set_index(["precision", "split_index"])
    for index in {i for _, i in table.index} - {0}:
        assert table.loc[("int8", index), "activation_bytes"] * 4 == table.loc[("fp32", index), "activation_bytes"]


def test_random_weights_are_announced_everywhere(finished: Bench) -> None:
    done = finished("report")
    assert "RANDOM" in done.stdout.upper()
    assert "random weights" in (finished.only_run / "report.html").read_text().lower()
    assert load_run(finished.only_run).summary()["weights"].str.startswith("random").all()


def test_samples_hold_every_iteration_and_shipment(finished: Bench) -> None:
    run = load_run(finished.only_run)
    samples, table = run.samples(), run.summary().query("attack == 'linear'")
    counts = samples.groupby("loop").size()
    heads, cells = int((table["split_index"] > 0).sum()), len(table)
    assert counts["head"] == heads * 5 * 2
    assert counts["warmup"] == heads * 5 * 1
    assert counts["shipping"] == cells * 5 * 16
    assert not samples.duplicated(["cell", "round", "loop", "iteration"]).any()


def test_the_parts_explain_the_end_to_end_of_every_sample(finished: Bench) -> None:
    shipped = load_run(finished.only_run).samples().query("loop == 'shipping'")
    parts = shipped[[f"{part}_ns" for part in ("head", "encode", "transfer", "decode", "tail")]]
    assert parts.notna().all(axis=None)
    assert (parts >= 0).all(axis=None)
    assert (parts.sum(axis=1) / shipped["end_to_end_ns"] - 1).abs().max() <= 0.02


def test_by_default_a_stronger_attack_is_tried_within_its_total_and_what_was_not_is_told(finished: Bench) -> None:
    run = load_run(finished.only_run)
    table, records = run.summary(), run.store.journal.leakage().values()
    assert (table.query("split_index > 0 and attack == 'linear'").groupby("precision").size() > 1).all()
    cuts = {cell.hash for cell in run.file.cells if cell.split_index}
    assert {record.cell for record in records if record.attack != "linear"} == cuts, "tried, or with a reason"
    stronger = table[table["attack"] != "linear"]
    assert set(stronger["attack"]) <= {"spectral"}
    spent_s = sum(record.spent_s or 0.0 for record in records)
    assert (spent_s > 0) == (len(stronger) > 0)
    page = " ".join((finished.only_run / "report.html").read_text().split())
    for shown in (page, " ".join(finished("report").stdout.split())):
        assert shown.count("s of the total of 3 s went into it") == 2, "a sentence a precision"
        assert ("was not enough: --attack-total 30s" in shown) == (len(stronger) < len(cuts))


def test_csv_goes_to_standard_output_alone(finished: Bench) -> None:
    done = finished("report", "--csv", "-")
    table = pd.read_csv(io.StringIO(done.stdout))
    assert list(table.columns) == [column.name for column in SUMMARY]


def test_report_fits_100_columns_and_leaves_chart_and_page(finished: Bench) -> None:
    done = finished("report")
    assert max(len(line) for line in done.stdout.splitlines() if "/" not in line) <= 100
    with Image.open(finished.only_run / "chart.png") as chart:
        assert chart.width == 1200
    assert (finished.only_run / "report.html").stat().st_size > 100_000


def test_a_second_run_exports_nothing(finished: Bench, tmp_path: Path) -> None:
    programs = sorted((finished.folder / "exported_models").rglob("head.pte"))
    before = [path.stat().st_mtime_ns for path in programs]
    done = finished(*ASKED, "--attack", "linear", "--out", str(tmp_path / "again"))
    assert done.returncode == 0, done.stderr
    assert [path.stat().st_mtime_ns for path in programs] == before
    assert sorted((finished.folder / "exported_models").rglob("head.pte")) == programs


def test_dry_run_shows_cells_and_measures_nothing(bench: Bench) -> None:
    done = bench("run", TINY, "--input-size", "32", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "export s" in done.stdout
    assert not (bench.folder / "runs").exists()
    assert not (bench.folder / "exported_models").exists()


def test_splits_as_json_loads(bench: Bench) -> None:
    done = bench("splits", TINY, "--input-size", "32", "--split", "finest", "--json")
    points = json.loads(done.stdout)
    assert [point["index"] for point in points] == list(range(len(points)))
    assert points[0]["name"] == "picture"


def test_export_keeps_the_heads(bench: Bench) -> None:
    done = bench("export", TINY, "--input-size", "32", "--split", "2")
    assert done.returncode == 0, done.stderr
    programs = list((bench.folder / "exported_models").rglob("head.pte"))
    assert len(programs) == 1
    assert str(programs[0].relative_to(bench.folder)) in done.stdout
