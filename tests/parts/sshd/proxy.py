"""A connection that can be slow, silent or cut: a TCP proxy in a process of its own, so that it shares no interpreter.

As a program: `proxy.py PORT BYTES_PER_SECOND` (0: unlimited) forwards to PORT on loopback, says on which port it listens,
and obeys the lines on its standard input: `cut`, `cut-after N` (bytes from now, towards PORT), `silence`.
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

    def cut(self) -> None:
        """Reset the connections that are open; new ones are accepted."""
        self._order("cut")

    def cut_after(self, count: int) -> None:
        """Reset them as soon as so many more bytes went to the device."""
        self._order(f"cut-after {count}")

    def silence(self) -> None:
        """Forward nothing any more, and close nothing: a cable pulled out."""
        self._order("silence")

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
        self._silent = False
        self._left: int | None = None

    def serve(self, listener: socket.socket) -> None:
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            for source, sink, towards in ((near, far, True), (far, near, False)):
                for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                    source.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._forward, args=(source, sink, towards), daemon=True).start()

    def obey(self, words: list[str]) -> None:
        if words[0] == "cut":
            self._cut()
        elif words[0] == "cut-after":
            self._left = int(words[1])
        elif words[0] == "silence":
            self._silent = True

    def _forward(self, source: socket.socket, sink: socket.socket, towards: bool) -> None:
        pace = _Pace(self._bytes_per_second)
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                pace.wait(len(chunk))
                if self._silent:
                    return
                if towards and self._left is not None:
                    self._left -= len(chunk)
                    if self._left < 0:
                        self._left = None
                        self._cut()
                        return
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)

    def _cut(self) -> None:
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
            forwarding.obey(line.split())
            sys.stdout.write("done\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
