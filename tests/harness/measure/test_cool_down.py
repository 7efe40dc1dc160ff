"""A pause is seconds or a temperature; what cannot be waited for is said at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from device_runner.devices import Completed
from device_runner.devices.local import Local
from device_runner.errors import DeviceError, UsageError
from harness.measure import cool_down
from harness.measure.cool_down import CoolDown


class Cooling(Local):
    """This machine, but a little cooler each time it is asked."""

    def __init__(self, *celsius: float) -> None:
        super().__init__("local")
        self.left = list(celsius)

    def call(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        del argv, stdin, timeout_s
        zone = f"zone=cpu {self.left.pop(0) * 1000:.0f}\n" if self.left else ""
        return Completed(0, zone.encode(), b"")


@pytest.mark.parametrize(
    ("text", "meant"), [("5s", CoolDown(seconds=5)), ("0.5s", CoolDown(seconds=0.5)), ("50C", CoolDown(celsius=50))]
)
def test_it_is_read(text: str, meant: CoolDown) -> None:
    assert CoolDown.parse(text) == meant


@pytest.mark.parametrize("text", ["", "5", "fast", "-5s", "50F", "5 s"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="5s or 50C"):
        CoolDown.parse(text)


def test_it_waits_until_the_device_is_cool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cool_down, "_LOOK_EVERY_S", 0.0)
    device = Cooling(60, 55, 50, 45)
    CoolDown(celsius=50).wait(device)
    assert device.left == [45]


def test_a_device_without_a_thermometer_is_one_line() -> None:
    with pytest.raises(DeviceError, match="reports no temperature"):
        CoolDown(celsius=50).wait(Cooling())
