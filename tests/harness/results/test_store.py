"""A run's folder: whole files only, one line for damage, every sample once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from device_runner.report import OutputReport, RunnerReport, Shipment, Verification
from harness.errors import ResultsError
from harness.results.columns import LEAKAGE, ROUNDS, SAMPLES, arrow_schema
from harness.results.files import locked, write_whole
from harness.results.schema import (
    SCHEMA_VERSION,
    DeviceEntry,
    LeakageRecord,
    RoundRecord,
    RunConfig,
    RunFile,
)
from harness.results.store import RunStore, find_run
from tests.parts.cells import head_round
from tests.parts.surveys import survey_report, survey_shipment

FILE = RunFile(
    run_id="run",
    created="2026-01-01T00:00:00+00:00",
    config=RunConfig(
        models=("tiny",),
        split="all",
        devices=("local",),
        precisions=("fp32",),
        input_size=(32, 32),
        attacks=("linear",),
        pictures="builtin",
        weights="random",
        seed=0,
    ),
    environment={},
    pictures="two",
    pictures_sha256="00",
    held_out=("000-cat", "001-cup"),
    held_out_sources=("cat", "cup"),
    notices=(),
    devices=(DeviceEntry(address="local", label="local", emulated=False, link="loopback"),),
    cells=(),
)
VERIFIED = Verification(max_abs_err=1e-6, cosine=1.0, passed=True)
SHIPMENTS = [
    Shipment(picture=i, head_ns=1, transfer_ns=2, tail_ns=3, end_to_end_ns=7, wire_bytes=100) for i in range(2)
]
REPORT = RunnerReport(
    load_ns=5,
    outputs=[OutputReport(dtype="F32", shape=(1, 8), verification=VERIFIED, shipments=SHIPMENTS)],
    warmup_ns=[30],
    run_ns=[10, 11],
    peak_rss_bytes=1000,
    threads=1,
)
LEAKED = LeakageRecord(
    cell="c0",
    attack="linear",
    status="ok",
    psnr_db=(20.0, 30.0),
    ssim=(0.5, 0.6),
    floor_psnr_db=(12.0, 12.0),
    oracle_psnr_db=(13.0, 13.0),
    agreement=(True, False),
)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "run", FILE)


def test_what_is_kept_is_read_back(store: RunStore) -> None:
    record = head_round("c0", round=1, report=REPORT)
    store.journal.keep_round(record)
    store.journal.keep_leakage(LEAKED)
    again = RunStore(store.folder)
    assert again.journal.rounds() == {("c0", 1): record}
    assert again.journal.leakage() == {("c0", "linear"): LEAKED}
    assert again.file == FILE


def test_tables_hold_every_sample_once_in_the_schema(store: RunStore) -> None:
    for round_ in range(3):
        store.journal.keep_round(head_round("c0", round=round_, report=REPORT))
    store.journal.keep_leakage(LEAKED)
    store.compact()
    samples = pq.read_table(store.folder / "samples.parquet")
    assert samples.schema.equals(arrow_schema(SAMPLES), check_metadata=False)
    assert samples.schema.metadata[b"splitbench_schema"] == str(SCHEMA_VERSION).encode()
    frame = samples.to_pandas()
    assert frame.groupby("loop").size().to_dict() == {"head": 6, "shipping": 6, "warmup": 3}
    assert not frame.duplicated(["cell", "round", "loop", "iteration"]).any()
    assert list(frame[frame["loop"] == "shipping"]["picture"].unique()) == ["000-cat", "001-cup"]
    assert pq.read_table(store.folder / "rounds.parquet").schema.names == [c.name for c in ROUNDS]
    leakage = pq.read_table(store.folder / "leakage.parquet")
    assert leakage.schema.names == [c.name for c in LEAKAGE]
    assert leakage.to_pandas()["psnr_db"].tolist() == [20.0, 30.0]


def surveyed(*operators: str) -> RoundRecord:
    """A survey of two splits: the first after one convolution and its transpose, the last after both products."""
    shipment = survey_shipment(1, 2, 3, 100, encode_ns=4, decode_ns=5)
    report = survey_report(2, operators, [[10, 1, 30], [20, 3, 40]], shipment)
    return RoundRecord(
        work="s",
        round=1,
        status="ok",
        cells=("c0", "c1"),
        operators=({"product": 1}, {"product": 2}),
        maps=(True, False),
        report=report,
    )


def test_every_shipment_and_every_profiled_iteration_of_a_survey_is_a_sample(store: RunStore) -> None:
    store.journal.keep_round(surveyed("Convolution #1", "Transpose #1", "Fully Connected #1"))
    samples = store.table("samples").to_pandas()
    assert samples["round"].tolist() == [1] * 6
    shipped, profile = samples[samples["loop"] == "survey"], samples[samples["loop"] == "profile"]
    parts = {"encode_ns": 4, "transfer_ns": 2, "decode_ns": 5, "tail_ns": 3}
    for column, values in {"picture": "001-cup", "wire_bytes": 100, **parts}.items():
        assert shipped[column].tolist() == [values] * 2
        assert profile[column].isna().all()
    assert shipped["head_ns"].isna().all()
    assert samples["end_to_end_ns"].isna().all()
    found = {cell: rows["head_ns"].tolist() for cell, rows in profile.groupby("cell")}
    assert found == {"c0": [11, 23], "c1": [40, 60]}
    assert not samples.duplicated(["cell", "round", "loop", "iteration"]).any()


def test_a_profile_that_cannot_be_read_leaves_the_shipments(store: RunStore) -> None:
    unreadable = surveyed("Clamp", "Clamp", "Clamp")
    store.journal.keep_round(unreadable)
    store.journal.keep_round(unreadable.model_copy(update={"round": 2, "status": "failed", "report": None}))
    assert set(store.table("samples").to_pandas()["loop"]) == {"survey"}


def test_compacting_twice_doubles_nothing(store: RunStore) -> None:
    store.journal.keep_round(head_round("c0", round=0, report=REPORT))
    store.compact()
    first = (store.folder / "samples.parquet").read_bytes()
    store.compact()
    assert (store.folder / "samples.parquet").read_bytes() == first


def test_an_empty_run_has_empty_tables(store: RunStore) -> None:
    assert store.table("samples").num_rows == 0
    assert store.table("samples").schema.names == [c.name for c in SAMPLES]


def test_failures_are_forgotten_and_successes_are_not(store: RunStore) -> None:
    store.journal.keep_round(head_round("good", round=0, report=REPORT))
    store.journal.keep_round(head_round("bad", status="failed", reason="lost"))
    store.journal.keep_leakage(LEAKED)
    store.journal.keep_leakage(LEAKED.model_copy(update={"cell": "c1", "status": "failed"}))
    store.journal.forget_failures()
    assert set(store.journal.rounds()) == {("good", 0)}
    assert set(store.journal.leakage()) == {("c0", "linear")}


def test_a_folder_never_holds_two_runs(store: RunStore) -> None:
    with pytest.raises(ResultsError, match="holds a run already"):
        RunStore.create(store.folder, FILE)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"run_id": 3}', b"\xff\xfe"])
def test_a_damaged_run_is_one_line(store: RunStore, content: bytes) -> None:
    (store.folder / "run.json").write_bytes(content)
    with pytest.raises(ResultsError) as caught:
        RunStore(store.folder)
    assert "run.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_newer_run_says_upgrade(store: RunStore) -> None:
    newer = {**FILE.model_dump(mode="json"), "schema_version": SCHEMA_VERSION + 1, "a_field_of_tomorrow": [1]}
    (store.folder / "run.json").write_text(json.dumps(newer))
    with pytest.raises(ResultsError, match="upgrade"):
        RunStore(store.folder)


def test_runs_are_found_by_path_name_or_as_the_newest(tmp_path: Path) -> None:
    first = RunStore.create(tmp_path / "runs" / "2026-01-01-resnet18", FILE)
    second = RunStore.create(tmp_path / "runs" / "2026-01-02-vgg16", FILE)
    os.utime(first.folder / "run.json", (1, 1))
    assert find_run(None, tmp_path / "runs") == second.folder
    assert find_run("2026-01-01-resnet18", tmp_path / "runs") == first.folder
    assert find_run(first.folder, tmp_path / "runs") == first.folder
    with pytest.raises(ResultsError, match="did you mean 2026-01-01-resnet18"):
        find_run("2026-01-01-resnet81", tmp_path / "runs")
    with pytest.raises(ResultsError, match="bench run"):
        find_run(None, tmp_path / "nowhere")


def test_a_killed_writer_leaves_whole_files_only(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from harness.results.files import write_whole\n"
        "for i in range(10**9): write_whole(Path(sys.argv[1]) / f'{i % 7}', bytes([i % 251]) * 300_000)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("[0-9]"))) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    files = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert len(files) == 7
    for path in files:
        content = path.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False)
    assert mounted.returncode == 0, "this test needs to be root: it mounts a small disk"
    try:
        write_whole(disk / "file", b"old")
        with pytest.raises(ResultsError, match="free disk space"):
            write_whole(disk / "file", bytes(2**20))
        assert (disk / "file").read_bytes() == b"old"
        assert [path.name for path in disk.iterdir()] == ["file"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_activation_is_kept_as_it_came_and_the_latest_stays(store: RunStore) -> None:
    for payload in (b"first", b"first", b"later"):
        store.keep_activation("c0ffee", 3, payload)
        assert store.activation_path("c0ffee", 3).read_bytes() == payload
    assert [path.name for path in store.activation_path("c0ffee", 3).parent.iterdir()] == ["3.safetensors"]


def test_a_folder_that_cannot_be_made_is_one_line(store: RunStore) -> None:
    (store.folder / "activations").rmdir()
    (store.folder / "activations").touch()
    with pytest.raises(ResultsError, match=r"cannot write .*; free disk space"):
        store.keep_activation("c0ffee", 0, b"payload")


def test_reading_a_run_writes_nothing(store: RunStore) -> None:
    store.journal.keep_leakage(LEAKED)
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
    assert RunStore(store.folder).table("leakage").num_rows == 2
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")} == before


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"7", b'"x"', b"{}", b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("place", ["rounds/c0-0", "rounds/s0-0", "leakage/c0-linear"])
def test_a_damaged_file_of_the_journal_is_named_and_without_it_the_rest_is_read(
    store: RunStore, place: str, content: bytes
) -> None:
    store.journal.keep_round(head_round("c0", round=1, report=REPORT))
    path = store.folder / "journal" / f"{place}.json"
    path.write_bytes(content)
    journal = RunStore(store.folder).journal
    with pytest.raises(ResultsError, match=re.escape(f"{path} is damaged")) as told:
        [journal.rounds(), journal.leakage()]
    assert "\n" not in str(told.value)
    assert "delete that file, then --resume" in told.value.remedy
    path.unlink()
    assert set(RunStore(store.folder).journal.rounds()) == {("c0", 1)}


def test_records_of_other_pictures_or_under_another_name_are_refused(store: RunStore) -> None:
    shipment = SHIPMENTS[0].model_copy(update={"picture": 2})
    output = REPORT.outputs[0].model_copy(update={"shipments": [shipment]})
    foreign = REPORT.model_copy(update={"outputs": [output]})
    store.journal.keep_round(head_round("c0", round=0, report=foreign))
    with pytest.raises(ResultsError, match=r"c0-0\.json does not belong to this run; delete that file"):
        RunStore(store.folder).journal.rounds()
    one = {"psnr_db": (1.0,), "ssim": (1.0,), "floor_psnr_db": (1.0,), "oracle_psnr_db": (1.0,), "agreement": (True,)}
    store.journal.keep_leakage(LEAKED.model_copy(update=one))
    with pytest.raises(ResultsError, match="does not belong to this run"):
        RunStore(store.folder).journal.leakage()
    store.journal.keep_leakage(LEAKED)
    (store.folder / "journal/leakage/c0-linear.json").rename(store.folder / "journal/leakage/c1-linear.json")
    with pytest.raises(ResultsError, match="does not belong to this run"):
        RunStore(store.folder).journal.leakage()


def test_figures_of_different_numbers_of_pictures_are_damage(store: RunStore) -> None:
    store.journal.keep_leakage(LEAKED.model_copy(update={"ssim": (0.5,)}))
    with pytest.raises(ResultsError, match="figures are of different numbers of pictures"):
        RunStore(store.folder).journal.leakage()
    written = json.loads((store.folder / "run.json").read_text())
    (store.folder / "run.json").write_text(json.dumps(written | {"held_out": ["000-cat"]}))
    with pytest.raises(ResultsError, match="sources differ in number; put back a copy of it"):
        RunStore(store.folder)


def test_a_folder_that_cannot_be_written_is_not_called_full() -> None:
    with pytest.raises(ResultsError, match="can be written"):
        write_whole(Path("/proc/nothing/x.json"), b"")
    with (
        pytest.raises(ResultsError, match=r"/proc cannot be written: .*; make it writable, or copy it"),
        locked(Path("/proc"), "another process"),
    ):
        pass


@pytest.mark.parametrize("name", ["run", "run/run.json", "nowhere", "dangling", "", "x" * 5000, "a\0b"])
def test_what_is_no_folder_of_a_run_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").write_text("a file")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ResultsError, match="no run"):
        find_run(tmp_path / name, tmp_path)


@pytest.mark.parametrize("name", ["x" * 5000, "file", "file/run"])
def test_a_folder_that_cannot_be_made_names_the_option(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"cannot write to .*; name another folder with --out"):
        RunStore.create(tmp_path / name, FILE)


def test_a_link_to_a_run_is_the_run(store: RunStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.folder)
    assert RunStore(find_run("link", tmp_path)).file == FILE
