"""Power is read from a battery in use alone: a charger's share is not seen there."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_runner.devices import power
from device_runner.devices.local import Local
from device_runner.devices.power import find_power_source


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
