"""One harness at a time measures on a device, whichever workstation it runs on; the others are told who does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from device_runner.devices import lease as module
from device_runner.devices import open_device
from device_runner.devices.lease import Lease, holder_of
from device_runner.devices.remote import RemoteDevice
from device_runner.errors import HeldError
from tests.parts.adbd.fixture import attached_phone, own_adb_server, the_adb_server
from tests.parts.adbd.phone import Phone, wait_until
from tests.parts.sshd.fixture import awkward_pi, plain_pi, the_awkward_pi, the_plain_pi
from tests.parts.sshd.pi import Pi

__all__ = [
    "attached_phone",
    "awkward_pi",
    "own_adb_server",
    "plain_pi",
    "the_adb_server",
    "the_awkward_pi",
    "the_plain_pi",
]

_OTHER = """
import sys, time
from device_runner.devices import open_device
from device_runner.devices.lease import Lease
with open_device(sys.argv[1]) as device, Lease(device):
    print("taken", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["plain_pi", "awkward_pi", "attached_phone"])
def device(request: pytest.FixtureRequest) -> Iterator[RemoteDevice]:
    part: Pi | Phone = request.getfixturevalue(request.param)
    with open_device(part.address) as device:
        assert isinstance(device, RemoteDevice)
        yield device


@contextmanager
def another_harness(device: RemoteDevice) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", _OTHER, device.name], stdout=subprocess.PIPE)
    assert process.stdout
    try:
        assert process.stdout.readline() == b"taken\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process runs on another workstation: of processes there nothing is known."""
    monkeypatch.setattr(module, "_workstation", lambda: "another")


def test_another_harness_is_told_who_measures(device: RemoteDevice) -> None:
    assert holder_of(device) is None
    with another_harness(device) as other:
        held = holder_of(device)
        assert held
        assert held.name.endswith(f", process {other.pid}")
        with pytest.raises(HeldError, match=f"another harness is measuring on .*process {other.pid}"), Lease(device):
            pass


def test_it_is_free_when_the_block_ends(device: RemoteDevice) -> None:
    for _ in range(2):
        with Lease(device):
            assert holder_of(device)
        assert holder_of(device) is None


def test_a_killed_harness_of_this_workstation_is_not_waited_for(device: RemoteDevice) -> None:
    with another_harness(device) as other:
        other.kill()
        other.wait()
        assert holder_of(device) is None
        with Lease(device):
            pass


def test_a_killed_harness_of_another_workstation_is_waited_for_until_its_lease_ends(
    device: RemoteDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(monkeypatch)
    with another_harness(device) as other:
        other.kill()
        other.wait()
        with pytest.raises(HeldError, match=r"\d+ s later at most"), Lease(device):
            pass
        shorten = 'sed "3s/.*/1/" "$1/lease" >"$1/n" && mv "$1/n" "$1/lease"'
        device.call_checked(["sh", "-c", shorten, "sh", device.root()], timeout_s=20)
        with Lease(device):
            pass


def test_a_lease_from_before_a_restart_counts_no_more(device: RemoteDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(monkeypatch)
    with another_harness(device):
        forget = 'sed "2s/.*/boot/" "$1/lease" >"$1/n" && mv "$1/n" "$1/lease"'
        device.call_checked(["sh", "-c", forget, "sh", device.root()], timeout_s=20)
        with Lease(device):
            pass


def test_what_a_killed_script_left_is_no_obstacle(device: RemoteDevice) -> None:
    device.call_checked(["mkdir", "-p", f"{device.root()}/lease.busy"], timeout_s=20)
    began = time.monotonic()
    with Lease(device):
        assert time.monotonic() - began < 10
    listed = device.call_checked(["ls", device.root()], timeout_s=20)
    assert b"lease" not in listed


def test_it_is_renewed_while_nothing_is_measured_and_never_meanwhile(
    device: RemoteDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RENEW_S", 0.05)

    def written() -> bytes:
        return device.call_checked(["sh", "-c", 'ls -i "$1/lease"', "sh", device.root()], timeout_s=20)

    with Lease(device) as lease:
        first = written()
        wait_until(lambda: written() != first, "it is renewed")
        with lease.undisturbed():
            before = written()
            time.sleep(0.3)
            assert written() == before
            lease.keep()  # nothing is measured just now
            assert written() != before


def test_one_that_was_taken_meanwhile_is_told_before_the_next_measurement(
    device: RemoteDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lease(device) as lease:
        device.call_checked(["rm", f"{device.root()}/lease"], timeout_s=20)
        with another_harness(device):
            monkeypatch.setattr(lease, "_ends", 0.0)
            with pytest.raises(HeldError), lease.undisturbed():
                pass
            with pytest.raises(HeldError):
                lease.keep()
            assert holder_of(device)
