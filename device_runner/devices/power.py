"""Where a device tells the power that it draws."""

from __future__ import annotations

import re
from dataclasses import dataclass

from device_runner.devices.base import Device

_QUICK_S = 30.0
_BATTERY = "/sys/class/power_supply/battery"
_LOOK = """
if command -v vcgencmd >/dev/null 2>&1 && vcgencmd pmic_read_adc 2>/dev/null | grep -q volt; then
  echo pmic
  exit 0
fi
cd "$1" 2>/dev/null || { echo "it has no battery that tells its current"; exit 0; }
[ -r current_now ] && [ -r voltage_now ] || { echo "it has no battery that tells its current"; exit 0; }
read -r status <status 2>/dev/null
[ "$status" = Discharging ] || { echo "it is not on battery: what a charger gives is not seen"; exit 0; }
echo on-battery
"""
# "VDD_CORE_A current(7)=0.78370000A", "VDD_CORE_V volt(15)=0.72014300V"
_RAIL = re.compile(r"(\w+)_[AV] (current|volt)\(\d+\)=(\d+(?:\.\d+)?)[AV]")


@dataclass(frozen=True)
class PowerSource:
    """Where power is read: from files by head_runner, from a command by the harness, or nowhere.

    Attributes:
        files: of current in microampere and voltage in microvolt (Android on battery).
        command: what prints every rail's current and voltage (Raspberry Pi 5); `pmic_power_mw` reads that.
        reason: why the device does not tell its power.
    """

    files: tuple[str, str] | None = None
    command: tuple[str, ...] | None = None
    reason: str = ""


def find_power_source(device: Device) -> PowerSource:
    """Find a Raspberry Pi 5's power chip, or a battery in use. Raises DeviceError where the device was lost."""
    said = device.call_checked(["sh", "-c", _LOOK, "sh", _BATTERY], timeout_s=_QUICK_S).decode(errors="replace").strip()
    if said == "on-battery":
        return PowerSource(files=(f"{_BATTERY}/current_now", f"{_BATTERY}/voltage_now"))
    if said == "pmic":
        return PowerSource(command=("vcgencmd", "pmic_read_adc"))
    return PowerSource(reason=said)


def pmic_power_mw(printed: str) -> float | None:
    """Sum current x voltage over the rails that `vcgencmd pmic_read_adc` prints both of; None where it prints none.

    What does not run over these rails (USB devices, the chip's own losses) is not in it.
    """
    found = {(name, kind): float(value) for name, kind, value in _RAIL.findall(printed)}
    rails = [name for name, kind in found if kind == "current" and (name, "volt") in found]
    return 1000 * sum(found[name, "current"] * found[name, "volt"] for name in rails) if rails else None
