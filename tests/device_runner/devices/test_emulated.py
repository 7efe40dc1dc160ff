"""The emulated device is an ARM64 one, says that it is emulated, and says what it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_runner.bundle import build_bundle
from device_runner.devices import open_device
from device_runner.devices.emulated import CPU, Emulated
from device_runner.errors import DeviceError


@pytest.fixture
def emulated() -> Emulated:
    device = open_device("emulated")
    assert isinstance(device, Emulated)
    return device


def test_it_says_that_it_is_emulated(emulated: Emulated) -> None:
    facts = emulated.describe()
    assert facts.emulated
    assert CPU in facts.model
    assert facts.machine == "aarch64"


def test_its_runner_is_an_arm64_program_on_a_pinned_processor(emulated: Emulated) -> None:
    bundle = build_bundle(emulated.target)
    runner = emulated.deploy(bundle)
    assert Path(runner[0]).name.startswith("qemu-aarch64")
    assert runner[1:3] == ("-cpu", CPU)
    assert runner[3:] == bundle.command(str(bundle.folder))
    header = bundle.runner.read_bytes()[:20]
    assert header[:5] == b"\x7fELF\x02"
    assert int.from_bytes(header[18:20], "little") == 183, "AArch64"


def test_it_is_found_by_itself() -> None:
    assert Emulated.discover() == ["emulated"]


def test_without_qemu_each_verb_that_needs_it_is_one_line_with_its_remedy(
    emulated: Emulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = build_bundle(emulated.target)
    monkeypatch.setenv("PATH", str(tmp_path))
    for verb in (emulated.check, lambda: emulated.deploy(bundle)):
        with pytest.raises(DeviceError) as caught:
            verb()
        assert str(caught.value) == ("emulated: qemu-aarch64-static is not on PATH; apt-get install qemu-user-static")
    assert emulated.describe().emulated, "what it is can be told without qemu"
