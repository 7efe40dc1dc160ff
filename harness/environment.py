"""What the workstation is: kept with every run."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict

from device_runner.devices import Device

_LIBRARIES = ("splitbench", "torch", "torchvision", "torchao", "executorch", "numpy", "scikit-image", "safetensors")


def describe_environment(devices: list[Device]) -> dict[str, str]:
    """Library versions, Python, system, and what each device says of itself; name -> text."""
    found = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    found |= {"python": platform.python_version(), "system": platform.platform()}
    for device in devices:
        found |= {f"{device.name}: {key}": str(value) for key, value in asdict(device.describe()).items()}
    return found
