"""Which devices are there, what they are, and whether heads can run on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from device_runner.devices import DEVICES, DeviceFacts, open_device
from device_runner.devices.lease import Lease, holder_of
from device_runner.devices.probe import DeviceState, read_state
from device_runner.devices.remote import RemoteDevice
from device_runner.devices.ssh_address import without_password
from device_runner.errors import SplitbenchError


@dataclass(frozen=True)
class InventoryEntry:
    """One device that was looked at.

    Attributes:
        facts, state: None where it did not answer.
        problem: why heads cannot run there, and what to do about it; None where they can.
        holder: who is measuring on it now.
        same_as: the address under which the same machine was looked at before.
    """

    address: str
    facts: DeviceFacts | None = None
    state: DeviceState | None = None
    problem: SplitbenchError | None = None
    holder: str = ""
    same_as: str = ""


def look_at(addresses: Sequence[str]) -> Iterator[InventoryEntry]:
    """Look at these devices, or at every one that is there by itself: this machine, the emulated one, those on adb."""
    seen: dict[str, str] = {}
    for there in addresses or _discovered():
        entry = there if isinstance(there, InventoryEntry) else _look_at(there)
        identity = entry.facts.identity if entry.facts else ""
        yield replace(entry, same_as=seen.get(identity, ""))
        if identity:
            seen.setdefault(identity, entry.address)


def _discovered() -> Iterator[str | InventoryEntry]:
    """All that is there by itself; a kind of device that cannot be asked hides no other."""
    for kind in DEVICES:
        try:
            yield from DEVICES.load(kind).discover()
        except SplitbenchError as exc:
            yield InventoryEntry(kind, problem=exc)


def _look_at(address: str) -> InventoryEntry:
    entry = InventoryEntry(without_password(address))
    try:
        with open_device(address) as device:
            entry = replace(entry, facts=device.describe(), state=read_state(device))
            if isinstance(device, RemoteDevice) and (holder := holder_of(device)):
                entry = replace(entry, holder=holder.name)
            device.check()
    except SplitbenchError as exc:
        return replace(entry, problem=exc)
    return entry


def clean(address: str) -> None:
    """Remove what splitbench put on a device, and only that. Raises HeldError while a harness measures on it."""
    with open_device(address) as device, Lease(device) if isinstance(device, RemoteDevice) else nullcontext():
        device.clean()
