"""What doctor finds, and what counts as missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from device_runner.bundle import TARGETS
from harness.cli import bench
from harness.workstation import doctor
from harness.workstation.doctor import Check, examine

ARM64 = TARGETS["arm64"].on_this_machine()
TOOLS = {
    "ssh": "apt-get install openssh-client",
    "adb": "apt-get install adb",
    ARM64.compiler: ARM64.remedy,
    "qemu-aarch64-static": "apt-get install qemu-user-static",
}


def optional() -> dict[str, Check]:
    return {check.what.partition(",")[0]: check for check in examine() if check.optional}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that programs are looked for in."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("programs")
def test_each_tool_that_is_missing_says_for_which_devices_and_how_to_get_it() -> None:
    found = optional()
    assert {name: check.remedy for name, check in found.items()} == TOOLS
    assert all(", for " in check.what for check in found.values())


def test_a_tool_that_is_there_is_named(programs: Path) -> None:
    for name in ("adb", "qemu-aarch64"):  # Debian's static one has another name than others'
        (programs / name).touch(0o755)
    found = optional()
    assert (found["adb"].found, found["adb"].remedy) == (str(programs / "adb"), None)
    assert found["qemu-aarch64-static"].found == str(programs / "qemu-aarch64")


@pytest.mark.parametrize(
    ("check", "status", "begins"),
    [
        (Check("torch", "2.14.1"), 0, "ok"),
        (Check("adb, for phones", "not installed", "apt-get install adb", optional=True), 0, "optional"),
        (Check("runner", "no compiler", "apt-get install g++"), 1, "MISSING"),
    ],
)
def test_only_what_a_run_on_this_machine_needs_is_a_failure(
    check: Check, status: int, begins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [check])
    done = CliRunner().invoke(bench, ["doctor"])
    assert done.exit_code == status
    assert done.output.startswith(begins)
    assert (check.remedy or check.found) in done.output
