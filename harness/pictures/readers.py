"""Reads picture files in processes that can be killed: a file that hangs or crashes its reader is left out alone."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from device_runner.errors import MachineError
from harness.pictures import decode
from harness.pictures.decode import LeftOutKind, Unusable

# A photograph of 200 megapixels takes some seconds; what takes longer than this is not decoded but stuck.
LIMIT_S = 20.0
_MOST_PROCESSES = 4
# Another process is started for so many files more.
_WORTH_A_PROCESS = 16
_START_LIMIT_S = 120.0
_COMMAND = (sys.executable, "-P", decode.__file__)


class Reader:
    """One decoding process, started when it is first needed, and anew after it was killed.

    Args:
        limit_s: the most seconds that one file may take.
    """

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._received = bytearray()

    def read(self, path: Path, smallest_side: int | None) -> np.ndarray:
        """As `harness.pictures.decode.decode`, but nothing in the file can hang or end this process.

        Raises:
            Unusable: the file gives no photograph.
            MachineError: no decoding process starts here.
        """
        process = self._process or self._start()
        assert process.stdin is not None  # noqa: S101 - a pipe
        deadline = time.monotonic() + self._limit_s
        try:
            process.stdin.write(json.dumps({"path": str(path), "smallest_side": smallest_side}).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(self._line(deadline))
            if "kind" in answer:
                raise Unusable(LeftOutKind(answer["kind"]), answer["detail"])
            shape = answer["shape"]
            return np.frombuffer(self._take(int(np.prod(shape)), deadline), np.uint8).reshape(shape)
        except TimeoutError as exc:
            self.close()
            raise Unusable(LeftOutKind.TOO_SLOW, f"more than {self._limit_s:.3g} s") from exc
        except (EOFError, BrokenPipeError) as exc:
            self.close()
            raise Unusable(LeftOutKind.DAMAGED, "it crashes Pillow") from exc

    def kill(self) -> None:
        """Let a `read` in another thread end now; close afterwards."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        self._received.clear()

    def _start(self) -> subprocess.Popen[bytes]:
        # S603: our own file, run by our own interpreter
        self._process = subprocess.Popen(  # noqa: S603
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            self._line(time.monotonic() + _START_LIMIT_S)
        except (TimeoutError, EOFError) as exc:
            self.close()
            raise MachineError(
                "the process that opens pictures does not start",
                remedy=f"run `{' '.join(_COMMAND)}` and see what it says",
            ) from exc
        return self._process

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._received:
            self._receive(deadline)
        return self._take(self._received.index(b"\n") + 1, deadline)

    def _take(self, count: int, deadline: float) -> bytes:
        while len(self._received) < count:
            self._receive(deadline)
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _receive(self, deadline: float) -> None:
        assert self._process is not None and self._process.stdout is not None  # noqa: S101, PT018 - started, a pipe
        pipe = self._process.stdout.fileno()
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        part = os.read(pipe, 2**20)
        if not part:
            raise EOFError
        self._received += part


class Readers:
    """Several decoding processes, and a thread for each of them.

    Args:
        count: how many files are decoded at once.
    """

    def __init__(self, count: int) -> None:
        self._readers = [Reader() for _ in range(count)]
        self._free: SimpleQueue[Reader] = SimpleQueue()
        for reader in self._readers:
            self._free.put(reader)
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="pictures")

    def read(self, path: Path, smallest_side: int | None) -> Future[np.ndarray | Unusable]:
        """The file's pixels or why it has none, as soon as they are there."""
        return self._pool.submit(self._read, path, smallest_side)

    def close(self) -> None:
        """Ends the processes, whatever they do; what was not begun is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for reader in self._readers:
            reader.kill()
        self._pool.shutdown()
        for reader in self._readers:
            reader.close()

    def _read(self, path: Path, smallest_side: int | None) -> np.ndarray | Unusable:
        reader = self._free.get()
        try:
            return reader.read(path, smallest_side)
        except Unusable as exc:
            return exc
        finally:
            self._free.put(reader)


def processes_for(files: int) -> int:
    """How many processes so many files are worth."""
    return max(1, min(_MOST_PROCESSES, os.cpu_count() or 1, files // _WORTH_A_PROCESS))


def read_files(paths: Sequence[Path], smallest_side: int | None) -> Generator[tuple[Path, np.ndarray | Unusable]]:
    """Each file with its pixels or the reason why it has none, in order; several are decoded at once.

    Close the iterator where it is not read to its end: the processes end with it.
    """
    count = processes_for(len(paths))
    ahead: deque[tuple[Path, Future[np.ndarray | Unusable]]] = deque()
    with closing(Readers(count)) as readers:
        for path in paths:
            ahead.append((path, readers.read(path, smallest_side)))
            if len(ahead) > 2 * count:
                done, result = ahead.popleft()
                yield done, result.result()
        while ahead:
            done, result = ahead.popleft()
            yield done, result.result()
