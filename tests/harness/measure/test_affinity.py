"""Big and little are what a device's own cores make them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from device_runner.devices import Completed
from device_runner.devices.local import Local
from device_runner.errors import UsageError
from harness.measure.affinity import check_affinity, core_mask


class Cores(Local):
    """This machine, but with cores of the given frequencies in kHz."""

    def __init__(self, *khz: int) -> None:
        super().__init__("local")
        self.khz = khz

    def call(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        del argv, stdin, timeout_s
        folder = "/sys/devices/system/cpu"
        lines = [f"{folder}/cpu{core}/cpufreq/cpuinfo_max_freq {khz}\n" for core, khz in enumerate(self.khz)]
        return Completed(0, "".join(lines).encode(), b"")


PHONE = (1800000,) * 4 + (2400000,) * 3 + (2900000,)


@pytest.mark.parametrize(("text", "mask"), [("big", "80"), ("little", "f"), ("all", None), ("f0", "f0"), ("0x3", "3")])
def test_masks(text: str, mask: str | None) -> None:
    assert core_mask(text, Cores(*PHONE)) == mask


@pytest.mark.parametrize("cores", [Cores(), Cores(1500000, 1500000)], ids=["not told", "alike"])
def test_big_on_cores_that_are_alike_is_refused(cores: Local) -> None:
    with pytest.raises(UsageError, match="alike"):
        core_mask("big", cores)


@pytest.mark.parametrize("text", ["", "huge", "0x", "-1", "f0;reboot"])
def test_anything_else_is_no_affinity(text: str) -> None:
    with pytest.raises(UsageError, match="hexadecimal"):
        check_affinity(text)
