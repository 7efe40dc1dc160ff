"""A command on Android, through its shell protocol (version 2): packets of kind, length, data over what adb has opened.

adbutils speaks it too, but gives the command no input, and limits the time of each read instead of the whole command's.
"""

from __future__ import annotations

import os
import select
import shlex
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from device_runner.devices.base import Completed

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_PACKET = struct.Struct("<BI")
_READ_BYTES = 2**18
_STDIN_BYTES = 2**16

# What the trap prints tells a command that cannot be started from one that ends with the same status; Android's shell
# also springs it after a command of its own ("exec test").
_NOT_STARTED = b"splitbench: not started\n"
_START = f"echo $$; trap 'case $? in 126|127) echo {_NOT_STARTED.decode().strip()} >&2; esac' EXIT; exec "


class TimeIsOver(Exception):  # noqa: N818 - adb.py turns it into an error that says of what
    """A command has not ended, or nothing has moved, for as long as was allowed."""


def request(argv: Sequence[str]) -> bytes:
    """What the adb server is asked for: the command, after a line that tells which processes to end if need be."""
    return b"shell,v2,raw:" + _START.encode() + os.fsencode(shlex.join(argv))


@dataclass
class Conversation:
    """A command's input and what has come of it so far, which outlives a lost connection or the end of its time.

    Args:
        stdin: pieces of input, each as `pieces` cuts them.
        on_stdout: takes the standard output as it comes; by default it is kept in `stdout`.

    Attributes:
        process: the number of the command's process, and of the group of all that it starts; empty before it starts.
        status: the exit status; None while it runs.
    """

    stdin: Iterator[bytes] = field(default_factory=lambda: iter(()))
    on_stdout: Callable[[bytes], object] | None = None
    process: str = ""
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    status: int | None = None

    def hold(self, connection: socket.socket, time_left: Callable[[], float]) -> None:
        """Send the input and take everything in, both at once, until the command has ended.

        Args:
            connection: `request` has been accepted on it.
            time_left: for how many seconds nothing may move; asked before each wait.

        Raises:
            TimeIsOver: no time is left.
            EOFError, ConnectionError: the connection was lost.
        """
        outgoing = self._packets()
        pending = memoryview(next(outgoing))
        incoming = bytearray()
        connection.setblocking(False)
        while self.status is None:
            readable, writable = _wait(connection, to_write=bool(pending), timeout_s=time_left())
            if readable:
                self._take(connection.recv(_READ_BYTES), incoming)
            if writable and self.status is None:
                try:
                    pending = pending[connection.send(pending) :] or memoryview(next(outgoing, b""))
                except ConnectionError:
                    pending = memoryview(b"")  # nobody reads on; why, is still to be read

    @property
    def why_not_started(self) -> str | None:
        """Why the command could not be started; None where it was."""
        if not self.stderr.endswith(_NOT_STARTED):
            return None
        complaint = bytes(self.stderr.removesuffix(_NOT_STARTED))
        return Completed(self.status or 0, b"", complaint).said.rpartition(": ")[2]

    def _packets(self) -> Iterator[bytes]:
        for piece in self.stdin:
            yield _PACKET.pack(_STDIN, len(piece)) + piece
        yield _PACKET.pack(_CLOSE_STDIN, 0)

    def _take(self, data: bytes, incoming: bytearray) -> None:
        if not data:
            raise EOFError("in the middle of a command")
        incoming += data
        start = 0
        while self.status is None and len(incoming) - start >= _PACKET.size:
            kind, length = _PACKET.unpack_from(incoming, start)
            end = start + _PACKET.size + length
            if len(incoming) < end:
                break
            self._take_packet(kind, bytes(incoming[start + _PACKET.size : end]))
            start = end
        del incoming[:start]

    def _take_packet(self, kind: int, content: bytes) -> None:
        if kind == _STDOUT:
            self._take_stdout(content)
        elif kind == _STDERR:
            self.stderr += content
        elif kind == _EXIT:
            self.status = content[0]

    def _take_stdout(self, content: bytes) -> None:
        if not self.process:
            self.stdout += content
            first, end, content = bytes(self.stdout).partition(b"\n")
            if not end:
                return
            self.process = first.decode(errors="replace")
            self.stdout.clear()
        (self.on_stdout or self.stdout.extend)(content)


def pieces(data: bytes) -> Iterator[bytes]:
    """Cut input into what a packet holds."""
    return (data[start : start + _STDIN_BYTES] for start in range(0, len(data), _STDIN_BYTES))


def until(end: float) -> Callable[[], float]:
    """The time that is left until a moment of the monotonic clock."""
    return lambda: end - time.monotonic()


def _wait(connection: socket.socket, *, to_write: bool, timeout_s: float) -> tuple[bool, bool]:
    poll = select.poll()
    poll.register(connection, select.POLLIN | (select.POLLOUT if to_write else 0))
    events = poll.poll(timeout_s * 1000) if timeout_s > 0 else []
    if not events:
        raise TimeIsOver
    found = events[0][1]
    return bool(found & (select.POLLIN | select.POLLHUP | select.POLLERR)), bool(found & select.POLLOUT)
