"""The root of the error tree. Every error of splitbench says what happened and what to do next.

SplitbenchError
├── UsageError                   the request itself cannot be met: unknown name, bad option
├── BroughtCodeError             code that the user brought raised something of its own
├── MachineError                 something that the machine should have is missing
│   └── BuildError               the native runner could not be built
├── DeviceError                  a device cannot be used, or was lost
│   ├── HeldError                another harness is measuring on the device
│   ├── TransferError            the connection held, but a file did not arrive whole
│   └── RunnerError              head_runner ran and reported an error of its own
│       └── UnverifiedError      the program ran, but gave something else than expected
└── FrameError                   bytes that are not a frame: wrong length, checksum or content
    └── ConnectionEndedError     the peer closed the connection between two frames

Errors about networks live in harness/errors.py, errors about attacks in analysis/errors.py.
"""

from __future__ import annotations

from enum import IntEnum


class SplitbenchError(Exception):
    """One sentence on what happened, and a remedy: what the user can do next.

    Args:
        message: what happened, naming the file, name or number concerned.
        remedy: what to do next, or an empty string where nothing can be done.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class UsageError(SplitbenchError):
    """The request itself cannot be met: an unknown name, an option out of range."""


class BroughtCodeError(SplitbenchError):
    """Code that the user brought (a network's factory, an attack) raised something of its own."""


class MachineError(SplitbenchError):
    """Something that the machine should have is missing (compiler, disk space, library)."""


class BuildError(MachineError):
    """The native runner could not be built."""


class DeviceError(SplitbenchError):
    """A device cannot be used, or was lost; the message begins with its address."""


class HeldError(DeviceError):
    """Another harness is measuring on the device."""


class TransferError(DeviceError):
    """The connection held, but a file did not arrive whole."""


class FrameError(SplitbenchError):
    """Bytes that are not a frame: wrong length, checksum or content."""


class RunnerCode(IntEnum):
    """Exit statuses of head_runner; native/src/error.h holds the same list (a test compares them)."""

    OK = 0
    USAGE = 64
    PROGRAM_MISSING = 65
    PROGRAM_DAMAGED = 66
    OPERATOR_MISSING = 67
    INPUT_MISMATCH = 68
    VERIFICATION_FAILED = 69
    EXECUTION_FAILED = 70
    RECEIVER_UNREACHABLE = 71
    RECEIVER_REFUSED = 72
    FRAME_DAMAGED = 73
    FILE_UNREADABLE = 74
    OUTPUT_UNWRITABLE = 75


class RunnerError(DeviceError):
    """head_runner ran and reported an error of its own.

    Args:
        code: the exit status that head_runner gave; None where it was killed or is unknown.
    """

    def __init__(self, message: str, *, remedy: str = "", code: RunnerCode | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code
