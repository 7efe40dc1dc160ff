"""Where the caches lie, and what is said where they cannot be written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from device_runner.bundle import build_bundle
from device_runner.cache import cache_folder, make_cache_folder
from device_runner.errors import MachineError

REMEDY = "set SPLITBENCH_CACHE_DIR to a folder that can be written"


def test_the_folder_that_was_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITBENCH_CACHE_DIR", "~/kept")
    monkeypatch.setenv("HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/kept")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HOME", "/proc"),
        ("HOME", "/proc/nobody"),
        ("HOME", "/dev/null"),
        ("XDG_CACHE_HOME", "/dev/null"),
        ("SPLITBENCH_CACHE_DIR", "/dev/null/cache"),
        ("SPLITBENCH_CACHE_DIR", "/proc/cache"),
        ("SPLITBENCH_CACHE_DIR", "/dev/null"),
    ],
)
def test_a_cache_that_cannot_be_written_is_one_line_with_a_remedy_of_its_own(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SPLITBENCH_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(MachineError, match=r"the cache .* cannot be written") as told:
        build_bundle("host")
    assert told.value.remedy == REMEDY
    assert "\n" not in str(told.value)


def test_a_home_of_nobody_is_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLITBENCH_CACHE_DIR", "~nobody_of_this_name/cache")
    assert cache_folder() == tmp_path / "~nobody_of_this_name/cache"


def test_a_disk_without_room_is_told_apart(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = "size=4k,nr_inodes=1"  # its root takes the only one
    assert os.getuid() == 0, "this test needs to be root: it mounts a small disk"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)
    try:
        with pytest.raises(MachineError, match="No space left") as told:
            make_cache_folder(disk / "cache")
        assert told.value.remedy == f"free some space, or {REMEDY}"
    finally:
        subprocess.run(["umount", str(disk)], check=True)
