"""What a device's shell says is read as it is meant, also what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from device_runner.devices import Completed
from device_runner.devices.local import Local
from device_runner.devices.probe import read_facts, read_state


class Told(Local):
    """This machine, but its shell prints a given text."""

    def __init__(self, text: str) -> None:
        super().__init__("local")
        self.text = text

    def call(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        del argv, stdin, timeout_s
        return Completed(0, self.text.encode(), b"")


PI = """machine=aarch64
kernel=Linux 6.6.31+rpt-rpi-2712
android=
release=Debian GNU/Linux 12 (bookworm)
product= 
tree=Raspberry Pi 5 Model B Rev 1.0
cpu=
vendor=
soc=
board=
hardware=
chip=brcm,bcm2712
qemu=
cores=0-3
memory_kib=8256720
"""  # noqa: W291 - as it is printed


def test_a_pi_is_read() -> None:
    facts = read_facts(Told(PI), free_bytes=7)
    assert (facts.model, facts.soc, facts.machine) == ("Raspberry Pi 5 Model B Rev 1.0", "brcm,bcm2712", "aarch64")
    assert (facts.cores, facts.memory_bytes, facts.free_bytes) == (4, 8256720 * 1024, 7)
    assert facts.system.startswith("Debian GNU/Linux 12 (bookworm), Linux 6.6")
    assert not facts.emulated


@pytest.mark.parametrize(
    "sign", ["qemu=\n|qemu=1\n", "vendor=\n|vendor=AuthenticAMD\n"], ids=["android", "x86 cpuinfo"]
)
def test_an_emulator_is_called_so(sign: str) -> None:
    before, after = sign.split("|")
    assert read_facts(Told(PI.replace(before, after)), free_bytes=0).emulated


@pytest.mark.parametrize(("possible", "cores"), [("0-3", 4), ("0", 1), ("0-3,6-7", 6), ("0,2", 2), ("", 1), ("x", 1)])
def test_cores_are_counted(possible: str, cores: int) -> None:
    assert read_facts(Told(PI.replace("cores=0-3", f"cores={possible}")), free_bytes=0).cores == cores


@pytest.mark.parametrize(
    ("printed", "celsius"),
    [
        ("zone=cpu-thermal 48312", 48.312),
        ("zone=battery 61000\nzone=cpu-0-0 40000\nzone=cpu-0-1 43000", 43.0),  # the CPU's hottest, not the battery
        ("zone=mystery 39000", 39.0),
        ("zone=cpu-thermal -273000\nzone=other 30000", 30.0),  # an unused zone
        ("zone=cpu-thermal ", None),
        ("zone=cpu-thermal 0", None),  # a sensor that nobody reads
        ("zone=cpu-thermal 0\nzone=other 30000", 30.0),
        ("zone=cpu-thermal nan\nzone=soc -0", None),
        ("", None),
    ],
)
def test_temperature(printed: str, celsius: float | None) -> None:
    assert read_state(Told(printed)).temperature_c == celsius


@pytest.mark.parametrize(
    ("printed", "throttled"),
    [
        ("throttled=0x0", False),
        ("throttled=0x4", True),
        ("throttled=50005", True),
        ("throttled=0x50000", False),  # it was, some time since it was switched on
        ("throttled=\nthermal_status=0", False),
        ("throttled=\nthermal_status=2", True),
        ("throttled=\nfrequency=900000 1800000 1800000 ondemand", False),
        ("throttled=\nfrequency=900000 1200000 1800000 ondemand", True),
        ("throttled=", None),
    ],
)
def test_throttling(printed: str, throttled: bool | None) -> None:
    assert read_state(Told(printed)).throttled is throttled


def test_frequency_and_governor_are_of_the_fastest_core() -> None:
    state = read_state(Told("frequency=600000 1800000 1800000 powersave\nfrequency=1500000 2400000 2400000 schedutil"))
    assert (state.frequency_khz, state.governor) == (1500000, "schedutil")


def test_this_machines_own_shell_is_understood(tmp_path: Path) -> None:
    del tmp_path
    state = read_state(Local("local"))
    assert state.load is not None
    assert state.available_bytes
    assert read_facts(Local("local"), free_bytes=1).cores >= 1
