"""Which cores a head may run on: "all", "big", "little", or a mask."""

from __future__ import annotations

import re
from functools import lru_cache

from device_runner.devices import Device
from device_runner.errors import UsageError

_QUICK_S = 30.0
_FASTEST = (
    'for f in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq; do [ -r "$f" ] && echo "$f $(cat "$f")"; done'
)


def check_affinity(text: str) -> str:
    """Return the text where it is "all", "big", "little" or a hexadecimal mask such as f0. Raises UsageError."""
    if text not in ("all", "big", "little") and not re.fullmatch(r"(0x)?[0-9a-fA-F]{1,32}", text):
        raise UsageError(f"'{text}' is not a valid affinity", remedy="write all, big, little or a hexadecimal mask: f0")
    return text


def core_mask(text: str, device: Device) -> str | None:
    """The mask that head_runner is given, or None where every core is allowed.

    Raises:
        UsageError: big or little on a device whose cores are all alike, or that does not tell.
    """
    if text == "all":
        return None
    if text not in ("big", "little"):
        return text.removeprefix("0x")
    return _cluster(device, text)


@lru_cache(maxsize=64)
def _cluster(device: Device, which: str) -> str:
    lines = device.call_checked(["sh", "-c", f"{_FASTEST}; true"], timeout_s=_QUICK_S).decode().splitlines()
    able = {int(match[1]): int(match[2]) for line in lines if (match := re.fullmatch(r".*/cpu(\d+)/.* (\d+)", line))}
    if len(set(able.values())) < 2:
        raise UsageError(f"the cores of {device.name} are alike, or it does not tell", remedy="use a mask, or all")
    wanted = max(able.values()) if which == "big" else min(able.values())
    return f"{sum(1 << core for core, khz in able.items() if khz == wanted):x}"
