"""A Raspberry Pi, or another 64-bit ARM machine with Linux, reached over ssh."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from device_runner.devices.base import Completed
from device_runner.devices.loop_thread import LoopThread
from device_runner.devices.remote import RemoteDevice
from device_runner.devices.ssh_connect import Connected, SshAddress, connect, hang_up
from device_runner.devices.ssh_errors import FOREIGN, device_error
from device_runner.errors import DeviceError

_T = TypeVar("_T")
_Connection = asyncssh.SSHClientConnection
_Process = asyncssh.SSHClientProcess[bytes]

# A transfer in which nothing moves for so long is given up; memory cards pause for seconds.
_STALL_S = 60.0
_CHUNK_BYTES = 2**17
_LOOPBACK = "127.0.0.1"

# Not ~/.cache/splitbench: where the device is a workstation as well, that is its own cache.
_ROOT = ".cache/splitbench-device"

# The first words are for any login shell; what sh is told to print tells a command that cannot be started from one that
# ends with the same status.
_NOT_STARTED = b"splitbench: not started"
_START = f'export {{mark}}; trap \'echo {_NOT_STARTED.decode()} >&2\' EXIT; exec "$0" "$@"'
_CANNOT_EXECUTE = 126

# sshd lets commands run on when it loses who gave them. A runner that is left over would spoil the next times, so that
# a new connection ends what was started over an earlier one ($1), and whatever of ours has lost its sshd (parent 1).
_MARK = "SPLITBENCH_HARNESS="
_GREET = f"""
for environ in $(grep -ls {_MARK} /proc/[0-9]*/environ); do
  process=${{environ%/environ}}
  if grep -qs "$1" "$environ" || grep -qs '^PPid:[[:space:]]*1$' "$process/status"; then
    kill -s KILL -- "-${{process#/proc/}}" 2>/dev/null
  fi
done
uname -m
printf %s "$HOME"
"""

_MACHINE = "aarch64"
_OTHER_MACHINES = {
    **dict.fromkeys(("armv6l", "armv7l", "armv8l"), "install the 64-bit Raspberry Pi OS"),
    "x86_64": "run splitbench on it, with --device local",
}


class Ssh(RemoteDevice):
    """A 64-bit ARM machine with Linux, such as a Raspberry Pi. Address: ssh://[USER@]HOST[:PORT].

    Whom it connects as, with which key and through which jump host, ~/.ssh/config and the agent decide as they do for
    `ssh`; host keys must be in known_hosts. No password is ever asked for.

    Attributes:
        connect_s: how long connecting may take.
        keepalive_s: how often a silent device is asked whether it is there; the fourth time it counts as lost.
    """

    direct_link, tunnel_link = "direct", "ssh tunnel"
    connect_s: float = 20.0
    keepalive_s: float = 5.0

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._address = SshAddress.parse(address)
        self._thread: LoopThread | None = None
        self._connected: Connected | None = None
        self._home = ""
        self._tunnels: dict[int, str] = {}
        self._mark = f"{_MARK}{secrets.token_hex(8)}"

    def root(self) -> str:
        """A folder in the user's cache."""
        self._ready()
        return f"{self._home}/{_ROOT}"

    def call(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run a command to its end; its arguments arrive as they are."""
        command = f"exec {shlex.join(['sh', '-c', _START.format(mark=self._mark), *argv])}"
        done = self._run(lambda connection: _call(connection, command, stdin, timeout_s))
        if done is None:
            what = f"{Path(argv[0]).name} did not end within {timeout_s:g} s"
            raise DeviceError(f"{self.name}: {what}", remedy="use fewer iterations, or look at the device")
        if done.stderr.endswith(_NOT_STARTED + b"\n") or done.status == _CANNOT_EXECUTE:
            reason = done.said.rpartition(": ")[2]
            raise DeviceError(f"{self.name}: {argv[0]} cannot be started: {reason}", remedy="see bench devices")
        return done

    def transfer(
        self, argv: Sequence[str], stdin: Iterable[bytes], on_stdout: Callable[[bytes], object], *, during: str
    ) -> Completed:
        """Run a command that a file goes into or comes out of; the connection is lost where nothing moves."""
        command = shlex.join(argv)
        return self._run(lambda connection: _transfer(connection, command, stdin, on_stdout), during=during)

    def open_tunnel(self, port: int) -> str:
        """Forward a port of the device's own choice on its loopback to this workstation's `port`.

        A lost connection closes it; the next call opens it anew.
        """
        self._ready()
        if port not in self._tunnels:
            there = self._run(lambda connection: _forward(connection, port))
            self._tunnels[port] = f"{_LOOPBACK}:{there}"
        return self._tunnels[port]

    def workstation_address(self) -> str | None:
        """The address of this end of the connection; None behind a jump host or a proxy."""
        return self._ready()[1].local_address

    def close(self) -> None:
        """Hang up."""
        super().close()
        if self._thread is not None:
            if self._connected is not None:
                self._thread.run(hang_up(self._connected.connection, patience_s=2.0))
            self._thread.close()
        self._thread = self._connected = None
        self._tunnels.clear()

    def _run(self, work: Callable[[_Connection], Coroutine[Any, Any, _T]], *, during: str = "") -> _T:
        """Do something with the connection."""
        thread, connected = self._ready()
        with self._translated(during, connected):
            return thread.run(work(connected.connection))

    def _ready(self) -> tuple[LoopThread, Connected]:
        """Connect, unless that is done. A new connection may lead to another machine: what was there counts no more."""
        if self._thread is None:
            self._thread = LoopThread(self.name)
        if self._connected is None or self._connected.connection.is_closed():
            self._there.clear()
            self._tunnels.clear()
            with self._translated():
                self._connected, self._home = self._thread.run(self._connect())
        return self._thread, self._connected

    async def _connect(self) -> tuple[Connected, str]:
        async with asyncio.timeout(self.connect_s):
            connected = await connect(self._address, keepalive_s=self.keepalive_s)
            with contextlib.ExitStack() as unless_it_will_do:
                unless_it_will_do.callback(connected.connection.abort)
                home = await self._greet(connected.connection)
                unless_it_will_do.pop_all()
            return connected, home

    async def _greet(self, connection: _Connection) -> str:
        """End what was left over, and make sure that there is a bundle for this machine; returns its home folder."""
        command = shlex.join(["sh", "-c", _GREET, "sh", self._mark])
        done = await _call(connection, command, b"", self.connect_s)
        machine, _, home = done.stdout.decode(errors="replace").partition("\n") if done else ("", "", "")
        if machine != _MACHINE:
            remedy = _OTHER_MACHINES.get(machine, "use a device with a 64-bit ARM processor")
            raise DeviceError(f"{self.name}: its processor is '{machine}', not {_MACHINE}", remedy=remedy)
        if not home.startswith("/"):
            raise DeviceError(f"{self.name}: its user has no home folder", remedy="log in as a user that has one")
        return home.rstrip("/")

    @contextlib.contextmanager
    def _translated(self, during: str = "", connected: Connected | None = None) -> Iterator[None]:
        try:
            yield
        except FOREIGN as exc:
            # What fails on a lost connection says little of why it was lost.
            why = (connected and connected.client.lost) or exc
            login = self._address.login
            raise device_error(why, name=self.name, ssh=f"ssh {login}", login=login, during=during) from exc


@contextlib.asynccontextmanager
async def _started(connection: _Connection, command: str) -> AsyncIterator[_Process]:
    """A command on the device that is ended, with all that it started, where nobody waits for its end."""
    process = await connection.create_process(command, encoding=None)
    try:
        yield process
    finally:
        if process.returncode is None and not connection.is_closed():
            with contextlib.suppress(OSError):  # it ended just now
                process.kill()
            process.close()


async def _outcome(process: _Process) -> Completed:
    """Wait for a command's end, and tell it from the connection's."""
    stdout, stderr = await process.communicate()
    if process.returncode is None:
        raise asyncssh.ConnectionLost("while a command ran")
    return Completed(process.returncode, stdout, stderr)


async def _call(connection: _Connection, command: str, stdin: bytes, timeout_s: float) -> Completed | None:
    """Run a command; None where the time was over."""
    try:
        async with asyncio.timeout(timeout_s) as limit, _started(connection, command) as process:
            with contextlib.suppress(BrokenPipeError):  # it ended without reading
                process.stdin.write(stdin)
                process.stdin.write_eof()
            return await _outcome(process)
    except TimeoutError:
        if not limit.expired():
            raise
        return None


async def _transfer(
    connection: _Connection, command: str, stdin: Iterable[bytes], on_stdout: Callable[[bytes], object]
) -> Completed:
    """Feed a command, then take what it says."""
    async with _started(connection, command) as process:
        with contextlib.suppress(BrokenPipeError):  # it takes no more: it will say why
            for piece in stdin:
                process.stdin.write(piece)
                async with asyncio.timeout(_STALL_S):
                    await process.stdin.drain()
                await asyncio.sleep(0)  # lets a lost connection be seen
            process.stdin.write_eof()
        while True:
            async with asyncio.timeout(_STALL_S):
                chunk = await process.stdout.read(_CHUNK_BYTES)
            if not chunk:
                break
            on_stdout(chunk)
        async with asyncio.timeout(_STALL_S):
            return await _outcome(process)


async def _forward(connection: _Connection, port: int) -> int:
    listener = await connection.forward_remote_port(_LOOPBACK, 0, _LOOPBACK, port)
    return listener.get_port()
