"""The machine that the harness itself runs on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from device_runner.bundle import Bundle
from device_runner.devices.base import Completed, Device, DeviceFacts
from device_runner.devices.call_log import logged
from device_runner.errors import DeviceError, TransferError, UsageError


class Local(Device):
    """The machine that the harness itself runs on. Nothing is copied; activations travel over loopback."""

    target, direct_link, on_workstation = "host", "loopback", True

    def __init__(self, address: str) -> None:
        super().__init__(address)
        [name] = self.discover()
        if address != name:  # under another name it would be measured twice at once
            raise UsageError(f"'{address}' is not a device", remedy=f"did you mean {name}?")

    @classmethod
    def discover(cls) -> list[str]:
        """This machine is always there."""
        return ["local"]

    def deploy(self, bundle: Bundle) -> tuple[str, ...]:
        """The bundle is here already."""
        return bundle.command(str(bundle.folder))

    def push(self, local: Path) -> str:
        """The file is here already."""
        return str(local.absolute())

    def get(self, remote: str, local: Path) -> None:
        """Copy the file, which is here already."""
        try:
            shutil.copyfile(remote, local)
        except OSError as exc:
            raise TransferError(f"{remote} cannot be copied: {exc.strerror}", remedy="run again") from exc

    @logged
    def call(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run a command to its end. Raises DeviceError where it cannot be started or the time is over."""
        try:
            done = subprocess.run(list(argv), input=stdin, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603
        except subprocess.TimeoutExpired as exc:
            raise DeviceError(
                f"{self.name}: {Path(argv[0]).name} did not end within {timeout_s:g} s", remedy="use fewer iterations"
            ) from exc
        except OSError as exc:
            what = f"{self.name}: {argv[0]} cannot be started: {exc.strerror}"
            raise DeviceError(what, remedy="run bench doctor") from exc
        return Completed(done.returncode, done.stdout, done.stderr)

    def workstation_address(self) -> str:
        """Loopback."""
        return "127.0.0.1"

    def describe(self) -> DeviceFacts:
        """What the kernel says of this machine."""
        return DeviceFacts(
            model=_cpu_model(),
            soc="",
            machine=platform.machine(),
            cores=os.cpu_count() or 1,
            memory_bytes=psutil.virtual_memory().total,
            free_bytes=shutil.disk_usage(Path.cwd()).free,
            system=platform.platform(),
            emulated=False,
        )


def _cpu_model() -> str:
    for path, key in ((Path("/proc/device-tree/model"), ""), (Path("/proc/cpuinfo"), "model name")):
        if path.is_file():
            for line in path.read_text(errors="replace").replace("\0", "\n").splitlines():
                if line.startswith(key) and line:
                    return line.partition(":")[2].strip() if key else line.strip()
    return platform.processor() or "unknown"
