"""Work in forked processes side by side, each on one core, within the machine's memory."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Generic, Self, TypeVar

import psutil
import torch

from device_runner.errors import SplitbenchError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Ended:
    """A process that ended before its work was done, with this status."""

    status: int


class SideBySide(Generic[TaskT, ResultT]):
    """Does tasks in processes of their own: what was finished is had at once, while others go on.

    Processes are forked, not spawned: what a task works on is there at once, and shared. There are no more of them than
    threads that torch would use, for each has one. Ctrl-C, or an error in the block, ends them.

    Args:
        work: gives a task's results, one after the other, in a form that is pickled. A `SplitbenchError` that it raises
            is raised here.
    """

    def __init__(self, work: Callable[[TaskT], Iterable[ResultT]]) -> None:
        self._work = work
        self._running: dict[Connection, tuple[BaseProcess, TaskT]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for connection, (process, _) in self._running.items():
            process.kill()
            process.join()
            connection.close()
        self._running.clear()

    def begin(self, task: TaskT, task_bytes: int) -> Iterator[tuple[TaskT, ResultT | Ended]]:
        """Begin a task once there is room for it, in `task_bytes` of memory; yields what is finished meanwhile."""
        while self._running and not self._has_room(task_bytes):
            yield from self._received()
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=self._serve, args=(task, theirs, [ours, *self._running]), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python >= 3.12 warns of threads; the child uses none
            process.start()
        theirs.close()
        self._running[ours] = (process, task)

    def rest(self) -> Iterator[tuple[TaskT, ResultT | Ended]]:
        """What is not finished yet, until everything is."""
        while self._running:
            yield from self._received()

    def _has_room(self, task_bytes: int) -> bool:
        # Of those that have just begun not all is in memory yet.
        needed = task_bytes * (1 + len(self._running))
        return len(self._running) < torch.get_num_threads() and needed < psutil.virtual_memory().available

    def _received(self) -> Iterator[tuple[TaskT, ResultT | Ended]]:
        for connection in wait(list(self._running)):
            assert isinstance(connection, Connection)  # noqa: S101 - it was waited for
            process, task = self._running[connection]
            try:
                result = connection.recv()
            except (EOFError, OSError):
                del self._running[connection]
                connection.close()
                process.join()
                if process.exitcode:
                    yield task, Ended(process.exitcode)
                continue
            if isinstance(result, SplitbenchError):
                raise result
            yield task, result

    def _serve(self, task: TaskT, results: Connection, inherited: Iterable[Connection]) -> None:
        """The body of a forked process.

        Args:
            inherited: the other side's ends of this and earlier pipes; one that stays open would hide that it is gone.
        """
        for connection in inherited:
            connection.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
        torch.set_num_threads(1)  # the parent's OpenMP threads do not exist here
        gc.freeze()
        with suppress(ConnectionError):  # the parent is gone
            try:
                for result in self._work(task):
                    results.send(result)
            except SplitbenchError as exc:
                results.send(exc)


def gradients_survive_fork() -> bool:
    """Whether a process that is forked now can compute gradients, which is found out by trying.

    It cannot where torch has started threads for gradients: they do not exist there.
    """
    process = multiprocessing.get_context("fork").Process(target=_try_gradients, daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    process.join()
    return process.exitcode == 0


def _try_gradients() -> None:
    torch.set_num_threads(1)
    try:
        with torch.enable_grad():
            torch.ones(1, requires_grad=True).square().sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError:
        sys.exit(1)
