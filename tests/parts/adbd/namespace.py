"""Turns a process with namespaces of its own into one that sees nothing but the phone, as Android's user `shell`."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

SHELL_USER = 2000

_NOSUID, _NODEV, _NOEXEC, _BIND = 2, 4, 8, 4096
_DEVICES = ("null", "zero", "random", "urandom")
_SDCARD_BYTES = 16 * 2**20


def become_phone(root: Path, *, storage_bytes: int) -> None:
    """Mount what a phone has, enter it, and give up root. Only in a mount namespace of its own.

    Args:
        root: where `install_android` has been.
        storage_bytes: how much fits on /data.
    """
    _mount("tmpfs", root / "data", "tmpfs", _NOSUID | _NODEV, f"mode=0771,size={storage_bytes}")
    _mount("tmpfs", root / "storage", "tmpfs", _NOSUID | _NODEV | _NOEXEC, f"mode=0755,size={_SDCARD_BYTES}")
    for folder in (root / "data/local/tmp", root / "storage/emulated/0"):
        folder.mkdir(parents=True)
        os.chown(folder, SHELL_USER, SHELL_USER)
    _mount("proc", root / "proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    _mount(root / "system/cpuinfo", root / "proc/cpuinfo", None, _BIND)
    _mount(root / "system/boot_id", root / "proc/sys/kernel/random/boot_id", None, _BIND)
    for name in _DEVICES:
        (root / "dev" / name).touch()
        _mount(f"/dev/{name}", root / "dev" / name, None, _BIND)
    os.chroot(root)
    os.chdir("/")
    os.umask(0)
    os.setgroups([])
    os.setresgid(SHELL_USER, SHELL_USER, SHELL_USER)
    os.setresuid(SHELL_USER, SHELL_USER, SHELL_USER)


def _mount(source: Path | str, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(bytes(Path(source)), bytes(target), kind.encode() if kind else None, flags, options.encode()) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(target))
