"""Devices by the scheme of their address."""

from __future__ import annotations

import re

from device_runner.devices.base import Completed, Device, DeviceFacts
from device_runner.devices.ssh_address import refuse_ssh_without_scheme
from device_runner.registry import Registry

__all__ = ["DEVICES", "Completed", "Device", "DeviceFacts", "open_device"]

DEVICES: Registry[Device] = Registry(
    "device",
    "device_runner.devices.base:Device",
    {
        "local": "device_runner.devices.local:Local",
        "ssh": "device_runner.devices.ssh:Ssh",
        "adb": "device_runner.devices.adb:Adb",
        "emulated": "device_runner.devices.emulated:Emulated",
    },
)


def open_device(address: str) -> Device:
    """The device behind an address: local, emulated, ssh://USER@HOST:PORT, adb, adb:SERIAL, adb:IP:PORT, or a class.

    Nothing is connected yet.

    Raises:
        UsageError: no such kind of device, or an address that its kind cannot read; a password in it is never shown.
    """
    scheme = re.split("[:/]", address, maxsplit=1)[0]
    if scheme not in DEVICES:
        refuse_ssh_without_scheme(address)
    return DEVICES.load(scheme if scheme in DEVICES else address)(address)
