"""Work in forked processes: nothing that was finished is lost, whoever dies, and there are never too many."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from analysis.campaign.side_by_side import Ended, SideBySide
from device_runner.errors import UsageError

LONG_S = 60.0


def squares(most: int) -> Iterator[tuple[int, int]]:
    for number in range(1, most + 1):
        yield number**2, os.getpid()


def done(work: SideBySide[int, Any], *tasks: int, task_bytes: int = 1) -> list[tuple[int, object]]:
    finished: list[tuple[int, object]] = []
    with work:
        for task in tasks:
            finished += work.begin(task, task_bytes)
        finished += work.rest()
    return finished


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def test_all_results_of_all_tasks_come_each_tasks_in_order_from_processes_of_their_own() -> None:
    found = done(SideBySide(squares), 3, 0, 2, 4)
    for task in (3, 0, 2, 4):
        mine = [result for one, result in found if one == task and isinstance(result, tuple)]
        assert [square for square, _ in mine] == [number**2 for number in range(1, task + 1)]
        assert len({process for _, process in mine} | {os.getpid()}) == (2 if task else 1)
    assert len(found) == 9


def test_what_one_has_finished_is_had_before_another_ends() -> None:
    def work(seconds: float) -> Iterator[float]:
        time.sleep(seconds)
        yield seconds

    with SideBySide(work) as side_by_side:
        for seconds in (LONG_S, 0.0):
            assert not list(side_by_side.begin(seconds, 1))
        assert next(side_by_side.rest()) == (0.0, 0.0)


def test_a_process_that_is_killed_ends_its_task_alone_and_keeps_what_it_had_finished() -> None:
    def work(task: str) -> Iterator[str]:
        yield f"first of {task}"
        if task == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        yield f"second of {task}"

    with SideBySide(work) as side_by_side:
        found = [one for task in ("killed", "other") for one in side_by_side.begin(task, 1)]
        found += side_by_side.rest()
    assert [one for task, one in found if task == "killed"] == ["first of killed", Ended(-signal.SIGKILL)]
    assert [one for task, one in found if task == "other"] == ["first of other", "second of other"]


def test_an_error_of_ours_ends_the_work_here_as_well() -> None:
    def work(task: int) -> Iterator[int]:
        yield task
        raise UsageError(f"{task} is too much", remedy="ask for less")

    with pytest.raises(UsageError, match="3 is too much; ask for less"):
        done(SideBySide(work), 3)


def test_there_are_no_more_than_torch_has_threads_nor_than_memory_has_room_for(tmp_path: Path) -> None:
    def work(task: int) -> Iterator[int]:
        (tmp_path / f"{task}").touch()
        time.sleep(0.1)
        yield len(list(tmp_path.iterdir()))
        (tmp_path / f"{task}").unlink()

    for task_bytes, most in ((1, 2), (psutil.virtual_memory().total, 1)):
        side_by_side = SideBySide(work)
        with side_by_side:
            found = [one for task in range(4) for one in side_by_side.begin(task, task_bytes)]
            found += side_by_side.rest()
        assert max(together for _, together in found if isinstance(together, int)) == most


def test_ctrl_c_ends_them_and_reaches_none_of_them_by_itself(tmp_path: Path) -> None:
    def work(task: int) -> Iterator[int]:
        os.kill(os.getpid(), signal.SIGINT)  # as a terminal sends it to all
        (tmp_path / f"{os.getpid()}").touch()
        time.sleep(LONG_S)
        yield task

    def interrupted() -> None:
        with SideBySide(work) as side_by_side:
            for task in range(2):
                list(side_by_side.begin(task, 1))
            while len(list(tmp_path.iterdir())) < 2:
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not any(psutil.pid_exists(int(path.name)) for path in tmp_path.iterdir())


def test_they_end_when_the_parent_is_gone() -> None:
    """Each has the others' ends of no pipe: what it sends reaches nobody, and that ends it."""

    def work(task: int) -> Iterator[bytes]:
        del task
        while True:
            yield bytes(2**20)

    read, write = os.pipe()
    parent = os.fork()
    if not parent:
        side_by_side = SideBySide(work)
        for task in range(2):
            list(side_by_side.begin(task, 1))
        pids = [process.pid for process, _ in side_by_side._running.values()]
        os.write(write, " ".join(map(str, pids)).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    orphans = [psutil.Process(int(pid)) for pid in os.read(read, 100).split() if psutil.pid_exists(int(pid))]
    os.close(read)
    os.close(write)
    assert not psutil.wait_procs(orphans, timeout=20)[1]
