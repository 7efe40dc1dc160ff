"""An ARM64 device under qemu-user on this machine."""

from __future__ import annotations

import shutil
from dataclasses import replace

from device_runner.bundle import Bundle
from device_runner.devices.base import DeviceFacts
from device_runner.devices.local import Local
from device_runner.errors import DeviceError

# qemu's default, "max", has extensions (SME) whose emulation gives garbage for int8, with exit status 0.
CPU = "cortex-a76"
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")


class Emulated(Local):
    """An ARM64 device under qemu-user on this machine, for everybody without one: real outputs, meaningless times."""

    target = "arm64"

    @classmethod
    def discover(cls) -> list[str]:
        """It is always there; without qemu it says so."""
        return ["emulated"]

    def check(self) -> None:
        """Raise DeviceError where qemu is missing."""
        self._qemu()

    def describe(self) -> DeviceFacts:
        """The processor that qemu plays, on this machine's cores and memory."""
        return replace(super().describe(), model=f"ARM64, {CPU}", soc="", machine="aarch64", emulated=True)

    def deploy(self, bundle: Bundle) -> tuple[str, ...]:
        """The bundle is here already; qemu runs it."""
        return (self._qemu(), "-cpu", CPU, *super().deploy(bundle))

    def _qemu(self) -> str:
        for program in EMULATORS:
            if found := shutil.which(program):
                return found
        raise DeviceError(f"{self.name}: {EMULATORS[0]} is not on PATH", remedy="apt-get install qemu-user-static")
