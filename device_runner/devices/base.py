"""What every device can do for the harness."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from device_runner.bundle import Bundle
from device_runner.errors import DeviceError, UsageError
from device_runner.said import first_line, last_line


@dataclass(frozen=True)
class Completed:
    """What a command on a device came to; a non-zero status is a result, not an error.

    Attributes:
        status: the exit status; negative: the signal that ended it. A shell between says 128 + signal instead.
    """

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def said(self) -> str:
        """The first line of what it complained of, or else its status."""
        return first_line(self.stderr, otherwise=f"status {self.status}")

    @property
    def last_line(self) -> str:
        """The last line of what it complained of, or else its status."""
        return last_line(self.stderr, otherwise=f"status {self.status}")


@dataclass(frozen=True)
class DeviceFacts:
    """What a device says of itself.

    Attributes:
        model: "Raspberry Pi 5 Model B Rev 1.0"; soc: its chip, empty where the device does not tell.
        machine: what `uname -m` prints: "aarch64".
        free_bytes: where bundles and heads go.
        emulated: its processor is not real: times mean nothing, and are never shown without the word.
        identity: the same under every address, as long as the device is not restarted, and of no other device: a hash
            of what it tells of its serial number (device tree, ro.serialno), /etc/machine-id, which copied memory
            cards share, and the kernel's boot id, which nothing shares. Empty where it tells none of them, and of this
            machine itself.
    """

    model: str
    soc: str
    machine: str
    cores: int
    memory_bytes: int
    free_bytes: int
    system: str
    emulated: bool
    identity: str = ""


class Device(ABC):
    """A machine that heads run on. Subclass it in a file of its own and name it in `DEVICES`.

    You write the abstract verbs below; a device that files must be copied to subclasses `RemoteDevice` (remote.py),
    which has some of them. Making an instance reads the address and touches nothing; the first verb connects, and a
    lost connection is a DeviceError whose next verb connects anew. Paths on the device are plain strings; what is
    pushed arrives equal or not at all. Every verb raises DeviceError, with a remedy, where the device cannot be used
    or was lost.

    Attributes:
        target: the bundle target that this device runs ("host", "arm64").
        direct_link, tunnel_link: how activations travel back, as the table's column `link` calls it ("loopback").
        on_workstation: heads run on the harness's own machine, and disturb whatever it does.
        name: the address that the user gave.
    """

    target: ClassVar[str]
    on_workstation: ClassVar[bool] = False
    direct_link: ClassVar[str]
    tunnel_link: str = ""

    def __init__(self, address: str) -> None:
        self.name = address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @classmethod
    def discover(cls) -> list[str]:
        """Addresses of this kind that are there now, also of those that cannot be used yet."""
        return []

    def check(self) -> None:  # noqa: B027 - a device that nothing is copied to has nothing to check
        """Raise DeviceError, with a remedy, where heads could not be put or run on the device."""

    @abstractmethod
    def describe(self) -> DeviceFacts:
        """What the device is, and how much room it has."""

    @abstractmethod
    def deploy(self, bundle: Bundle) -> tuple[str, ...]:
        """Put the bundle on the device, unless it is there; returns how a command line that runs head_runner begins."""

    @abstractmethod
    def push(self, local: Path) -> str:
        """Put one file on the device, unless it is there; returns its path there. Raises TransferError."""

    @abstractmethod
    def get(self, remote: str, local: Path) -> None:
        """Fetch one file from the device. Raises TransferError where it is missing or does not arrive whole."""

    @abstractmethod
    def call(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run a command to its end: its arguments arrive as they are, whatever they hold.

        Raises:
            DeviceError: it cannot be started, the device was lost, or the time is over (the command is ended then).
        """

    def call_checked(self, argv: Sequence[str], *, timeout_s: float) -> bytes:
        """Run a command that must succeed; returns its standard output."""
        done = self.call(argv, timeout_s=timeout_s)
        if done.status != 0:
            raise DeviceError(f"{self.name}: {argv[0]} failed: {done.last_line}", remedy="see bench devices")
        return done.stdout

    @abstractmethod
    def workstation_address(self) -> str | None:
        """This workstation's host name or IP address as the device would reach it; None where that is not known."""

    def open_tunnel(self, port: int) -> str:
        """Open a way from the device to a port on this workstation's loopback; returns host:port on the device.

        It stays open until `close`; opening the same port again gives the same way.
        """
        raise UsageError(f"device {self.name} has no tunnel (port {port})", remedy="use --way-back direct")

    def clean(self) -> None:  # noqa: B027 - a device that nothing is copied to has nothing to remove
        """Remove what splitbench put on the device, and only that."""

    def close(self) -> None:  # noqa: B027 - not every device holds a connection
        """Give up the connection; the next verb connects anew."""
