"""What every device can do for the harness."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from device_runner.bundle import Bundle


@dataclass(frozen=True)
class Completed:
    """What a command on a device came to; a non-zero status is a result, not an error.

    Attributes:
        status: the exit status; negative: the signal that ended it.
    """

    status: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class DeviceFacts:
    """What a device says of itself, for the report."""

    model: str
    machine: str
    cores: int
    memory_bytes: int
    system: str


class Device(ABC):
    """A machine that heads run on. Subclass it in a file of its own and name it in `DEVICES`.

    You write the five verbs below. Paths on the device are plain strings; what is pushed arrives equal or not at all.

    Attributes:
        target: the bundle target that this device runs ("host").
        link: how activations travel back, a column of the table: "loopback".
    """

    target: ClassVar[str]
    link: ClassVar[str]

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def deploy(self, bundle: Bundle) -> str:
        """Put the bundle on the device, unless it is there; returns the runner's path on the device."""

    @abstractmethod
    def push(self, local: Path) -> str:
        """Put one file on the device; returns its path there. Raises TransferError."""

    @abstractmethod
    def call(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run a command to its end. Raises DeviceError where the device is lost or the time is over."""

    @abstractmethod
    def way_back(self, port: int) -> str:
        """host:port at which the device reaches the receiver's port on this workstation."""

    @abstractmethod
    def describe(self) -> DeviceFacts:
        """Model, machine, cores, memory and system."""
