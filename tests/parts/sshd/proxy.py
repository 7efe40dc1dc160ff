"""A connection that can be slow, silent or cut: a TCP proxy in a process of its own, so that it shares no interpreter.

As a program: `proxy.py PORT BYTES_PER_SECOND` (0: no limit) forwards to PORT on loopback, says which port is its own,
and obeys the lines on its standard input: `cut N`, `silence N` (after N more bytes, to or fro), `forward 0`
(connections that are made from now on).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_CHUNK_BYTES = 2**14
_BUFFER_BYTES = 2**18  # a link's buffers: small, or its rate would not show
_CATCH_UP_S = 0.02  # sleeping takes longer than asked for: so much may be made up for, or the rate would be too low


class Proxy:
    """A proxy that runs; `port` is on loopback."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        self._process = process
        self.port = int(process.stdout.readline())

    def cut(self, *, after: int = 0) -> None:
        """Reset the connections that are open once so many more bytes went to or fro; new ones are accepted."""
        self._order(f"cut {after}")

    def silence(self, *, after: int = 0) -> None:
        """Then forward nothing any more, and close nothing: a cable pulled out."""
        self._order(f"silence {after}")

    def forward(self) -> None:
        """Forward what new connections send; a silent one stays silent."""
        self._order("forward 0")

    def _order(self, words: str) -> None:
        assert self._process.stdin
        assert self._process.stdout
        print(words, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n"


@contextlib.contextmanager
def proxy(port: int, *, bytes_per_second: float = 0) -> Iterator[Proxy]:
    """Forward a new port to `port` until the end of the block."""
    command = [sys.executable, str(Path(__file__)), str(port), str(bytes_per_second)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Proxy(process)
        finally:
            process.kill()


class _Pace:
    """A token bucket: when the next bytes may go."""

    def __init__(self, bytes_per_second: float) -> None:
        self._seconds_per_byte = 1 / bytes_per_second if bytes_per_second else 0.0
        self._due = 0.0

    def wait(self, count: int) -> None:
        now = time.monotonic()
        self._due = max(self._due, now - _CATCH_UP_S) + count * self._seconds_per_byte
        if self._due > now:
            time.sleep(self._due - now)


class _Forwarding:
    def __init__(self, target: int, bytes_per_second: float) -> None:
        self._target, self._bytes_per_second = target, bytes_per_second
        self._open: list[socket.socket] = []
        self._order, self._left = "forward", 0

    def serve(self, listener: socket.socket) -> None:
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                    source.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def obey(self, order: str, after: int) -> None:
        self._order, self._left = order, after
        if order == "cut" and after == 0:
            self._cut()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        pace = _Pace(self._bytes_per_second)
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                pace.wait(len(chunk))
                self._left -= len(chunk)
                if self._order == "cut" and self._left < 0:
                    self._cut()
                if self._order == "silence" and self._left < 0:
                    return
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)

    def _cut(self) -> None:
        self._order = "forward"
        for side in self._open:
            with contextlib.suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                side.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
                side.close()
        self._open.clear()


def main() -> None:
    forwarding = _Forwarding(int(sys.argv[1]), float(sys.argv[2]))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=forwarding.serve, args=(listener,), daemon=True).start()
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        for line in sys.stdin:
            order, after = line.split()
            forwarding.obey(order, int(after))
            sys.stdout.write("done\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
