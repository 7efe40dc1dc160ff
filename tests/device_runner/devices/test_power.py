"""Power is read from a battery in use alone: a charger's share is not seen there."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_runner.devices import power
from device_runner.devices.local import Local
from device_runner.devices.power import find_power_source, pmic_power_mw


@pytest.fixture
def battery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "battery of a phone"
    folder.mkdir()
    for name, text in (("status", "Discharging\n"), ("current_now", "-450000\n"), ("voltage_now", "3900000\n")):
        (folder / name).write_text(text)
    monkeypatch.setattr(power, "_BATTERY", str(folder))
    return folder


def test_a_battery_in_use_is_read(battery: Path) -> None:
    assert find_power_source(Local("local")).files == (f"{battery}/current_now", f"{battery}/voltage_now")


@pytest.mark.parametrize("status", ["Charging\n", "Full\n", ""])
def test_a_charging_battery_is_a_reason(battery: Path, status: str) -> None:
    (battery / "status").write_text(status)
    found = find_power_source(Local("local"))
    assert found.files is None
    assert "not on battery" in found.reason


@pytest.mark.parametrize("missing", ["current_now", "voltage_now"])
def test_a_battery_that_tells_no_current_is_a_reason(battery: Path, missing: str) -> None:
    (battery / missing).unlink()
    assert "no battery" in find_power_source(Local("local")).reason


def test_a_power_chips_rails_are_summed() -> None:
    printed = """
 3V3_SYS_A current(1)=0.50000000A
 VDD_CORE_A current(7)=2.00000000A
 3V3_SYS_V volt(9)=3.30000000V
 VDD_CORE_V volt(15)=0.75000000V
 EXT5V_V volt(24)=5.14786000V
"""
    assert pmic_power_mw(printed) == pytest.approx(1000 * (0.5 * 3.3 + 2.0 * 0.75))  # EXT5V has no current


@pytest.mark.parametrize("printed", ["", "error=2", " EXT5V_V volt(24)=5.1V\n"])
def test_a_power_chip_that_tells_no_rail_is_no_power(printed: str) -> None:
    assert pmic_power_mw(printed) is None
