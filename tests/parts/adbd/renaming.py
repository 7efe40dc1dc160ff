"""An adb server in front of the real one, which lists a phone under another serial: adb takes any from a USB cable."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Answer = Callable[[socket.socket], None]


@contextmanager
def renaming_server(real_port: int, real: str, called: str) -> Iterator[int]:
    """Serve on a new port, and say which, until the block ends.

    Args:
        real_port: the real adb server's.
        real, called: the phone's serial there, and here.
    """

    def answer(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", real_port)) as server:
            wanted = _block(client).replace(called.encode(), real.encode())
            server.sendall(b"%04x" % len(wanted) + wanted)
            if wanted == b"host:devices":
                status, listed = server.recv(4, socket.MSG_WAITALL), _block(server)
                listed = listed.replace(real.encode(), called.encode())
                client.sendall(status + b"%04x" % len(listed) + listed)
                return
            _join(client, server)

    with serving(answer) as port:
        yield port


@contextmanager
def unix_server(real_port: int, path: Path) -> Iterator[None]:
    """Serve at a Unix socket what a port serves, until the block ends."""

    def answer(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", real_port)) as server:
            _join(client, server)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with _answered(listener, answer):
            yield


@contextmanager
def serving(answer: Answer) -> Iterator[int]:
    """Answer every connection to a new port, and say which port it is, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener, _answered(listener, answer):
        yield listener.getsockname()[1]


@contextmanager
def _answered(listener: socket.socket, answer: Answer) -> Iterator[None]:
    accepting = threading.Thread(target=_accept, args=(listener, answer), daemon=True)
    accepting.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _accept(listener: socket.socket, answer: Answer) -> None:
    with suppress(OSError):  # the block has ended
        while True:
            connection = listener.accept()[0]
            threading.Thread(target=_answer, args=(connection, answer), daemon=True).start()


def _answer(connection: socket.socket, answer: Answer) -> None:
    with connection, suppress(OSError, ValueError):  # the other side has gone
        answer(connection)


def _join(client: socket.socket, server: socket.socket) -> None:
    """Let them talk until both have ended."""
    back = threading.Thread(target=_copy, args=(server, client), daemon=True)
    back.start()
    _copy(client, server)
    back.join()


def _block(connection: socket.socket) -> bytes:
    return connection.recv(int(connection.recv(4, socket.MSG_WAITALL), 16), socket.MSG_WAITALL)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(2**16):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
