"""Where a device tells the power that it draws."""

from __future__ import annotations

from dataclasses import dataclass

from device_runner.devices.base import Device

_QUICK_S = 30.0
_BATTERY = "/sys/class/power_supply/battery"
_LOOK = """
cd "$1" 2>/dev/null || { echo "it has no battery that tells its current"; exit 0; }
[ -r current_now ] && [ -r voltage_now ] || { echo "it has no battery that tells its current"; exit 0; }
read -r status <status 2>/dev/null
[ "$status" = Discharging ] || { echo "it is not on battery: what a charger gives is not seen"; exit 0; }
echo on-battery
"""


@dataclass(frozen=True)
class PowerSource:
    """What head_runner reads power from.

    Attributes:
        files: of current in microampere and voltage in microvolt; None where the device does not tell its power.
        reason: why it does not.
    """

    files: tuple[str, str] | None
    reason: str = ""


def find_power_source(device: Device) -> PowerSource:
    """Find a battery in use, as Android has it. Raises DeviceError where the device was lost."""
    said = device.call_checked(["sh", "-c", _LOOK, "sh", _BATTERY], timeout_s=_QUICK_S).decode(errors="replace").strip()
    if said == "on-battery":
        return PowerSource((f"{_BATTERY}/current_now", f"{_BATTERY}/voltage_now"))
    return PowerSource(None, said)
