"""An Android phone, reached through the user's own adb server."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from device_runner.devices import adb_server
from device_runner.devices.adb_errors import (
    FOREIGN,
    NOT_ATTACHED,
    SILENT,
    STATES,
    UNREACHABLE,
    AdbMeaning,
    device_error,
    meaning_of_words,
)
from device_runner.devices.adb_library import AdbError
from device_runner.devices.adb_shell import Conversation, TimeIsOver, pieces, request, until
from device_runner.devices.base import Completed
from device_runner.devices.call_log import logged
from device_runner.devices.remote import RemoteDevice
from device_runner.errors import DeviceError, UsageError

_ROOT = "/data/local/tmp/splitbench"
_LOOPBACK = "127.0.0.1"
_MOST_REQUEST_BYTES = 0xFFFF
_USAGE = "use adb, adb:SERIAL or adb:IP:PORT"
_NETWORK = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[\w.-]+)):(?P<port>\d+)")

_CONNECTING_S = 1.0
_CONNECTING_TRIES = 3
_END_S = 5.0
_END = 'kill -KILL -- "-$1" 2>/dev/null || kill -KILL "$1"'

_MACHINE = "aarch64"
_OTHER_MACHINES = {
    **dict.fromkeys(("armv7l", "armv8l"), "use a phone whose Android is 64-bit"),
    **dict.fromkeys(("x86_64", "i686"), "use a phone, or an emulator with an ARM64 system image"),
}


class Adb(RemoteDevice):
    """An Android phone with USB or wireless debugging. Address: adb (the only one attached), adb:SERIAL, adb:IP:PORT.

    SERIAL is whatever `adb devices` lists. With `adb` alone, ANDROID_SERIAL chooses among several, as it does for adb.
    The phone is reached through the adb server that the environment names, which is started where none runs on this
    machine; an address with a port is connected to first, as `adb connect` does. Nothing needs root on the phone.

    Attributes:
        tunnel_link: says "usb" where the phone hangs on a cable, else "tcp"; known for certain once it is connected.
        answer_s: how long the phone may be silent before a command starts.
        server_s: how long the adb server may be silent where it need not ask the phone.
        connect_s: how long the adb server may take to connect to IP:PORT; it gives up by itself after 10 s.
        stall_s: how long nothing may move in a transfer; flash memory pauses for seconds.
    """

    direct_link = "direct"
    answer_s: float = 20.0
    server_s: float = 4.0
    connect_s: float = 30.0
    stall_s: float = 60.0

    def __init__(self, address: str) -> None:
        super().__init__(address)
        scheme, _, self._serial = address.partition(":")
        if scheme != "adb" or (not self._serial and address != "adb") or not _may_be_serial(self._serial):
            raise UsageError(f"{address!r} is not a valid device", remedy=_USAGE)
        _require_port(self._serial)
        self._network = _network(self._serial)
        self.tunnel_link = f"adb reverse ({'tcp' if self._network else 'usb'})"
        self._connected = ""
        self._tunnels: dict[int, int] = {}

    @classmethod
    def discover(cls) -> list[str]:
        """All that are attached, whatever their state; none where adb is not installed and no server runs."""
        if shutil.which("adb") is None and not adb_server.is_running():
            return []
        try:
            return [f"adb:{serial}" for serial in adb_server.states(answer_s=cls.server_s)]
        except FOREIGN as exc:
            raise device_error(exc, name="adb") from exc

    def root(self) -> str:
        """The one folder where Android's shell may write and execute."""
        return _ROOT

    @logged
    def call(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run a command to its end; its arguments arrive as they are."""
        talk = Conversation(pieces(stdin))
        try:
            return self._converse(argv, talk, until(time.monotonic() + timeout_s))
        except TimeIsOver as exc:
            if not talk.process:
                raise self._lost(SILENT) from exc
            what = f"{Path(argv[0]).name} did not end within {timeout_s:g} s"
            raise DeviceError(f"{self.name}: {what}", remedy="use fewer iterations, or look at the device") from exc

    @logged
    def transfer(
        self, argv: Sequence[str], stdin: Iterable[bytes], on_stdout: Callable[[bytes], object], *, during: str
    ) -> Completed:
        """Run a command that a file goes into or comes out of, until nothing has moved for `stall_s`."""
        talk = Conversation((small for piece in stdin for small in pieces(piece)), on_stdout)
        try:
            return self._converse(argv, talk, lambda: self.stall_s, during=during)
        except TimeIsOver as exc:
            raise self._lost(SILENT, during=during) from exc

    def open_tunnel(self, port: int) -> str:
        """Let a port of the device's own choice on its loopback lead to this workstation's `port` (adb reverse).

        A lost connection closes it; the next call opens it anew.
        """
        serial = self._ready()
        if port not in self._tunnels:
            with self._opened(serial, f"reverse:forward:tcp:0;tcp:{port}".encode()) as connection:
                connection.check_okay()  # the first one was for the request
                self._tunnels[port] = int(connection.block())
        return f"{_LOOPBACK}:{self._tunnels[port]}"

    def workstation_address(self) -> str | None:
        """The address of this workstation that leads to the device's IP address; None where that is not known."""
        if not self._network:
            return None
        host, port = self._network
        with self._translated():
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind) as probe:
                probe.connect(address)  # sends nothing
                return str(probe.getsockname()[0])

    def close(self) -> None:
        """Close the tunnels. The adb server keeps the device attached, as it does for `adb connect`."""
        super().close()
        for port in tuple(self._tunnels.values()):  # a lost device empties it meanwhile
            with (
                contextlib.suppress(DeviceError),  # lost with the device
                self._opened(
                    self._connected, f"reverse:killforward:tcp:{port}".encode(), timeout_s=_END_S
                ) as connection,
            ):
                connection.check_okay()  # the first one was for the request
        self._forget()

    def _ready(self) -> str:
        """The serial of the device, which is there and will do. What was there before it was lost counts no more."""
        if not self._connected:
            with self._translated():
                serial = self._attach()
            self._greet(serial)
            self._connected = serial
        return self._connected

    def _attach(self) -> str:
        if self._network:
            self._connect_network()
        states = self._states()
        serial = self._serial_among(states)
        if serial not in states:
            attached = f"attached: {', '.join(states)}" if states else "nothing is"
            raise device_error(NOT_ATTACHED, name=self.name, said=attached)
        if states[serial] != "device":
            unknown = AdbMeaning("adb says '{said}' of it", "see: adb devices -l")
            word = states[serial].partition(" ")[0]  # "no permissions (user in plugdev group; are your udev rules ...)"
            raise device_error(STATES.get(word, unknown), name=self.name, said=states[serial])
        if not self._network:
            path = self._ask(f"host-serial:{serial}:get-devpath")
            self.tunnel_link = f"adb reverse ({'usb' if path.startswith('usb:') else 'tcp'})"
        return serial

    def _serial_among(self, states: Mapping[str, str]) -> str:
        """The serial that is meant: the address's, ANDROID_SERIAL's, or the only one's."""
        if self._serial:
            # mDNS names end in a dot in some versions of adb.
            same = [serial for serial in states if serial.rstrip(".") == self._serial.rstrip(".")]
            return same[0] if same and self._serial not in states else self._serial
        if chosen := os.environ.get("ANDROID_SERIAL"):
            if chosen not in states:
                attached = f"ANDROID_SERIAL is {chosen}; attached: {', '.join(states) or 'nothing'}"
                raise device_error(NOT_ATTACHED, name=self.name, said=attached)
            return chosen
        if len(states) > 1:
            listed = ", ".join(shlex.quote(f"adb:{serial}") for serial in states)
            raise UsageError(f"{len(states)} devices are attached to adb", remedy=f"name one: {listed}")
        return next(iter(states), "")

    def _states(self) -> Mapping[str, str]:
        return adb_server.states(answer_s=self.server_s)

    def _ask(self, question: str) -> str:
        return adb_server.ask(question, answer_s=self.server_s)

    def _connect_network(self) -> None:
        """`adb connect`: what counts is what it says, and that the device is there then.

        One that it holds for connected may be gone, or just about to be: also the one that it was told to disconnect.
        """
        self._states()  # a server that says nothing is not waited for as long as for a phone
        for _ in range(_CONNECTING_TRIES):
            said = adb_server.ask(f"host:connect:{self._serial}", answer_s=self.connect_s)
            if not said.startswith(("connected to", "already connected to")):
                raise device_error(meaning_of_words(said) or UNREACHABLE, name=self.name, said=said)
            if self._is_usable_soon():
                return
            with contextlib.suppress(AdbError):  # it is gone already
                self._ask(f"host:disconnect:{self._serial}")

    def _is_usable_soon(self) -> bool:
        """Another harness may be connecting to it right now: what that has begun is not undone."""
        patience = until(time.monotonic() + _CONNECTING_S)
        while not (usable := self._states().get(self._serial) == "device") and patience() > 0:
            time.sleep(_CONNECTING_S / 10)
        return usable

    def _greet(self, serial: str) -> None:
        """Make sure that it is a device that there is a bundle for."""
        talk = Conversation()
        try:
            with self._opened(serial, request(["uname", "-m"])) as connection:
                talk.hold(connection.conn, until(time.monotonic() + self.answer_s))
        except TimeIsOver as exc:
            raise self._lost(SILENT) from exc
        machine = talk.stdout.decode(errors="replace").strip()
        if machine != _MACHINE:
            remedy = _OTHER_MACHINES.get(machine, "use a device with a 64-bit ARM processor")
            raise DeviceError(f"{self.name}: its processor is '{machine}', not {_MACHINE}", remedy=remedy)

    def _converse(
        self, argv: Sequence[str], talk: Conversation, time_left: Callable[[], float], *, during: str = ""
    ) -> Completed:
        """Run a command; raises TimeIsOver after it was ended, with all that it started."""
        serial = self._ready()
        try:
            with self._opened(serial, request(argv), during=during) as connection:
                talk.hold(connection.conn, time_left)
        except TimeIsOver:
            self._end(serial, talk.process)
            raise
        if talk.why_not_started is not None:
            what = f"{argv[0]} cannot be started: {talk.why_not_started}"
            raise DeviceError(f"{self.name}: {what}", remedy="see bench devices")
        return Completed(talk.status or 0, bytes(talk.stdout), bytes(talk.stderr))

    def _end(self, serial: str, process: str) -> None:
        """End a process group. Where even that gets no answer, the device is lost, and with it the processes."""
        if not process:
            return
        patience_s = min(_END_S, self.answer_s)
        with (
            contextlib.suppress(DeviceError, TimeIsOver),
            self._opened(serial, request(["sh", "-c", _END, "sh", process]), timeout_s=patience_s) as connection,
        ):
            Conversation().hold(connection.conn, until(time.monotonic() + patience_s))

    @contextlib.contextmanager
    def _opened(
        self, serial: str, wanted: bytes, *, timeout_s: float | None = None, during: str = ""
    ) -> Iterator[adb_server.ServerConnection]:
        """A connection on which the device has accepted a request."""
        if len(wanted) > _MOST_REQUEST_BYTES or b"\0" in wanted:
            raise ValueError("adb carries at most 65,535 bytes of a command, and none of them may be 0")
        with self._translated(during), adb_server.conversation(timeout_s or self.answer_s) as connection:
            connection.request(os.fsencode(f"host:transport:{serial}"))
            connection.request(wanted)
            yield connection

    @contextlib.contextmanager
    def _translated(self, during: str = "") -> Iterator[None]:
        try:
            yield
        except FOREIGN as exc:
            self._forget()
            raise device_error(exc, name=self.name, during=during) from exc

    def _lost(self, meaning: AdbMeaning, *, during: str = "") -> DeviceError:
        self._forget()
        return device_error(meaning, name=self.name, during=during)

    def _forget(self) -> None:
        self._connected = ""
        self._tunnels.clear()
        self._there.clear()


def _may_be_serial(text: str) -> bool:
    """Whether adb could list it: makers put anything into it but what separates and ends lines."""
    return not text.startswith("//") and not any(character < " " or character == "\x7f" for character in text)


def _network(serial: str) -> tuple[str, int] | None:
    """Host and port, where it is one that adb connects to."""
    match = _NETWORK.fullmatch(serial)
    return (match["ipv6"] or match["host"], int(match["port"])) if match else None


def _require_port(serial: str) -> None:
    """Raise UsageError for an address on the network that cannot be connected to, with the one that is meant."""
    if network := _network(serial):
        if not 0 < network[1] < 2**16:
            raise UsageError(f"'adb:{serial}' names no port: {network[1]}", remedy="take the one that the phone shows")
        return
    try:
        address = ipaddress.ip_address(serial.strip("[]"))
    except ValueError:
        return
    host = f"[{address}]" if address.version == 6 else str(address)
    raise UsageError(f"'adb:{serial}' names no port", remedy=f"did you mean {shlex.quote(f'adb:{host}:5555')}?")
