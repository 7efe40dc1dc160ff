"""One conversation at a time: whatever this workstation does while times depend on it, it does in turns."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from device_runner.cache import cache_folder, make_cache_folder
from device_runner.files import locked
from harness.errors import CalledOffError

TELL_EVERY_S = 2.0
_ASK_EVERY_S = 0.05  # another harness's lock; seldom, and nothing to who is being timed


class Turn:
    """The right to use this workstation while something is timed that another's use of it would slow down.

    To ship to it takes the turn, and so does all else that would disturb who ships: computing on it, verifying, sending
    files. Threads that share a Turn get it in the order in which they came. Harnesses of one user get it through two
    locks in the cache, which go with a process: who is next holds the second one, so that a harness of many devices
    lets another one in between. A thread that has the turn must not take it again.

    Raises:
        MachineError: the cache cannot be written.
    """

    def __init__(self) -> None:
        folder = cache_folder()
        make_cache_folder(folder)
        self._lock, self._next_lock = folder / "turn.lock", folder / "turn-next.lock"
        self._changed = threading.Condition()
        self._line: deque[object] = deque()
        self._called_off = False

    @contextmanager
    def taken(self, while_waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Wait for the turn, and have it while the block runs.

        Args:
            while_waiting: called every few seconds of waiting; what it raises ends that.

        Raises:
            CalledOffError: the turn was called off before it was had.
        """
        with self._first_in_line(while_waiting), self._first_of_harnesses(while_waiting):
            yield

    def call_off(self) -> None:
        """Let nobody have it any more: who waits, and who comes later, is told; who has it keeps it."""
        with self._changed:
            self._called_off = True
            self._changed.notify_all()

    @contextmanager
    def _first_in_line(self, while_waiting: Callable[[], object]) -> Iterator[None]:
        ticket = object()
        try:
            with self._changed:
                self._line.append(ticket)
            self._wait(lambda: self._line[0] is ticket, TELL_EVERY_S, while_waiting)
            yield
        finally:
            with self._changed:
                if ticket in self._line:  # Ctrl-C may come before
                    self._line.remove(ticket)
                self._changed.notify_all()

    @contextmanager
    def _first_of_harnesses(self, while_waiting: Callable[[], object]) -> Iterator[None]:
        with ExitStack() as turn:
            with ExitStack() as next_turn:
                self._wait(lambda: _entered(next_turn, self._next_lock), _ASK_EVERY_S, while_waiting)
                self._wait(lambda: _entered(turn, self._lock), _ASK_EVERY_S, while_waiting)
            yield

    def _wait(self, is_so: Callable[[], bool], ask_every_s: float, while_waiting: Callable[[], object]) -> None:
        told = time.monotonic()
        while True:
            with self._changed:
                if self._called_off:
                    raise CalledOffError("the run is ending", remedy="finish it with --resume")
                if is_so():
                    return
                self._changed.wait(ask_every_s)
            if time.monotonic() - told >= TELL_EVERY_S:
                while_waiting()
                told = time.monotonic()


def _entered(stack: ExitStack, lock: Path) -> bool:
    """Whether the lock was free: the stack holds it then."""
    try:
        stack.enter_context(locked(lock, wait=False))
    except BlockingIOError:
        return False
    return True
