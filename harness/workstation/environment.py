"""What the workstation is: kept with every run."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import asdict

from harness.measure.ready import ReadyDevice

_LIBRARIES = ("splitbench", "torch", "torchvision", "torchao", "executorch", "numpy", "scikit-image", "safetensors")


def describe_environment(devices: Sequence[ReadyDevice]) -> dict[str, str]:
    """Library versions, Python, system, and what each device says of itself; name -> text."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    versions |= {"python": platform.python_version(), "system": platform.platform()}
    for ready in devices:
        versions |= {f"{ready.device.name}: {key}": str(value) for key, value in asdict(ready.facts).items()}
    return versions
