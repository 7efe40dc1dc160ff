"""Files are whole or not there, whoever else writes them now, and what a killed process left goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from device_runner.files import (
    holds,
    locked,
    partial_beside,
    remove_left_over,
    safe_name,
    scratch_beside,
    whole_file,
    write_whole,
)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b/c", "..", "", "package.module:Class"])
def test_names_from_outside_stay_in_the_folder(name: str) -> None:
    assert "/" not in safe_name(name)
    assert safe_name(name) not in ("", ".", "..")


def test_threads_may_write_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([i]) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda content: write_whole(path, content), contents))
            assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_processes_may_write_one_file_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from device_runner.files import write_whole\n"
        "for _ in range(100): write_whole(Path(sys.argv[1]), sys.argv[2].encode() * 1000)"
    )
    writing = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "file"), word]) for word in "ab"]
    assert [process.wait(60) for process in writing] == [0, 0]
    assert set((tmp_path / "file").read_text()) in ({"a"}, {"b"})


def write_half(path: Path) -> None:
    with path.open("w", encoding="ascii") as stream:
        stream.write("half")
        stream.write("ü")


def test_what_fails_half_way_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), whole_file(path) as partial:
        write_half(partial)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_scratch_folder_goes_unless_it_was_moved_into_place(tmp_path: Path) -> None:
    with scratch_beside(tmp_path / "new" / "folder") as scratch:
        (scratch / "file").touch()
        scratch.rename(tmp_path / "new" / "folder")
    with pytest.raises(FileNotFoundError), scratch_beside(tmp_path / "other") as scratch:
        (scratch / "missing").unlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "new"]


def test_what_the_killed_left_goes_and_what_others_write_now_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / "deep").mkdir()
    left = tmp_path / "deep" / partial_beside(tmp_path / "file").name.replace(str(os.getpid()), str(ended.pid))
    left.mkdir()
    (left / "half").touch()
    left.with_name(left.name.replace("file", "another")).touch()
    kept = [partial_beside(tmp_path / "file"), tmp_path / ".hidden.part", tmp_path / "whole"]
    for path in kept:
        path.touch()
    remove_left_over(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*")) == sorted([*kept, tmp_path / "deep"])


def test_a_lock_is_held_once_and_told_apart_from_those_of_others(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        assert holds(path)
        with pytest.raises(BlockingIOError), locked(path, wait=False):
            pass
        assert holds(path), "whoever was refused took nothing away"
    assert not holds(path)
    with locked(path, wait=False):
        pass


def test_a_lock_ends_with_its_process_not_with_that_process_s_children(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from device_runner.files import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    if not os.fork(): print(os.getpid(), flush=True)\n"  # the child: it has let go of the lock by then
        "    time.sleep(60)"
    )
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(BlockingIOError), locked(path, wait=False):
            pass
        holder.kill()
        holder.wait(60)
        with locked(path, wait=False):
            os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()
