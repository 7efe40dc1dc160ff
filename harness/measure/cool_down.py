"""A pause before each cell, so that one cell's heat is not the next one's."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from device_runner.devices import Device
from device_runner.devices.probe import read_state
from device_runner.errors import DeviceError, UsageError

_LOOK_EVERY_S = 2.0
_LONGEST_S = 600.0


@dataclass(frozen=True)
class CoolDown:
    """Wait `seconds`, or until the device is at most `celsius` warm; one of the two is None."""

    seconds: float | None = None
    celsius: float | None = None

    @staticmethod
    def parse(text: str) -> CoolDown:
        """Read "5s" or "50C". Raises UsageError for anything else."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|C)", text)
        if not match:
            raise UsageError(f"'{text}' is no cool-down", remedy="write seconds or a temperature: 5s or 50C")
        amount = float(match[1])
        return CoolDown(seconds=amount) if match[2] == "s" else CoolDown(celsius=amount)

    @property
    def longest_s(self) -> float:
        """How long `wait` may take."""
        return self.seconds if self.seconds is not None else _LONGEST_S

    def wait(self, device: Device) -> None:
        """Wait; a device that stays too warm for ten minutes is measured all the same: its rows show the temperature.

        Raises:
            DeviceError: the device reports no temperature, or was lost.
        """
        if self.seconds is not None:
            time.sleep(self.seconds)
            return
        deadline = time.monotonic() + _LONGEST_S
        while time.monotonic() < deadline:
            temperature = read_state(device).temperature_c
            if temperature is None:
                raise DeviceError(f"{device.name} reports no temperature", remedy="use seconds: --cool-down 5s")
            if self.celsius is None or temperature <= self.celsius:
                return
            time.sleep(_LOOK_EVERY_S)
