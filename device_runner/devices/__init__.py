"""Devices by name."""

from __future__ import annotations

from device_runner.devices.base import Completed, Device, DeviceFacts
from device_runner.registry import Registry

__all__ = ["DEVICES", "Completed", "Device", "DeviceFacts"]

DEVICES: Registry[Device] = Registry(
    "device", "device_runner.devices.base:Device", {"local": "device_runner.devices.local:Local"}
)
