"""run.log holds the calls before the run had a folder and those after, and never ends a run."""

from __future__ import annotations

from pathlib import Path

from device_runner.devices.local import Local
from harness.results.run_log import run_log


def call(word: str) -> None:
    Local("local").call(["true", word], timeout_s=10)


def test_calls_before_and_after_the_folder_are_kept_in_their_order(tmp_path: Path) -> None:
    call("unheard")
    with run_log() as log:
        call("first")
        log.write_to(tmp_path)
        call("second")
    call("unheard")
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["first", "second"]


def test_a_run_that_goes_on_adds_to_it(tmp_path: Path) -> None:
    for word in ("first", "second"):
        with run_log() as log:
            log.write_to(tmp_path)
            call(word)
    assert len((tmp_path / "run.log").read_text().splitlines()) == 2


def test_a_folder_that_cannot_be_written_costs_the_log_alone(tmp_path: Path) -> None:
    with run_log() as log:
        log.write_to(tmp_path / "nowhere")
        call("lost")
    assert not (tmp_path / "nowhere").exists()
