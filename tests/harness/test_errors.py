"""An error that several others led to tells one of them, whole."""

from __future__ import annotations

import pytest

from device_runner.errors import DeviceError, RunnerError
from harness.errors import LostDeviceError

CUT = DeviceError("adb:1: the connection was lost", remedy="look at its cable")
GONE = DeviceError("adb:1: it is not attached", remedy="plug it in")


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (CUT, "adb:1: the connection was lost; look at its cable, then --resume"),
        (RunnerError("head_runner ended with status 1"), "adb:1: it is not attached; plug it in, then --resume"),
    ],
)
def test_a_lost_device_is_told_by_its_first_failure_that_has_a_remedy(first: DeviceError, told: str) -> None:
    assert str(LostDeviceError("adb:1", first, GONE)) == f"adb:1 was lost: {told}"


def test_a_lost_device_always_says_how_to_go_on() -> None:
    assert LostDeviceError("adb:1", DeviceError("gone")).remedy == "look at it, then --resume"
