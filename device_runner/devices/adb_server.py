"""The adb server: where the environment says that it is, as adb itself reads it, and what it is asked."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Self

from device_runner.devices.adb_library import AdbConnection, AdbConnectionError, AdbError, AdbTimeout
from device_runner.errors import UsageError
from device_runner.said import last_line

_PORT = 5037
_CONNECT_S = 3.0
_START_S = 20.0


@dataclass(frozen=True)
class ServerAddress:
    """Where an adb server listens.

    Attributes:
        where: host and port, or the name of a Unix socket: a path, or a NUL and the name of an abstract one.
        said: how adb writes it, and which environment variable says so.
    """

    where: tuple[str, int] | str
    said: str

    @classmethod
    def from_environment(cls) -> Self:
        """What adb would talk to. Raises UsageError for what it could not read either, or what is not supported."""
        if given := os.environ.get("ADB_SERVER_SOCKET"):
            return cls._parse(given)
        host, port = (os.environ.get(f"ANDROID_ADB_SERVER_{part}", "") for part in ("ADDRESS", "PORT"))
        if port and not _is_port(port):
            remedy = "set it to a port from 1 to 65535, or unset it"
            raise UsageError(f"ANDROID_ADB_SERVER_PORT is '{port}', which is not a port", remedy=remedy)
        names = [name for name in ("ADDRESS", "PORT") if os.environ.get(f"ANDROID_ADB_SERVER_{name}")]
        because = f" ({', '.join(f'ANDROID_ADB_SERVER_{name}' for name in names)})" if names else ""
        where = (host or "127.0.0.1", int(port or _PORT))
        return cls(where, f"{where[0]}:{where[1]}{because}")

    @classmethod
    def _parse(cls, given: str) -> Self:
        said = f"{given} (ADB_SERVER_SOCKET)"
        kind, _, name = given.partition(":")
        tcp = re.fullmatch(r"(?:(\[[^\[\]]+\]|[^\[\]:]+):)?(\d+)", name) if kind == "tcp" else None
        if tcp and _is_port(tcp[2]):
            return cls(((tcp[1] or "127.0.0.1").strip("[]"), int(tcp[2])), said)
        if name and kind in ("localfilesystem", "localabstract"):
            return cls("\0" * (kind == "localabstract") + name, said)
        remedy = "set it to tcp:HOST:PORT, tcp:PORT, localfilesystem:PATH or localabstract:NAME, or unset it"
        raise UsageError(f"ADB_SERVER_SOCKET is '{given}', which cannot be used", remedy=remedy)

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, where adb would start one."""
        if isinstance(self.where, str) or self.where[0] == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.where[0]).is_loopback
        except ValueError:
            return False

    def connect(self) -> socket.socket:
        """Connect. Raises OSError."""
        if not isinstance(self.where, str):
            return socket.create_connection(self.where, _CONNECT_S)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self.where)
        except OSError:
            connection.close()
            raise
        return connection


class ServerConnection(AdbConnection):  # type: ignore[misc] # it brings no types along
    """One conversation with an adb server, which is started where it should be on this machine and is not.

    Args:
        answer_s: how long it may be silent.
    """

    def __init__(self, answer_s: float) -> None:
        self.address = ServerAddress.from_environment()
        super().__init__("", 0)
        self.conn.settimeout(answer_s)

    def _safe_connect(self) -> socket.socket:
        """Adbutils' own knows TCP alone, and starts a server here also where it should be elsewhere."""
        try:
            return self.address.connect()
        except OSError as exc:
            if not self.address.is_here:
                words = f"the adb server at {self.address.said} cannot be reached: {exc.strerror or exc}"
                raise AdbConnectionError(words) from exc
        _start_server()
        try:
            return self.address.connect()
        except OSError as exc:
            words = f"the adb server at {self.address.said} does not start: {exc.strerror or exc}"
            raise AdbConnectionError(words) from exc

    def request(self, wanted: bytes) -> None:
        """Ask for something; raises AdbError with the server's words where it refuses."""
        self.conn.sendall(b"%04x" % len(wanted) + wanted)
        self.check_okay()

    def block(self) -> bytes:
        """What it tells after its length. Raises AdbError for what no adb server would say."""
        length = self.read(4)
        if not re.fullmatch(b"[0-9A-Fa-f]{4}", length):
            raise AdbError(f"Unknown data: {length!r}")
        content: bytes = self.read_exact(int(length, 16))
        return content


@contextmanager
def conversation(answer_s: float) -> Iterator[ServerConnection]:
    """A conversation for as long as the block runs."""
    connection = ServerConnection(answer_s)
    with closing(connection.conn):  # its own close takes 10 ms
        yield connection


def ask(question: str, *, answer_s: float) -> str:
    """What the server itself tells: it asks no device for it, so that silence is the server's own.

    Raises:
        AdbError: it refuses, says nothing, or is none.
    """
    with conversation(answer_s) as connection:
        try:
            connection.request(os.fsencode(question))
            return os.fsdecode(connection.block())
        except (AdbTimeout, TimeoutError) as exc:
            raise AdbError(f"the adb server at {connection.address.said} says nothing") from exc


def states(*, answer_s: float) -> Mapping[str, str]:
    """Serial -> state of all that is attached; serials hold whatever their makers liked but tabs and line ends."""
    listed = ask("host:devices", answer_s=answer_s)
    return dict(line.split("\t", 1) for line in listed.split("\n") if "\t" in line)


def is_running() -> bool:
    """Whether something listens where the server should. Raises UsageError."""
    try:
        ServerAddress.from_environment().connect().close()
    except OSError:
        return False
    return True


def _start_server() -> None:
    """As adb does by itself. The server keeps what it inherits open: not a pipe that somebody reads to its end."""
    adb = shutil.which("adb")
    if adb is None:
        raise AdbError("No adb exe could be found")
    with tempfile.TemporaryFile() as output:
        command = [adb, "start-server"]
        done = subprocess.run(command, stdout=output, stderr=output, timeout=_START_S, check=False)  # noqa: S603
        output.seek(0)
        said = last_line(output.read(), otherwise=f"status {done.returncode}")
    if done.returncode != 0:
        raise AdbConnectionError(f"adb start-server: {said}")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) < 2**16
