"""What a Linux or Android device says of itself over its shell: one script for both, nothing to install there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from device_runner.devices.base import DeviceFacts
from device_runner.strict import StrictModel

if TYPE_CHECKING:
    from device_runner.devices.base import Device

_QUICK_S = 30.0

# key=value lines; what a device does not have gives an empty value. Android's toybox and Debian's dash both run it.
_FACTS = r"""
prop() { getprop "$1" 2>/dev/null | head -n 1; }
first() { { cat "$1" | tr -d '\000' | head -n 1; } 2>/dev/null; }
cpuinfo() { sed -n "s/^$1[[:space:]]*: *//p" /proc/cpuinfo 2>/dev/null | head -n 1; }
release() { sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release 2>/dev/null; }
echo "machine=$(uname -m)"
echo "kernel=$(uname -sr)"
echo "android=$(prop ro.build.version.release)"
echo "release=$(release)"
echo "product=$(prop ro.product.manufacturer) $(prop ro.product.model)"
echo "tree=$(first /proc/device-tree/model)"
echo "cpu=$(cpuinfo 'model name')"
echo "vendor=$(cpuinfo vendor_id)"
echo "soc=$(prop ro.soc.model)"
echo "board=$(prop ro.board.platform)"
echo "hardware=$(cpuinfo Hardware)"
echo "chip=$( { tr '\000' '\n' </proc/device-tree/compatible | tail -n 1; } 2>/dev/null)"
echo "serial=$(prop ro.serialno)$(prop ro.boot.serialno)$(first /sys/firmware/devicetree/base/serial-number)"
echo "machine_id=$(first /etc/machine-id)"
echo "boot=$(first /proc/sys/kernel/random/boot_id)"
echo "qemu=$(prop ro.kernel.qemu)$(prop ro.boot.qemu)"
echo "cores=$(cat /sys/devices/system/cpu/possible 2>/dev/null)"
echo "memory_kib=$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo 2>/dev/null)"
"""

# Builtins alone where no program is needed: this runs before and after every cell.
_STATE = r"""
show() { line=; { IFS= read -r line <"$1"; } 2>/dev/null; printf %s "$line"; }
for zone in /sys/class/thermal/thermal_zone*; do
  [ -e "$zone/temp" ] && echo "zone=$(show "$zone/type") $(show "$zone/temp")"
done
for f in /sys/devices/system/cpu/cpu[0-9]*/cpufreq; do
  [ -e "$f/scaling_cur_freq" ] && echo "frequency=$(show "$f/scaling_cur_freq") $(show "$f/scaling_max_freq")" \
    "$(show "$f/cpuinfo_max_freq") $(show "$f/scaling_governor")"
done
echo "load=$(show /proc/loadavg)"
while read -r key value unit; do
  [ "$key" = MemAvailable: ] && echo "available_kib=$value"
done </proc/meminfo
bits=$(show /sys/devices/platform/soc/soc:firmware/get_throttled)
if [ -z "$bits" ] && command -v vcgencmd >/dev/null 2>&1; then bits=$(vcgencmd get_throttled 2>/dev/null); fi
echo "throttled=${bits#throttled=}"
if command -v dumpsys >/dev/null 2>&1; then
  echo "thermal_status=$(dumpsys thermalservice 2>/dev/null | sed -n 's/^Thermal Status: *//p' | head -n 1)"
  echo "battery_level=$(dumpsys battery 2>/dev/null | sed -n 's/^ *level: *//p' | head -n 1)"
fi
"""


class DeviceState(StrictModel):
    """How a device fares, read before and after a cell; None where it does not tell.

    Attributes:
        temperature_c: of the hottest CPU or SoC zone (of any zone, where none is called so).
        frequency_khz, governor: of the fastest core now.
        throttled: Raspberry Pi: under-voltage, capped, throttled or over its soft limit now; Android: thermal status
            above "none"; elsewhere: a core's frequency is capped below what it can do.
        load: of the last minute; available_bytes: memory; battery_percent: Android.
    """

    temperature_c: float | None = None
    frequency_khz: int | None = None
    governor: str | None = None
    throttled: bool | None = None
    load: float | None = None
    available_bytes: int | None = None
    battery_percent: int | None = None


def read_facts(device: Device, *, free_bytes: int) -> DeviceFacts:
    """What the device is. Raises DeviceError where its shell fails."""
    told = _last(_run(device, _FACTS))
    emulated = bool(told.get("qemu", "").strip("0")) or (told["machine"] == "aarch64" and bool(told.get("vendor")))
    system = f"Android {told['android']}" if told.get("android") else told.get("release") or "Linux"
    return DeviceFacts(
        model=told.get("product", "").strip() or told.get("tree") or told.get("cpu") or "unknown",
        soc=told.get("soc") or told.get("board") or told.get("chip") or told.get("hardware", ""),
        machine=told["machine"],
        cores=_cores(told.get("cores", "")),
        memory_bytes=(_whole(told.get("memory_kib")) or 0) * 1024,
        free_bytes=free_bytes,
        system=f"{system}, {told.get('kernel', '')}",
        emulated=emulated,
        identity=_identity(told),
    )


def _identity(told: Mapping[str, str]) -> str:
    parts = [told.get(key, "") for key in ("serial", "machine_id", "boot")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16] if any(parts) else ""


def read_state(device: Device) -> DeviceState:
    """How the device fares now. Raises DeviceError where it was lost."""
    lines = _run(device, _STATE)
    told = _last(lines)
    frequencies = [line.removeprefix("frequency=").split() for line in lines if line.startswith("frequency=")]
    whole = [f for f in frequencies if len(f) == 4 and all(part.isdecimal() for part in f[:3]) and int(f[0])]
    fastest = max(whole, key=lambda f: int(f[0]), default=None)
    available = _whole(told.get("available_kib"))
    return DeviceState(
        temperature_c=_temperature([line.removeprefix("zone=") for line in lines if line.startswith("zone=")]),
        frequency_khz=int(fastest[0]) if fastest else None,
        governor=fastest[3] if fastest else None,
        throttled=_throttled(told, [(int(f[1]), int(f[2])) for f in whole]),
        load=_real(told.get("load", "").split(" ")[0]),
        available_bytes=available * 1024 if available is not None else None,
        battery_percent=_whole(told.get("battery_level")),
    )


def _run(device: Device, script: str) -> list[str]:
    return device.call_checked(["sh", "-c", script], timeout_s=_QUICK_S).decode(errors="replace").splitlines()


def _last(lines: list[str]) -> Mapping[str, str]:
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _temperature(zones: list[str]) -> float | None:
    found = [zone.rsplit(" ", 1) for zone in zones]
    known = [(z[0].lower(), float(z[1]) / 1000) for z in found if len(z) == 2 and _real(z[1]) is not None]
    # Unused zones say -273 or 0x7fff; 0 is what a sensor says that is not read, and no core that runs is so cold.
    plausible = [(kind, celsius) for kind, celsius in known if -30 < celsius < 150 and celsius]
    of_cpu = [celsius for kind, celsius in plausible if "cpu" in kind or "soc" in kind]
    return max(of_cpu or [celsius for _, celsius in plausible], default=None)


def _throttled(told: Mapping[str, str], limits: list[tuple[int, int]]) -> bool | None:
    """Whether the device is slower now than it could be; `limits`: scaling and hardware maximum of each core, kHz."""
    bits = told.get("throttled", "").removeprefix("0x")
    if bits and all(c in "0123456789abcdefABCDEF" for c in bits):
        return bool(int(bits, 16) & 0b1111)  # the low four: now; the others: since it was switched on
    if (status := _whole(told.get("thermal_status"))) is not None:
        return status > 0
    return any(allowed < able for allowed, able in limits) if limits else None


def _cores(possible: str) -> int:
    """Count the cores of the kernel's "0-3" or "0-3,6"."""
    ends = [part.split("-") for part in possible.split(",") if part]
    known = all(end.isdecimal() for part in ends for end in part)
    return max(1, sum(int(part[-1]) - int(part[0]) + 1 for part in ends)) if known else 1


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdecimal() else None


def _real(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
