"""Which devices are there, what they are, and whether heads can run on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from device_runner.devices import DEVICES, DeviceFacts, open_device
from device_runner.devices.probe import DeviceState, read_state
from device_runner.devices.ssh_address import without_password
from device_runner.errors import SplitbenchError


@dataclass(frozen=True)
class DeviceFinding:
    """One device that was looked at.

    Attributes:
        facts, state: None where it did not answer.
        problem: why heads cannot run there, and what to do about it; None where they can.
    """

    address: str
    facts: DeviceFacts | None = None
    state: DeviceState | None = None
    problem: SplitbenchError | None = None


def look_at(addresses: Sequence[str]) -> Iterator[DeviceFinding]:
    """Look at these devices, or at every one that is there by itself: this machine, the emulated one, those on adb."""
    for address in addresses or [found for name in DEVICES for found in DEVICES.load(name).discover()]:
        yield _look_at(address)


def _look_at(address: str) -> DeviceFinding:
    facts, state, shown = None, None, without_password(address)
    try:
        with open_device(address) as device:
            facts, state = device.describe(), read_state(device)
            device.check()
    except SplitbenchError as exc:
        return DeviceFinding(shown, facts, state, exc)
    return DeviceFinding(shown, facts, state)


def clean(address: str) -> None:
    """Remove what splitbench put on a device, and only that."""
    with open_device(address) as device:
        device.clean()
