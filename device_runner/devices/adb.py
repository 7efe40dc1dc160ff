"""An Android phone, reached through the user's own adb server."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import adbutils

from device_runner.devices.adb_errors import FOREIGN, NOT_ATTACHED, SILENT, STATES, device_error, meaning_of_words
from device_runner.devices.adb_errors import OFFLINE as IS_OFFLINE
from device_runner.devices.adb_shell import STDIN_BYTES, Conversation, pieces, until
from device_runner.devices.base import Completed
from device_runner.devices.remote import RemoteDevice
from device_runner.errors import DeviceError, TransferError, UsageError
from device_runner.files import file_sha256

_ROOT = "/data/local/tmp/splitbench"
_LOOPBACK = "127.0.0.1"

# A transfer in which nothing moves for so long is given up; flash memory pauses for seconds.
_STALL_S = 60.0
_END_S = 5.0
_MOST_REQUEST_BYTES = 0xFFFF

# The first line tells which processes to end when the time is over; what the trap prints tells a command that cannot be
# started from one that ends with the same status.
_NOT_STARTED = b"splitbench: not started"
_START = f"echo $$; trap 'echo {_NOT_STARTED.decode()} >&2' EXIT; exec "
_CANNOT_EXECUTE = 126
_END_ALL = 'kill -KILL -- "-$1" 2>/dev/null || kill -KILL "$1"'

# Prints the hash of what came in and the length of what was written, and leaves nothing that is not whole, also where
# the connection was cut: that ends the input, and Android hangs up on the shell.
_TAKE = (
    'trap "" HUP; tee "$1" | sha256sum; size=$(($(wc -c <"$1"))); [ "$size" = "$2" ] || rm -f "$1"; echo "$size"'
)
_GIVE = 'sha256sum <"$1" && exec cat "$1"'

_MACHINE = "aarch64"
_OTHER_MACHINES = {
    **dict.fromkeys(("armv7l", "armv8l"), "use a phone whose Android is 64-bit"),
    **dict.fromkeys(("x86_64", "i686"), "use a phone, or an emulator with an ARM64 system image"),
}


class Adb(RemoteDevice):
    """An Android phone with USB or wireless debugging. Address: adb (the only one attached), adb:SERIAL, adb:IP:PORT.

    It is reached through the adb server of this workstation, which is started where none runs; an address with a port
    is connected to first, as `adb connect` does. Nothing needs root on the phone.

    Attributes:
        tunnel_link: says "usb" where the phone hangs on a cable, else "tcp"; known for certain once it is connected.
        answer_s: how long the adb server, or the phone before a command starts, may be silent.
    """

    direct_link = "direct"
    answer_s: float = 20.0

    def __init__(self, address: str) -> None:
        super().__init__(address)
        scheme, _, self._serial = address.partition(":")
        if scheme != "adb" or (not self._serial and address != "adb") or re.search(r"[\s;/]", address):
            raise UsageError(f"'{address}' is no device", remedy="use adb, adb:SERIAL or adb:IP:PORT")
        self._network = re.fullmatch(r"\[?([^\[\]]+)\]?:(\d+)", self._serial)
        self.tunnel_link = f"adb reverse ({'tcp' if self._network else 'usb'})"
        self._client = adbutils.AdbClient(socket_timeout=self.answer_s)
        self._connected = ""
        self._tunnels: dict[int, str] = {}

    @classmethod
    def discover(cls) -> list[str]:
        """All that are attached, whatever their state; none where adb is not installed."""
        if shutil.which("adb") is None:
            return []
        try:
            return [f"adb:{info.serial}" for info in adbutils.AdbClient(socket_timeout=cls.answer_s).list()]
        except FOREIGN as exc:
            raise device_error(exc, name="adb") from exc

    def root(self) -> str:
        """The one folder where Android's shell may write and execute."""
        return _ROOT

    def call(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run a command to its end; its arguments arrive as they are."""
        command = Conversation(pieces(stdin))
        try:
            self._converse(argv, command, until(time.monotonic() + timeout_s))
        except TimeoutError as exc:
            pid, told, _ = bytes(command.stdout).partition(b"\n")
            if not told:
                self._forget()
                raise device_error(SILENT, name=self.name) from exc
            self._end(pid.decode())
            what = f"{Path(argv[0]).name} did not end within {timeout_s:g} s"
            raise DeviceError(f"{self.name}: {what}", remedy="use fewer iterations, or look at the device") from exc
        return _completed(self.name, argv, command)
