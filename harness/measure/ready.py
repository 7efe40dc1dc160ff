"""Devices made ready: connected, the runner deployed, and a way back to a receiver of their own found."""

from __future__ import annotations

import ipaddress
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

from device_runner.bundle import build_bundle
from device_runner.cache import cache_folder, make_cache_folder
from device_runner.devices import Device, DeviceFacts, open_device
from device_runner.devices.emulated import Emulated
from device_runner.devices.lease import Lease
from device_runner.devices.power import PowerSource, find_power_source
from device_runner.devices.remote import RemoteDevice
from device_runner.errors import DeviceError, HeldError, RunnerCode, RunnerError, UsageError
from device_runner.files import digest, holds, locked
from device_runner.frames import Frame, encode_payload
from device_runner.link import LinkShape
from device_runner.runner import Job, Shipping, run_program
from harness.errors import ReceiverError
from harness.measure.receiver import Receiver
from harness.measure.turn import Turn
from harness.results.schema import DeviceEntry

WayBack = Literal["auto", "direct", "tunnel"]

_LOOPBACK = "127.0.0.1"
_KNOCK_S = 30.0
_SMALLEST_PICTURE = np.zeros((1, 3, 8, 8), np.uint8)


@dataclass(frozen=True)
class ReadyDevice:
    """A device that heads can run on now.

    Attributes:
        runner: how a command line that runs head_runner begins.
        receiver: takes in this device's activations, and no other's.
        tunnel: activations travel through the device's own connection, not straight to this workstation.
        shape: the link that is shaped on the device's side, or None.
        power: where its power can be read.
        turn: what uses this workstation while a device of the run may be shipping waits for it.
        lease: keeps other workstations' harnesses from it; None where nothing can be kept on it.
    """

    device: Device
    facts: DeviceFacts
    runner: tuple[str, ...]
    receiver: Receiver
    tunnel: bool
    shape: LinkShape | None
    power: PowerSource
    turn: Turn
    lease: Lease | None = None

    def undisturbed(self, pause_s: float = 0.0) -> AbstractContextManager[None]:
        """Measure in this block: meanwhile nothing else of this harness speaks to the device.

        Args:
            pause_s: how long the block may do nothing on the device.

        Raises:
            HeldError: another harness has taken the device meanwhile.
        """
        return self.lease.undisturbed(pause_s) if self.lease else nullcontext()

    def its_turn(self) -> AbstractContextManager[None]:
        """Use this workstation in this block, and nobody else who would disturb what is timed.

        Raises:
            HeldError: another harness has taken the device while its turn was waited for.
            CalledOffError: the run is ending.
        """
        return self.turn.taken(self.lease.keep if self.lease else lambda: None)

    def receiver_address(self) -> str:
        """host:port of the receiver as the device sees it; opens the tunnel anew where it was lost."""
        if self.tunnel:
            return self.device.open_tunnel(self.receiver.port)
        return _joined(self.device.workstation_address() or _LOOPBACK, self.receiver.port)

    @property
    def entry(self) -> DeviceEntry:
        """What a run remembers of it."""
        name = self.device.name
        emulated = self.facts.emulated
        label = f"{name} (emulated)" if emulated and not isinstance(self.device, Emulated) else name
        link = self.device.tunnel_link if self.tunnel else self.device.direct_link
        if self.shape:
            link = f"{self.shape} over {link} (shaped)"
        return DeviceEntry(address=name, label=label, emulated=emulated, link=link)


@contextmanager
def prepared(
    address: str, *, way_back: WayBack = "auto", shape: LinkShape | None = None, turn: Turn | None = None
) -> Iterator[ReadyDevice]:
    """Connect to a device, deploy the runner and find a way back, for as long as the block runs.

    Args:
        way_back: "direct", "tunnel", or "auto": direct where that works, otherwise a tunnel.
        turn: that of the run's devices; one of its own by default.

    Raises:
        DeviceError: it cannot be reached or used, or the way back that was asked for does not work.
        HeldError: another harness is measuring on it, of this workstation or of another one, whatever it calls it.
        UsageError: no such device, or this process measures on it already, under another address.
        BuildError: the runner cannot be built for it.
        MachineError: the cache cannot be written.
    """
    with ExitStack() as stack:
        stack.enter_context(_alone(address, address))
        device = stack.enter_context(open_device(address))
        facts = device.describe()
        if facts.identity:
            stack.enter_context(_alone(facts.identity, address))
        device.check()
        lease = stack.enter_context(Lease(device)) if isinstance(device, RemoteDevice) else None
        runner = device.deploy(build_bundle(device.target))
        turn = turn or Turn()
        # What runs on this machine has the turn already, for longer than it ships.
        receiver, tunnel = _find_way_back(device, runner, way_back, None if device.on_workstation else turn)
        with receiver:
            yield ReadyDevice(device, facts, runner, receiver, tunnel, shape, find_power_source(device), turn, lease)


@contextmanager
def _alone(name: str, address: str) -> Iterator[None]:
    """Keep other harnesses from a device: cells on one device never overlap. The lock goes with the process.

    Args:
        name: what is locked: the device's identity, or its address while that is all that is known of it.
    """
    locks = cache_folder() / "devices"
    make_cache_folder(locks)
    path = locks / f"{digest(name)[:16]}.lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path, wait=False))
        except BlockingIOError as exc:
            holder = path.read_text() or address
            if holder != address and holds(path):
                raise UsageError(f"{holder} and {address} are the same machine", remedy="name it once") from exc
            same = f" ({holder} is the same machine)" if holder != address else ""
            raise HeldError(
                f"another harness is measuring on {address}{same}", remedy="wait for it, or end it"
            ) from exc
        path.write_text(address)
        yield


def _find_way_back(
    device: Device, runner: Sequence[str], way_back: WayBack, turn: Turn | None
) -> tuple[Receiver, bool]:
    host = device.workstation_address() if way_back != "tunnel" else None
    if host is not None:
        receiver = _listening(host, turn)
        if receiver is not None:
            if _knock(device, runner, receiver, _joined(host, receiver.port)):
                return receiver, False
            receiver.close()
    if way_back == "direct":
        raise DeviceError(
            f"{device.name} does not reach this workstation directly{f' at {host}' if host else ''}",
            remedy="open its firewall, or use --way-back tunnel",
        )
    receiver = Receiver(_LOOPBACK, turn)
    try:
        if _knock(device, runner, receiver, device.open_tunnel(receiver.port)):
            return receiver, True
    except BaseException:
        receiver.close()
        raise
    receiver.close()
    raise DeviceError(f"{device.name} has no way back to this workstation", remedy="check its network and firewall")


def _listening(host: str, turn: Turn | None = None) -> Receiver | None:
    try:
        return Receiver(_here(host), turn)
    except ReceiverError:  # the device sees an address that is not this machine's own (a router between them)
        return None


def _here(host: str) -> str:
    """This machine's own name for its address: the zone that the device told (fe80::1%wlan0) is one of the device's."""
    if "%" not in host:
        return host
    own = (a.address for addresses in psutil.net_if_addrs().values() for a in addresses)
    return next((address for address in own if address.partition("%")[0] == host.partition("%")[0]), host)


def _knock(device: Device, runner: Sequence[str], receiver: Receiver, address: str) -> bool:
    """Whether the device's runner reaches the receiver: one that expects nothing refuses, and so was reached."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.safetensors"
        picture.write_bytes(encode_payload(Frame({}, {"pictures": _SMALLEST_PICTURE})))
        knock = Shipping(device.push(picture), address, receiver.token, cells=("knock",), round=0)
        try:
            run_program(device, runner, Job(shipping=knock), timeout_s=_KNOCK_S)
        except RunnerError as exc:
            if exc.code not in (RunnerCode.RECEIVER_REFUSED, RunnerCode.RECEIVER_UNREACHABLE):
                raise
            return exc.code == RunnerCode.RECEIVER_REFUSED
    return True


def _joined(host: str, port: int) -> str:
    try:
        return f"[{host}]:{port}" if ipaddress.ip_address(host).version == 6 else f"{host}:{port}"
    except ValueError:
        return f"{host}:{port}"
