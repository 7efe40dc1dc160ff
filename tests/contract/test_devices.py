"""What every registered device promises the harness. A new device subclasses DeviceContract and gives its fixture."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from device_runner.bundle import build_bundle
from device_runner.devices import DEVICES, Device
from device_runner.devices.local import Local
from device_runner.errors import DeviceError, RunnerCode


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

    def test_a_missing_command_is_a_device_error_with_a_remedy(self, device: Device) -> None:
        with pytest.raises(DeviceError) as caught:
            device.call(["/no/such/program"], timeout_s=20)
        assert caught.value.remedy

    def test_what_is_pushed_arrives_equal(self, device: Device, tmp_path: Path) -> None:
        content = os.urandom(100_000)
        (tmp_path / "a file").write_bytes(content)
        remote = device.push(tmp_path / "a file")
        assert device.call(["cat", remote], timeout_s=20).stdout == content

    def test_the_deployed_runner_runs(self, device: Device) -> None:
        runner = device.deploy(build_bundle(device.target))
        done = device.call([runner, "--no-such-option"], timeout_s=20)
        assert done.status == RunnerCode.USAGE
        assert done.stderr.startswith(b"head_runner: ")

    def test_the_way_back_reaches_the_workstation(self, device: Device) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            host, _, port = device.way_back(listener.getsockname()[1]).rpartition(":")
            script = f"import socket; socket.create_connection(({host!r}, {port}), 5).sendall(b'here')"
            listener.settimeout(20)
            done = device.call([sys.executable, "-c", script], timeout_s=20)
            assert done.status == 0, done.stderr
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(4) == b"here"

    def test_it_describes_itself(self, device: Device) -> None:
        facts = device.describe()
        assert facts.model
        assert facts.machine
        assert facts.system
        assert facts.cores >= 1
        assert facts.memory_bytes > 2**28


class TestLocal(DeviceContract):
    covers = "local"

    @pytest.fixture
    def device(self) -> Device:
        return Local("local")


def test_every_registered_device_is_held_to_the_contract() -> None:
    covered = {contract.covers for contract in DeviceContract.__subclasses__()}
    assert covered == set(DEVICES), "add a subclass of DeviceContract to this file"
