"""Machines that splitbench cannot run on are told so in one line."""

from __future__ import annotations

import platform
import sys

import pytest

from harness.workstation.host import unsupported


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_linux_on_both_processors_is_supported(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert unsupported() is None


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "riscv64")])
def test_another_machine_is_named_in_one_line(system: str, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert unsupported() == f"splitbench runs on Linux x86_64 and aarch64, not on {system} {machine}"


def test_an_old_python_is_told_which_one_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 14, "final", 0))
    reason = unsupported()
    assert reason is not None
    assert reason.startswith("splitbench needs Python 3.11 or newer, not ")
