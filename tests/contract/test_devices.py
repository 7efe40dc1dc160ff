"""What every registered device promises the harness. A new device subclasses DeviceContract and gives its fixture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device_runner.bundle import build_bundle
from device_runner.devices import DEVICES, Device
from device_runner.devices.adb import Adb
from device_runner.devices.emulated import Emulated
from device_runner.devices.local import Local
from device_runner.devices.probe import read_state
from device_runner.devices.remote import RemoteDevice
from device_runner.devices.ssh import Ssh
from device_runner.errors import DeviceError, RunnerCode, RunnerError, TransferError
from device_runner.frames import Frame, encode_payload
from device_runner.runner import Job, Shipping, run_program
from harness.measure.receiver import Receiver
from tests.parts.adbd.fixture import attached_phone, own_adb_server, the_adb_server
from tests.parts.adbd.phone import Phone
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


class DeviceContract:
    """Subclass this, name the device in `covers`, and give the fixture `device`."""

    covers: str

    @pytest.fixture
    def device(self) -> Device:
        raise NotImplementedError

    def test_it_is_the_device_that_it_says(self, device: Device) -> None:
        assert isinstance(device, DEVICES.load(self.covers))

    def test_call_gives_status_and_both_outputs(self, device: Device) -> None:
        done = device.call(["sh", "-c", "echo out; echo err >&2; exit 7"], timeout_s=20)
        assert (done.status, done.stdout, done.stderr) == (7, b"out\n", b"err\n")

    def test_arguments_arrive_as_they_are(self, device: Device) -> None:
        hostile = ["a b", "$HOME", "`id`", "'", '"', "*", ";reboot", ""]
        done = device.call(["printf", "%s\\n", *hostile], timeout_s=20)
        assert done.stdout.decode().split("\n")[:-1] == hostile

    def test_standard_input_arrives(self, device: Device) -> None:
        assert device.call(["cat"], stdin=b"token\n", timeout_s=20).stdout == b"token\n"

    def test_a_command_that_does_not_end_is_a_device_error_with_a_remedy(self, device: Device) -> None:
        with pytest.raises(DeviceError) as caught:
            device.call(["sleep", "30"], timeout_s=0.3)
        assert caught.value.remedy
        assert caught.value.message.startswith(f"{device.name}: ")

    def test_a_missing_command_is_a_device_error_with_a_remedy(self, device: Device) -> None:
        with pytest.raises(DeviceError) as caught:
            device.call(["/no/such/program"], timeout_s=20)
        assert caught.value.remedy
        assert caught.value.message.startswith(f"{device.name}: ")

    def test_what_is_pushed_arrives_equal(self, device: Device, tmp_path: Path) -> None:
        content = os.urandom(100_000)
        (tmp_path / "a file").write_bytes(content)
        remote = device.push(tmp_path / "a file")
        assert device.call(["cat", remote], timeout_s=20).stdout == content

    def test_what_changed_here_is_pushed_anew(self, device: Device, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"before")
        device.push(tmp_path / "file")
        (tmp_path / "file").write_bytes(b"behind")
        assert device.call(["cat", device.push(tmp_path / "file")], timeout_s=20).stdout == b"behind"

    def test_the_deployed_runner_runs(self, device: Device) -> None:
        runner = device.deploy(build_bundle(device.target))
        done = device.call([*runner, "--no-such-option"], timeout_s=20)
        assert done.status == RunnerCode.USAGE
        assert done.stderr.startswith(b"head_runner: ")

    def test_what_was_damaged_on_the_device_is_shipped_anew(self, device: Device, tmp_path: Path) -> None:
        if not isinstance(device, RemoteDevice):
            pytest.skip("nothing is copied to this kind of device")
        (tmp_path / "file").write_bytes(b"whole")
        remote, runner = device.push(tmp_path / "file"), device.deploy(build_bundle(device.target))
        for path in (remote, runner[-1]):
            device.call_checked(["sh", "-c", 'printf damaged >>"$1"', "sh", path], timeout_s=20)
        device.close()  # it remembers nothing then
        assert device.call(["cat", device.push(tmp_path / "file")], timeout_s=20).stdout == b"whole"
        runner = device.deploy(build_bundle(device.target))
        assert device.call(runner, timeout_s=20).status == RunnerCode.USAGE

    def test_what_is_fetched_arrives_equal(self, device: Device, tmp_path: Path) -> None:
        content = os.urandom(100_000)
        (tmp_path / "sent").write_bytes(content)
        device.get(device.push(tmp_path / "sent"), tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == content

    def test_fetching_what_is_not_there_is_a_transfer_error(self, device: Device, tmp_path: Path) -> None:
        with pytest.raises(TransferError):
            device.get("/no/such/file", tmp_path / "fetched")
        assert not (tmp_path / "fetched").exists()

    @pytest.mark.parametrize("way_back", ["direct", "tunnel"])
    def test_activations_come_back(self, device: Device, tmp_path: Path, way_back: str) -> None:
        """The deployed runner ships a picture to a receiver that refuses it: its reason came back."""
        host = device.workstation_address()
        if (way_back == "direct" and host is None) or (way_back == "tunnel" and not device.tunnel_link):
            pytest.skip(f"this kind of device has no {way_back} way back")
        runner = device.deploy(build_bundle(device.target))
        pictures = tmp_path / "pictures"
        pictures.write_bytes(encode_payload(Frame({}, {"pictures": np.zeros((1, 3, 8, 8), np.uint8)})))
        with Receiver(host if way_back == "direct" and host else "127.0.0.1") as receiver:
            port = receiver.port
            address = f"{host}:{port}" if way_back == "direct" else device.open_tunnel(port)
            shipping = Shipping(device.push(pictures), address, "not-the-token", cells=("c",), round=0)
            with pytest.raises(RunnerError, match="token") as caught:
                run_program(device, runner, Job(shipping=shipping), timeout_s=30)
        assert caught.value.code == RunnerCode.RECEIVER_REFUSED

    def test_it_is_checked_and_tells_its_state(self, device: Device) -> None:
        device.check()
        state = read_state(device)
        assert state.load is not None
        assert state.available_bytes

    def test_a_closed_device_connects_anew(self, device: Device) -> None:
        device.close()
        assert device.call(["true"], timeout_s=20).status == 0

    def test_it_describes_itself(self, device: Device) -> None:
        facts = device.describe()
        assert facts.model
        assert facts.machine
        assert facts.system
        assert facts.cores >= 1
        assert facts.memory_bytes > 2**28
        assert facts.free_bytes > 0


class TestLocal(DeviceContract):
    covers = "local"

    @pytest.fixture
    def device(self) -> Device:
        return Local("local")


class TestEmulated(DeviceContract):
    covers = "emulated"

    @pytest.fixture
    def device(self) -> Device:
        return Emulated("emulated")


class TestSsh(DeviceContract):
    covers = "ssh"

    @pytest.fixture
    def device(self, plain_pi: Pi) -> Iterator[Device]:
        with Ssh(plain_pi.address) as ssh:
            yield ssh


class TestSshToAnAwkwardHome(DeviceContract):
    covers = "ssh"

    @pytest.fixture
    def device(self, awkward_pi: Pi) -> Iterator[Device]:
        with Ssh(awkward_pi.address) as ssh:
            yield ssh


class TestAdb(DeviceContract):
    covers = "adb"

    @pytest.fixture
    def device(self, attached_phone: Phone) -> Iterator[Device]:
        with Adb(attached_phone.address) as adb:
            yield adb


def test_every_registered_device_is_held_to_the_contract() -> None:
    covered = {contract.covers for contract in DeviceContract.__subclasses__()}
    assert covered == set(DEVICES), "add a subclass of DeviceContract to this file"
