"""Last year's runs are read with today's code; the file stays as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis import load_run
from analysis.report import write_report
from harness.errors import ResultsError
from harness.results.columns import SUMMARY
from harness.results.migrations import MIGRATIONS, migrate
from harness.results.schema import SCHEMA_VERSION
from harness.results.store import RunStore

GOLDEN = Path(__file__).parents[2] / "golden"


def golden(version: int, tmp_path: Path) -> Path:
    """Copy the kept run of a version: reading writes its tables anew."""
    return shutil.copytree(GOLDEN / f"schema-{version}", tmp_path / "run")


@pytest.mark.parametrize("version", sorted({version - 1 for version in MIGRATIONS}))
def test_there_is_a_run_of_every_earlier_version_and_it_is_read(version: int, tmp_path: Path) -> None:
    folder = golden(version, tmp_path)
    before = (folder / "run.json").read_bytes()
    run = load_run(folder)
    table = run.summary()
    assert list(table.columns) == [column.name for column in SUMMARY]
    assert set(table["status"]) == {"ok"}
    assert table["psnr_db"].notna().all()
    assert {"warmup", "head", "shipping"} <= set(run.samples()["loop"])
    assert run.estimates().empty == (run.file.config.survey == "none")
    assert (folder / "run.json").read_bytes() == before


def test_version_1_had_one_device_and_one_count_of_threads(tmp_path: Path) -> None:
    file = RunStore(golden(1, tmp_path)).file
    assert file.schema_version == SCHEMA_VERSION
    assert file.config.threads == (1,)
    assert [(entry.address, entry.link) for entry in file.devices] == [("local", "loopback")]
    assert {cell.affinity for cell in file.cells} == {"all"}


def test_a_run_of_version_2_gives_the_table_that_it_gave_then(tmp_path: Path) -> None:
    run = load_run(golden(2, tmp_path))
    expected = pd.read_csv(GOLDEN / "schema-2.csv").drop(columns="link")  # see below
    table = run.summary()
    pd.testing.assert_frame_equal(table[expected.columns], expected.astype(table.dtypes[expected.columns]))
    assert table["head_source"].value_counts().to_dict() == {"measured": 20, "profiled": 4}
    assert set(table["attack"]) == {"linear", "whitebox"}
    assert set(run.samples()["loop"]) == {"warmup", "head", "shipping", "profile", "survey"}
    assert len(run.estimates()) == 8


def test_version_2_told_an_emulated_device_by_its_label_and_a_shaped_link_by_the_same_word(tmp_path: Path) -> None:
    run = load_run(golden(2, tmp_path))
    assert {entry.label: entry.emulated for entry in run.file.devices} == {"local": False, "emulated": True}
    assert {entry.link for entry in run.file.devices} == {"40mbit/5ms over loopback (shaped)"}
    table = run.summary()
    assert set(table["link"]) == {"40mbit/5ms over loopback (shaped)"}
    assert (table["emulated"] == (table["device"] == "emulated")).all()
    assert not table["trained"].any()
    assert (run.estimates()["emulated"] == (run.estimates()["device"] == "emulated")).all()


def test_version_2_is_reported(tmp_path: Path) -> None:
    report = write_report(load_run(golden(2, tmp_path)), link="100mbit/1ms")
    names = ["chart-1-tiny_network-deeper-emulated.png", "chart-2-tiny_network-deeper-local.png"]
    assert [path.name for path in report.charts] == names
    page = report.html.read_text()
    assert page.count("Emulated device: its times mean nothing.") == 1
    assert "link 40mbit/5ms over loopback (shaped)" in page


@pytest.mark.parametrize("version", [1, 2])
def test_an_old_run_is_not_gone_on_with_and_stays_as_it_was(tmp_path: Path, version: int) -> None:
    store = RunStore(golden(version, tmp_path))
    before = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}
    with pytest.raises(ResultsError, match=rf"older splitbench \(schema {version}\).*start a new run"), store.locked():
        pass
    assert {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()} == before


def test_todays_content_is_left_alone() -> None:
    content = {"schema_version": SCHEMA_VERSION, "anything": 1}
    assert migrate(content) == content


def test_an_old_run_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    folder = golden(1, tmp_path)
    content = json.loads((folder / "run.json").read_text())
    del content["cells"]
    (folder / "run.json").write_text(json.dumps(content))
    with pytest.raises(ResultsError, match="damaged"):
        RunStore(folder)
