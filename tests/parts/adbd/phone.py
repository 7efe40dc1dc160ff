"""Starts phones, and the adb server that they are attached to."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

from tests.parts.adbd.android import install_android
from tests.parts.adbd.conditions import Changes
from tests.parts.arm64 import run_arm64_programs

_REPOSITORY = Path(__file__).parents[3]
_PATIENCE_S = 10.0


class AdbServer:
    """An adb server of the tests' own; the user's one, and what is attached to it, are not touched."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.environment = {"ANDROID_ADB_SERVER_PORT": str(port)}

    def adb(self, *arguments: str) -> str:
        """What the command `adb` prints."""
        command = ["adb", "-P", str(self.port), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    def attach(self, phone: Phone, *, state: str = "device") -> str:
        """Attach a phone under a serial that is no address, as one on a cable has, and wait for its state."""
        serial = f"emulator-{phone.port - 1}"
        with socket.create_connection(("127.0.0.1", self.port), 5) as server:
            request = f"host:emulator:{phone.port}"
            server.sendall(f"{len(request):04x}{request}".encode())
        wait_until(lambda: f"{serial}\t{state}" in self.adb("devices"), "the phone is attached")
        return serial

    def forget_everything(self) -> None:
        """Detach all phones, one that adb is just trying to reach again as well."""

        def none_left() -> bool:
            self.adb("disconnect")
            return "\t" not in self.adb("devices")

        wait_until(none_left, "no phone is attached")


class Phone:
    """A running phone; `serial` is its name once connected, as `adb connect` has it.

    Attributes:
        files: the phone's root folder as this machine sees it: /system and /sys, neither /data nor /sdcard.
    """

    def __init__(self, process: subprocess.Popen[bytes], files: Path) -> None:
        self._process = process
        self.files = files
        self.port = int(self._answer() or 0)
        self.serial = f"127.0.0.1:{self.port}"
        self.address = f"adb:{self.serial}"

    def change(self, **changes: Unpack[Changes]) -> None:
        """Change what is wrong with the phone; it is so when this returns."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(changes).encode() + b"\n")
        self._process.stdin.flush()
        self._answer()

    def heat_up(self, celsius: float, *, severity: int = 3) -> None:
        """Let the CPU show a temperature, and Android a thermal status (3: severe); the cores are slowed down."""
        (self.files / "sys/class/thermal/thermal_zone0/temp").write_text(f"{celsius * 1000:.0f}\n")
        service = self.files / "system/etc/dumpsys/thermalservice"
        service.write_text(re.sub(r"(?m)^Thermal Status: \d+$", f"Thermal Status: {severity}", service.read_text()))
        for folder in (self.files / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"):
            able = int((folder / "cpuinfo_max_freq").read_text())
            for name in ("scaling_max_freq", "scaling_cur_freq"):
                (folder / name).write_text(f"{able // 2 if severity else able}\n")

    def _answer(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the phone ended; what it said stands above"
        return line.strip()


@contextmanager
def phone(*, storage_bytes: int = 512 * 2**20, machine: str = "aarch64") -> Iterator[Phone]:
    """A phone that runs as long as the block does. Needs root.

    Args:
        storage_bytes: how much fits on /data.
        machine: what `uname -m` says.
    """
    assert os.geteuid() == 0, "the phone of the tests needs root: it has a root folder and mounts of its own"
    run_arm64_programs()
    with tempfile.TemporaryDirectory(prefix="phone-") as folder:
        root = Path(folder)
        install_android(root, machine=machine)
        # The shell is the first process: it buries orphans, which asyncio would leave lying about.
        first = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", '"$@"; exit', "sh"]
        process = subprocess.Popen(
            [*first, sys.executable, "-m", "tests.parts.adbd", str(root), str(storage_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_REPOSITORY,
        )
        try:
            yield Phone(process, root)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The phone ends with its standard input."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(10)
    finally:
        process.kill()
        process.stdout.close()


@contextmanager
def adb_server() -> Iterator[AdbServer]:
    """An adb server with a port and keys of its own, that runs as long as the block does."""
    assert shutil.which("adb"), "adb is missing: apt-get install adb"
    with tempfile.TemporaryDirectory(prefix="adb-") as home, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.close()
        process = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "adb",
                "-P",
                str(port),
                "nodaemon",
                "server",
            ],  # also where tests are killed
            env={**os.environ, "HOME": home, "ANDROID_SDK_HOME": home, "ADB_EMU": "0", "TMPDIR": home},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_it_listens(process, port)
            yield AdbServer(port)
        finally:
            process.kill()
            process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    def listens() -> bool:
        assert process.poll() is None, f"the adb server ended with {process.returncode}"
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, "the adb server listens")


def wait_until(happened: Callable[[], bool], what: str) -> None:
    """Wait for something that takes a moment."""
    end = time.monotonic() + _PATIENCE_S
    while not happened():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.02)
