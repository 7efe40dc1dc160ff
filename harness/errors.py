"""Errors about networks, exports, pictures and results.

SplitbenchError
├── ModelError        a network cannot be made, or its weights cannot be loaded
├── SplitError        a network has no such split point, or cannot be split
├── ExportError       a head could not be lowered to a .pte
├── PictureError      pictures are missing, unreadable or too few
├── ResultsError      a run folder is damaged, unknown or of another version
├── ReceiverError     a device's connection was refused or broke off
├── TailError         the workstation could not finish a network
├── LostDeviceError   a device that was being measured does not answer any more
└── CalledOffError    the run is ending: what waits for its turn does not begin
"""

from __future__ import annotations

from device_runner.errors import DeviceError, SplitbenchError


class ModelError(SplitbenchError):
    """A network cannot be made, or its weights cannot be loaded."""


class SplitError(SplitbenchError):
    """A network has no such split point, or cannot be split at all."""


class ExportError(SplitbenchError):
    """A head could not be lowered to a .pte, or the .pte does not do what the head does."""


class PictureError(SplitbenchError):
    """Pictures are missing, unreadable or too few."""


class ResultsError(SplitbenchError):
    """A run folder is damaged, unknown or of another version."""


class ReceiverError(SplitbenchError):
    """A device's connection was refused or broke off."""


class TailError(SplitbenchError):
    """The workstation could not finish a network: its engine failed, or died."""


class LostDeviceError(SplitbenchError):
    """A device that was being measured does not answer any more; the others go on, and a later --resume does.

    Args:
        device: its address.
        failures: what went wrong, one after the other: the first that has a remedy explains most.
    """

    def __init__(self, device: str, *failures: DeviceError) -> None:
        why = next((failure for failure in failures if failure.remedy), failures[0])
        super().__init__(f"{device} was lost: {why.message}", remedy=f"{why.remedy or 'look at it'}, then --resume")


class CalledOffError(SplitbenchError):
    """The run is ending, after Ctrl-C or an error elsewhere: what waits for its turn does not begin."""
