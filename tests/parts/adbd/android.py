"""What lies on the phone: the files of an Android system, as far as anybody looks at them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import uuid
from pathlib import Path

MODEL, PRODUCT, ANDROID_VERSION, SOC = "Pretend 8", "pretend", "14", "PT8000"

_PROPERTIES = {
    "ro.build.version.release": ANDROID_VERSION,
    "ro.build.version.sdk": "34",
    "ro.product.manufacturer": "splitbench",
    "ro.product.name": PRODUCT,
    "ro.product.model": MODEL,
    "ro.product.device": PRODUCT,
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.soc.model": SOC,
    "ro.kernel.qemu": "1",
}

# Debian's toybox has no tr and no gzip, Android's has; and Android's hashes with libcrypto, as coreutils does.
_FROM_THE_HOST = ("tr", "gzip", "sha256sum")

_SCRIPTS = {
    # What the kernel says is the workstation's.
    "uname": '/system/bin/toybox uname "$@" | /system/bin/toybox sed "s/$(/system/bin/toybox uname -m)/MACHINE/"',
    "getprop": """
if [ $# -eq 0 ]; then sed -n 's/^\\([^=]*\\)=\\(.*\\)$/[\\1]: [\\2]/p' /system/build.prop
else while IFS='=' read -r name value; do [ "$name" = "$1" ] && echo "$value"; done </system/build.prop; fi; exit 0""",
    "dumpsys": """
if [ -e "/system/etc/dumpsys/$1" ]; then cat "/system/etc/dumpsys/$1"
else echo "Can't find service: $1"; fi""",
}

_THERMAL_SERVICE = """IsStatusOverride: false
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=31.0, mType=0, mName=CPU0, mStatus=0}
HAL Ready: true
"""
_BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  status: 2
  level: 87
  scale: 100
  voltage: 4211
  temperature: 291
  technology: Li-ion
"""

_LITTLE_KHZ, _BIG_KHZ = 1_804_800, 2_400_000


def install_android(root: Path, *, machine: str = "aarch64") -> None:
    """Write the system into an empty folder. What a phone changes by itself is a plain file here, for tests to edit."""
    root.chmod(0o755)
    cores = os.cpu_count() or 1
    _install_tools(root, machine)
    properties = _PROPERTIES | {"ro.serialno": secrets.token_hex(8).upper()}
    _write(root / "system/build.prop", "".join(f"{name}={value}\n" for name, value in properties.items()))
    _write(root / "system/boot_id", f"{uuid.uuid4()}\n")
    _write(root / "system/etc/passwd", "root:x:0:0::/:/system/bin/sh\nshell:x:2000:2000::/:/system/bin/sh\n")
    _write(root / "system/etc/group", "root:x:0:\nshell:x:2000:\n")
    _write(root / "system/etc/dumpsys/thermalservice", _THERMAL_SERVICE)
    _write(root / "system/etc/dumpsys/battery", _BATTERY)
    _write(root / "system/cpuinfo", "\n".join(_cpuinfo(core, cores) for core in range(cores)))
    _install_sys(root / "sys", cores)
    for folder in ("proc", "dev", "data", "storage"):
        (root / folder).mkdir()
    (root / "sdcard").symlink_to("/storage/emulated/0")
    (root / "bin").symlink_to("/system/bin")
    (root / "etc").symlink_to("/system/etc")


def _write(path: Path, content: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)


def _install_tools(root: Path, machine: str) -> None:
    tools = root / "system/bin"
    tools.mkdir(parents=True)
    toybox = _copy_program(root, "toybox")
    shutil.copy(_copy_program(root, "mksh"), tools / "sh")
    for program in _FROM_THE_HOST:
        _copy_program(root, program)
    for command in subprocess.run([str(toybox)], capture_output=True, text=True, check=True).stdout.split():
        if not (tools / command).exists():
            (tools / command).symlink_to("toybox")
    for name, script in _SCRIPTS.items():
        (tools / name).unlink(missing_ok=True)
        _write(tools / name, "#!/system/bin/sh\n" + script.strip().replace("MACHINE", machine) + "\n", 0o755)


def _copy_program(root: Path, name: str) -> Path:
    """Copy a program and the libraries that it names, these to where they lie on the host."""
    found = shutil.which(name)
    assert found, f"{name} is missing: apt-get install toybox mksh"
    target = root / "system/bin" / name
    target.unlink(missing_ok=True)
    shutil.copy(found, target)
    named = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(0x", named):
        copy = root / library.lstrip("/")
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, copy)
    return target


def _is_big(core: int, cores: int) -> bool:
    return core >= cores // 2


def _cpuinfo(core: int, cores: int) -> str:
    part = "0xd0b" if _is_big(core, cores) else "0xd05"  # Cortex-A76, Cortex-A55
    return (
        f"processor\t: {core}\nBogoMIPS\t: 38.40\n"
        "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc asimddp\n"
        f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: {part}\nCPU revision\t: 0\n"
    )


def _install_sys(folder: Path, cores: int) -> None:
    span = f"0-{cores - 1}\n" if cores > 1 else "0\n"
    for name in ("possible", "present", "online"):
        _write(folder / "devices/system/cpu" / name, span)
    for core in range(cores):
        top = f"{_BIG_KHZ if _is_big(core, cores) else _LITTLE_KHZ}\n"
        for name in ("scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq"):
            _write(folder / f"devices/system/cpu/cpu{core}/cpufreq" / name, top)
        _write(folder / f"devices/system/cpu/cpu{core}/cpufreq/scaling_governor", "schedutil\n")
    for zone, (kind, temperature) in enumerate((("cpu-0-0", "31000"), ("battery", "29100"))):
        _write(folder / f"class/thermal/thermal_zone{zone}/type", f"{kind}\n")
        _write(folder / f"class/thermal/thermal_zone{zone}/temp", f"{temperature}\n")
    _write(folder / "class/power_supply/battery/current_now", "-412000\n")  # microamperes
    _write(folder / "class/power_supply/battery/voltage_now", "4211000\n")  # microvolts
