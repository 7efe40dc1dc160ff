"""Lets the kernel start ARM64 programs on this machine, inside a chroot as well."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

_FOLDER = Path("/proc/sys/fs/binfmt_misc")
_MAGIC = bytes.fromhex("7f454c460201010000000000000000000200b700")
_MASK = bytes.fromhex("ffffffffffffff00fffffffffffffffffeffffff")


def ensure_arm64_programs_start() -> None:
    """Register qemu-user as Debian's package does where it could; the entry stays, as the package's would.

    Flag F opens the interpreter now, so that it is found inside a chroot too. Needs root.
    """
    if platform.machine() == "aarch64":
        return
    if not (_FOLDER / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_FOLDER)], check=True)
    if any(_starts_arm64(entry) for entry in _FOLDER.iterdir() if entry.name not in ("register", "status")):
        return
    interpreter = shutil.which("qemu-aarch64-static")
    assert interpreter, "qemu-aarch64-static is missing: apt-get install qemu-user-static"
    magic, mask = (b"".join(b"\\x%02x" % byte for byte in part) for part in (_MAGIC, _MASK))
    line = b":qemu-aarch64:M::" + magic + b":" + mask + b":" + interpreter.encode() + b":F"
    (_FOLDER / "register").write_bytes(line)


def _starts_arm64(entry: Path) -> bool:
    """Debian's qemu-user-static also registers with F; an entry without it would not be found inside a chroot."""
    told = entry.read_text()
    flags = next((line for line in told.splitlines() if line.startswith("flags:")), "")
    return told.startswith("enabled") and f"magic {_MAGIC.hex()}" in told and "F" in flags
