"""The adb server is the one that adb itself would talk to; what is none, or says nothing, is told in seconds."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_runner.devices import open_device
from device_runner.devices.adb import Adb
from device_runner.devices.adb_server import ServerAddress, states
from device_runner.errors import DeviceError, UsageError
from harness.workstation.inventory import look_at
from tests.parts.adbd.fixture import attached_phone, own_adb_server, the_adb_server
from tests.parts.adbd.phone import AdbServer, Phone
from tests.parts.adbd.renaming import renaming_server, serving, unix_server
from tests.parts.common import failure

__all__ = ["attached_phone", "own_adb_server", "the_adb_server"]

VARIABLES = ("ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_ADB_SERVER_PORT", "ANDROID_SERIAL")


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


class TestAddress:
    @pytest.mark.parametrize(
        ("given", "where"),
        [
            ({}, ("127.0.0.1", 5037)),
            ({"ANDROID_ADB_SERVER_PORT": "5038"}, ("127.0.0.1", 5038)),
            ({"ANDROID_ADB_SERVER_ADDRESS": "lab"}, ("lab", 5037)),
            ({"ADB_SERVER_SOCKET": "tcp:5038", "ANDROID_ADB_SERVER_PORT": "abc"}, ("127.0.0.1", 5038)),
            ({"ADB_SERVER_SOCKET": "tcp:lab.example:5038"}, ("lab.example", 5038)),
            ({"ADB_SERVER_SOCKET": "tcp:[::1]:5038"}, ("::1", 5038)),
            ({"ADB_SERVER_SOCKET": "localfilesystem:/run/adb"}, "/run/adb"),
            ({"ADB_SERVER_SOCKET": "localabstract:adb"}, "\0adb"),
        ],
    )
    def test_is_read_as_adb_reads_it(
        self, given: dict[str, str], where: tuple[str, int] | str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        assert ServerAddress.from_environment().where == where

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ANDROID_ADB_SERVER_PORT", "abc"),
            ("ANDROID_ADB_SERVER_PORT", "70000"),
            ("ANDROID_ADB_SERVER_PORT", "-1"),
            ("ADB_SERVER_SOCKET", "vsock:3:5037"),
            ("ADB_SERVER_SOCKET", "tcp:lab"),
            ("ADB_SERVER_SOCKET", "5037"),
        ],
    )
    def test_that_cannot_be_read_is_one_line_with_its_variable(
        self, name: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, value)
        with Adb("adb") as device, pytest.raises(UsageError, match=f"{name} is '{value}'"):
            device.check()
        assert "local" in [finding.address for finding in look_at(()) if finding.problem is None]

    def test_that_is_a_socket_in_the_file_system_is_used(
        self, own_adb_server: AdbServer, attached_phone: Phone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        own_adb_server.attach(attached_phone)
        path = tmp_path / "adb"
        with unix_server(own_adb_server.port, path):
            monkeypatch.setenv("ADB_SERVER_SOCKET", f"localfilesystem:{path}")
            with Adb("adb") as device:
                assert device.describe().model == "splitbench Pretend 8"

    def test_elsewhere_is_never_started_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ADB_SERVER_SOCKET", "tcp:192.0.2.1:5037")
        with Adb("adb") as device, failure("tcp:192.0.2.1:5037 (ADB_SERVER_SOCKET) cannot be reached", remedy="there"):
            device.check()

    def test_that_cannot_be_read_does_not_hide_this_machine_from_a_new_process(self, tmp_path: Path) -> None:
        """Adbutils reads the port as soon as it is imported."""
        command = [str(Path(sys.executable).with_name("bench")), "devices", "adb", "local"]
        environment = os.environ | {"ANDROID_ADB_SERVER_PORT": "abc"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert "local: ok" in done.stdout, done.stderr
        assert "adb: ANDROID_ADB_SERVER_PORT is 'abc'" in done.stdout

    @pytest.mark.parametrize("address", ["adb:[fe80::1%wlan0]:5555", "adb:[::1]:5555", "adb:lab.example:40123"])
    def test_on_the_network_is_taken_with_its_port(self, address: str) -> None:
        assert open_device(address).name == address

    @pytest.mark.parametrize("port", ["0", "65536"])
    def test_with_an_impossible_port_is_refused(self, port: str) -> None:
        with pytest.raises(UsageError, match="names no port"):
            open_device(f"adb:192.168.1.7:{port}")


class TestStrangers:
    @pytest.fixture(params=["silent", "web", "talks", "hangs up"])
    def stranger(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        words = {"silent": b"", "web": b"HTTP/1.1 400 Bad Request\r\n\r\n", "talks": b"OKAYzzzz", "hangs up": b""}

        def answer(client: socket.socket) -> None:
            client.recv(100)
            client.sendall(words[request.param])
            if request.param != "hangs up":
                client.recv(100)  # until it hangs up

        monkeypatch.setattr(Adb, "server_s", 0.5)
        with serving(answer) as port:
            monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:localhost:{port}")
            yield str(request.param)

    def test_hide_no_other_device_and_are_told_soon(self, stranger: str) -> None:
        began = time.monotonic()
        found = {finding.address: finding for finding in look_at(())}
        assert time.monotonic() - began < 10
        assert found["local"].problem is None
        assert found["adb"].problem, stranger
        assert "kill-server" not in str(found["adb"].problem)

    @pytest.mark.parametrize("address", ["adb", "adb:SERIAL", "adb:127.0.0.1:5555"])
    def test_are_told_in_place_of_a_device(self, stranger: str, address: str) -> None:
        with Adb(address) as device, pytest.raises(DeviceError) as caught:
            device.check()
        said = str(caught.value)
        words = {"silent": "says nothing", "web": "is none", "talks": "is none", "hangs up": "lost"}[stranger]
        assert words in said
        assert "\n" not in said
        if stranger != "hangs up":
            assert "use a server of your own" in said


def test_a_server_that_cannot_start_is_told_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "adb"
    program.write_text("#!/bin/sh\necho 'ADB server didn'\"'\"'t ACK' >&2\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    with Adb("adb") as device, failure("cannot be started (adb start-server: ADB server didn't ACK)", remedy="adb"):
        device.check()


def test_one_that_does_not_run_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:localhost:{port}")
    for name in ("HOME", "ANDROID_SDK_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    try:
        assert Adb.discover() == [] or states(answer_s=5)
    finally:
        subprocess.run(["adb", "kill-server"], check=True)  # our own


class TestSerials:
    @pytest.mark.parametrize(
        "serial",
        [
            "A B  C",
            "????????????",
            "usb/1-4:2",
            "Samsung (SDB)",
            "a;b|c&d",
            "it's",
            "(no serial number)",
            "0123;456",
            "adb-14141FDF600081-A5tGBI._adb-tls-connect._tcp.",
            "1:2:3",
            "ü",
        ],
    )
    def test_whatever_adb_lists_can_be_measured_on(
        self, own_adb_server: AdbServer, attached_phone: Phone, serial: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = own_adb_server.attach(attached_phone)
        with renaming_server(own_adb_server.port, real, serial) as port:
            monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
            assert Adb.discover() == [f"adb:{serial}"]
            with open_device(f"adb:{serial}") as device:
                assert device.describe().model == "splitbench Pretend 8"
                assert device.open_tunnel(9).startswith("127.0.0.1:")

    def test_a_name_of_mdns_may_lack_its_dot(
        self, own_adb_server: AdbServer, attached_phone: Phone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, name = own_adb_server.attach(attached_phone), "adb-1414._adb-tls-connect._tcp"
        with renaming_server(own_adb_server.port, real, f"{name}.") as port:
            monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
            with Adb(f"adb:{name}") as device:
                device.check()

    @pytest.mark.parametrize(
        ("address", "meant"),
        [
            ("adb:192.168.1.7", "adb:192.168.1.7:5555"),
            ("adb:fe80::1%wlan0", "'adb:[fe80::1%wlan0]:5555'"),
            ("adb:[::1]", "'adb:[::1]:5555'"),
        ],
    )
    def test_an_ip_address_without_a_port_gets_one(self, address: str, meant: str) -> None:
        with pytest.raises(UsageError) as caught:
            open_device(address)
        assert meant in caught.value.remedy

    def test_android_serial_chooses_as_it_does_for_adb(
        self, own_adb_server: AdbServer, attached_phone: Phone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own_adb_server.adb("connect", attached_phone.serial)
        real = own_adb_server.attach(attached_phone)
        monkeypatch.setenv("ANDROID_SERIAL", real)
        with Adb("adb") as device:
            device.check()
        monkeypatch.setenv("ANDROID_SERIAL", "ANOTHER")
        with Adb("adb") as device, failure("it is not attached (ANDROID_SERIAL is ANOTHER; attached: "):
            device.check()

    def test_names_to_choose_from_can_be_pasted(
        self, own_adb_server: AdbServer, attached_phone: Phone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own_adb_server.adb("connect", attached_phone.serial)
        real = own_adb_server.attach(attached_phone)
        with renaming_server(own_adb_server.port, real, "A (B)") as port:
            monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
            with Adb("adb") as device, pytest.raises(UsageError) as caught:
                device.check()
        assert "'adb:A (B)'" in caught.value.remedy
