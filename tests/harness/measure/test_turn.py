"""One has the turn, the others wait for it in line: threads of one harness, and harnesses of one workstation."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from device_runner.files import locked
from harness.errors import CalledOffError
from harness.measure import turn as module
from harness.measure.turn import Turn

FORK = multiprocessing.get_context("fork")
LIMIT_S = 30.0


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITBENCH_CACHE_DIR", str(tmp_path))


@pytest.fixture
def turn() -> Turn:
    return Turn()


@contextmanager
def threads(*targets: Callable[[], object]) -> Iterator[None]:
    """Run these side by side with the block; they have ended after it."""
    running = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in running:
        thread.start()
    yield
    for thread in running:
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def in_line(turn: Turn) -> int:
    return len(turn._line)


@contextmanager
def another_harness(hold: Callable[[], object] = lambda: None) -> Iterator[BaseProcess]:
    """A process that has the turn now, until `hold` returns, or for good."""
    taken = FORK.Event()

    def harness() -> None:
        with Turn().taken():
            taken.set()
            hold()

    other = FORK.Process(target=harness, daemon=True)
    other.start()
    assert taken.wait(LIMIT_S)
    try:
        yield other
    finally:
        other.kill()
        other.join()


def is_free() -> bool:
    """Whether another harness would get the turn now."""
    with suppress(BlockingIOError), locked(Turn()._lock, wait=False):
        return True
    return False


@pytest.fixture
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TELL_EVERY_S", 0.01)


def test_one_at_a_time_first_come_first_served(turn: Turn) -> None:
    had: list[int] = []
    inside: list[int] = []

    def take(number: int) -> None:
        with turn.taken():
            inside.append(number)
            time.sleep(0.005)
            assert inside == [number]
            inside.remove(number)
            had.append(number)

    running = []
    with turn.taken():
        for number in range(8):
            running.append(threading.Thread(target=take, args=(number,), daemon=True))
            running[-1].start()
            wait_until(lambda: in_line(turn) == len(running) + 1)
        assert had == []
    for thread in running:
        thread.join(LIMIT_S)
    assert had == list(range(8))


def test_who_comes_again_stands_behind_who_waits(turn: Turn) -> None:
    """Two devices whose rounds follow one another at once take turns."""
    had: list[str] = []
    begun = threading.Barrier(2)

    def rounds(name: str) -> None:
        begun.wait()
        for _ in range(20):
            with turn.taken():
                had.append(name)
                wait_until(lambda: in_line(turn) == 2 or len(had) > 20)

    with threads(lambda: rounds("a"), lambda: rounds("b")):
        pass
    assert had[:20] in (["a", "b"] * 10, ["b", "a"] * 10)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_it_is_given_back_however_the_block_ends(turn: Turn, error: type[BaseException]) -> None:
    with pytest.raises(error), turn.taken():
        raise error
    assert in_line(turn) == 0
    assert is_free()


@pytest.mark.usefixtures("told_at_once")
def test_who_waits_is_asked_in_between_and_may_leave(turn: Turn) -> None:
    asked: list[int] = []

    def leave() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise BrokenPipeError

    def wait() -> None:
        with pytest.raises(BrokenPipeError), turn.taken(leave):
            raise AssertionError

    with turn.taken():
        with threads(wait):
            pass
        assert (len(asked), in_line(turn)) == (3, 1)
    with turn.taken():
        pass


def test_nobody_is_asked_who_need_not_wait(turn: Turn) -> None:
    with turn.taken(lambda: pytest.fail("it was free")):
        pass


@pytest.mark.parametrize("who", ["thread", "harness"])
def test_ctrl_c_ends_the_waiting_at_once(turn: Turn, who: str) -> None:
    """The main thread waits; the signal comes when it stands in line, or before another harness's lock."""
    over = threading.Event()

    def hold() -> None:
        with turn.taken():
            over.wait(LIMIT_S)

    def interrupt() -> None:
        wait_until(lambda: in_line(turn) == (2 if who == "thread" else 1))
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    def wait() -> float:
        with threads(interrupt):
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt), turn.taken():
                raise AssertionError
        return time.monotonic() - began

    if who == "harness":
        with another_harness(signal.pause):
            assert wait() < 5
    else:
        with threads(hold):
            wait_until(lambda: in_line(turn) == 1)
            assert wait() < 5
            over.set()
    assert in_line(turn) == 0
    assert is_free()


def test_called_off_it_stays_with_who_has_it_and_nobody_gets_it(turn: Turn) -> None:
    ended: list[int] = []

    def wait() -> None:
        with pytest.raises(CalledOffError, match="--resume"), turn.taken():
            raise AssertionError
        ended.append(1)

    with turn.taken():
        with threads(wait, wait):
            wait_until(lambda: in_line(turn) == 3)
            turn.call_off()
        assert len(ended) == 2
        assert not is_free()
    with pytest.raises(CalledOffError), turn.taken():
        raise AssertionError
    assert is_free()


# several harnesses


@pytest.mark.usefixtures("told_at_once")
def test_another_harness_is_waited_for(turn: Turn) -> None:
    waits = FORK.Event()
    with another_harness(lambda: waits.wait(LIMIT_S)):
        assert not is_free()
        with turn.taken(waits.set):
            assert waits.is_set()
            assert not is_free()
    assert is_free()


def test_a_harness_that_is_killed_has_it_no_longer(turn: Turn) -> None:
    with another_harness(signal.pause) as other:
        other.kill()
        with turn.taken():
            pass


def test_a_harness_of_many_devices_lets_another_one_in_between(turn: Turn) -> None:
    """Its own threads stand in line all the time: the lock is free for microseconds."""
    begin, over = FORK.Event(), FORK.Event()
    had, meanwhile = FORK.Value("i", 0), FORK.Value("i", 0)

    def devices() -> None:
        while not over.is_set():
            with turn.taken():
                had.value += 1
                time.sleep(0.02)

    def harness() -> None:
        begin.wait(LIMIT_S)
        before = had.value
        for _ in range(3):
            with Turn().taken():
                pass
        meanwhile.value = had.value - before
        over.set()

    other = FORK.Process(target=harness, daemon=True)
    other.start()
    try:
        with threads(*[devices] * 3):
            wait_until(lambda: had.value > 3)
            begin.set()
            assert over.wait(LIMIT_S)
    finally:
        other.kill()
        other.join()
    assert meanwhile.value < 60


def test_a_process_that_outlives_its_harness_holds_nothing(turn: Turn) -> None:
    with turn.taken():
        left = FORK.Process(target=time.sleep, args=(LIMIT_S,), daemon=True)
        left.start()
    try:
        wait_until(is_free)
    finally:
        left.kill()
        left.join()
