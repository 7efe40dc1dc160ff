"""The machine that the harness itself runs on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from device_runner.bundle import Bundle
from device_runner.devices.base import Completed, Device, DeviceFacts
from device_runner.errors import DeviceError


class Local(Device):
    """The machine that the harness itself runs on. Nothing is copied; activations travel over loopback."""

    target, link = "host", "loopback"

    def deploy(self, bundle: Bundle) -> str:
        """The bundle is here already."""
        return str(bundle.runner)

    def push(self, local: Path) -> str:
        """The file is here already."""
        return str(local.absolute())

    def call(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run a command to its end. Raises DeviceError where it cannot be started or the time is over."""
        try:
            done = subprocess.run(list(argv), input=stdin, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603
        except subprocess.TimeoutExpired as exc:
            raise DeviceError(
                f"{Path(argv[0]).name} did not end within {timeout_s:g} s", remedy="use fewer iterations"
            ) from exc
        except OSError as exc:
            raise DeviceError(f"{argv[0]} cannot be started: {exc.strerror}", remedy="run bench doctor") from exc
        return Completed(done.returncode, done.stdout, done.stderr)

    def way_back(self, port: int) -> str:
        """Loopback."""
        return f"127.0.0.1:{port}"

    def describe(self) -> DeviceFacts:
        """Model, machine, cores, memory and system, from the kernel."""
        return DeviceFacts(
            model=_cpu_model(),
            machine=platform.machine(),
            cores=os.cpu_count() or 1,
            memory_bytes=psutil.virtual_memory().total,
            system=platform.platform(),
        )


def _cpu_model() -> str:
    for path, key in ((Path("/proc/device-tree/model"), ""), (Path("/proc/cpuinfo"), "model name")):
        if path.is_file():
            for line in path.read_text(errors="replace").replace("\0", "\n").splitlines():
                if line.startswith(key) and line:
                    return line.partition(":")[2].strip() if key else line.strip()
    return platform.processor() or "unknown"
