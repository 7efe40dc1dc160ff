"""The adb device against the real adb server, and a phone that is one as far as adb can see."""

from __future__ import annotations

import inspect
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import adbutils.errors
import pytest

from device_runner.bundle import Bundle
from device_runner.devices import open_device
from device_runner.devices.adb import Adb
from device_runner.devices.adb_errors import CLASSES, device_error, meaning_of_words
from device_runner.devices.probe import read_state
from device_runner.errors import TransferError, UsageError
from device_runner.sealed import pack, write_sums
from tests.parts.adbd.fixture import attached_phone, own_adb_server, the_adb_server
from tests.parts.adbd.phone import AdbServer, Phone, phone, wait_until
from tests.parts.common import blob, failure

__all__ = ["attached_phone", "own_adb_server", "the_adb_server"]

TEMPORARY = "/data/local/tmp"
ROOT = f"{TEMPORARY}/splitbench"


@pytest.fixture
def device(attached_phone: Phone) -> Iterator[Adb]:
    with Adb(attached_phone.address) as adb:
        yield adb


def files_in(device: Adb, folder: str) -> list[str]:
    script = 'cd "$1" && find . -type f | sort'
    return device.call_checked(["sh", "-c", script, "sh", folder], timeout_s=20).decode().splitlines()


def processes(device: Adb) -> str:
    return device.call_checked(["ps", "-A", "-o", "args"], timeout_s=20).decode()


class TestAddress:
    @pytest.mark.parametrize("address", ["adb:", "adb://phone", "adb:a\nb", "adb:a\tb", "adb/phone"])
    def test_what_is_no_device_is_a_usage_error(self, address: str) -> None:
        with pytest.raises(UsageError, match="use adb, adb:SERIAL or adb:IP:PORT"):
            open_device(address)

    @pytest.mark.parametrize("address", ["adb", "adb:0123456789ABCDEF", "adb:192.168.1.7:5555", "adb:[::1]:5555"])
    def test_reading_it_touches_nothing(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
        assert open_device(address).name == address

    def test_the_only_device_needs_no_name(self, own_adb_server: AdbServer, attached_phone: Phone) -> None:
        own_adb_server.adb("connect", attached_phone.serial)
        with Adb("adb") as device:
            assert device.describe().model == "splitbench Pretend 8"
            assert device.tunnel_link == "adb reverse (tcp)"

    def test_one_of_several_must_be_named(self, own_adb_server: AdbServer, attached_phone: Phone) -> None:
        own_adb_server.adb("connect", attached_phone.serial)
        with phone() as other:
            serial = own_adb_server.attach(other)
            with Adb("adb") as device, pytest.raises(UsageError) as caught:
                device.check()
            assert f"adb:{serial}" in caught.value.remedy
            assert attached_phone.address in caught.value.remedy
            with Adb(f"adb:{serial}") as device:
                device.check()
            assert sorted(Adb.discover()) == sorted([f"adb:{serial}", attached_phone.address])

    @pytest.mark.usefixtures("own_adb_server")
    def test_none_attached_is_a_device_error(self) -> None:
        with Adb("adb") as device, failure("it is not attached (nothing is)", remedy="USB debugging"):
            device.check()
        assert Adb.discover() == []

    def test_a_wrong_serial_names_what_is_attached(self, own_adb_server: AdbServer, attached_phone: Phone) -> None:
        own_adb_server.adb("connect", attached_phone.serial)
        with Adb("adb:NOSUCHPHONE") as device, failure(f"attached: {attached_phone.serial}"):
            device.check()

    @pytest.mark.usefixtures("own_adb_server")
    def test_an_address_where_nobody_answers_is_a_device_error(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with Adb(f"adb:127.0.0.1:{port}") as device, failure("refused", remedy="Wireless debugging"):
            device.check()

    def test_without_adb_there_are_no_devices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
        assert Adb.discover() == []


class TestCommands:
    @pytest.mark.parametrize("argument", ["\n", "a\nb\n", "-n", "ümläut 🎈", "\\", "!!", "~", "$(id)", "\udcff\udc80"])
    def test_hostile_arguments_arrive_as_they_are(self, device: Adb, argument: str) -> None:
        done = device.call(["printf", "%s", argument], timeout_s=20)
        assert done.stdout == os.fsencode(argument)

    def test_a_command_may_say_much_while_it_is_told_much(self, device: Adb) -> None:
        content = os.urandom(3_000_000)
        assert device.call(["cat"], stdin=content, timeout_s=60).stdout == content

    def test_a_command_need_not_read_its_input(self, device: Adb) -> None:
        assert device.call(["sh", "-c", "exit 3"], stdin=bytes(3_000_000), timeout_s=20).status == 3

    def test_a_killed_command_says_so(self, device: Adb) -> None:
        assert device.call(["sh", "-c", "kill -KILL $$"], timeout_s=20).status == 128 + 9

    @pytest.mark.parametrize("status", [126, 127, 255])
    def test_a_status_of_its_own_is_a_result(self, device: Adb, status: int) -> None:
        assert device.call(["sh", "-c", f"echo no >&2; exit {status}"], timeout_s=20).status == status

    def test_what_may_not_be_executed_is_a_device_error(self, device: Adb) -> None:
        script = "printf '#!/system/bin/sh\\n' >/sdcard/program"
        device.call_checked(["sh", "-c", script], timeout_s=20)
        with failure("/sdcard/program cannot be started: Permission denied"):
            device.call(["/sdcard/program"], timeout_s=20)

    def test_what_a_command_started_ends_with_its_time(self, device: Adb) -> None:
        with failure("sh did not end within 0.5 s"):
            device.call(["sh", "-c", "sleep 4321 & sleep 4322; echo"], timeout_s=0.5)
        assert "432" not in processes(device)

    def test_a_command_line_that_adb_cannot_carry_is_refused(self, device: Adb) -> None:
        with pytest.raises(ValueError, match="65,535"):
            device.call(["true", "x" * 70_000], timeout_s=20)


class TestFiles:
    @pytest.mark.parametrize("name", ["it's", 'a "b"', "$HOME", "a\nb", "-rf", "ü", ",755"])
    def test_go_there_and_back_under_any_name(self, device: Adb, tmp_path: Path, name: str) -> None:
        sent = blob(tmp_path, 100_000)
        device.put(sent, f"{TEMPORARY}/{name}")
        device.get(f"{TEMPORARY}/{name}", tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == sent.read_bytes()

    def test_an_empty_one_arrives(self, device: Adb, tmp_path: Path) -> None:
        device.get(device.push(blob(tmp_path, 0)), tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == b""

    def test_that_cannot_be_written_say_why(self, device: Adb, tmp_path: Path) -> None:
        with failure("0 of 10 bytes arrived: ", kind=TransferError):
            device.put(blob(tmp_path, 10), "/system/blob")

    def test_replace_what_was_there_or_fail(self, device: Adb, tmp_path: Path) -> None:
        remote = f"{TEMPORARY}/folder/blob"
        device.call_checked(["mkdir", f"{TEMPORARY}/folder"], timeout_s=20)
        device.put(blob(tmp_path, 10), remote)
        device.put(blob(tmp_path, 10), remote)
        device.get(remote, tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == (tmp_path / "blob").read_bytes()
        device.call_checked(["chmod", "555", f"{TEMPORARY}/folder"], timeout_s=20)
        with failure("Permission denied", kind=TransferError):
            device.put(blob(tmp_path, 10), remote)

    def test_a_folder_is_not_fetched(self, device: Adb, tmp_path: Path) -> None:
        with failure("cannot be fetched", kind=TransferError):
            device.get(TEMPORARY, tmp_path / "fetched")
        assert list(tmp_path.iterdir()) == []

    def test_that_arrive_damaged_are_refused(self, attached_phone: Phone, device: Adb, tmp_path: Path) -> None:
        device.put(blob(tmp_path, 500_000), f"{TEMPORARY}/good")
        attached_phone.change(damaging=True)
        with failure("blob arrived damaged", kind=TransferError):
            device.push(tmp_path / "blob")
        attached_phone.change(damaging=True)
        with failure("good arrived damaged", kind=TransferError):
            device.get(f"{TEMPORARY}/good", tmp_path / "fetched")
        assert not (tmp_path / "fetched").exists()
        assert files_in(device, ROOT) == []

    def test_that_are_there_are_not_sent_again(self, attached_phone: Phone, device: Adb, tmp_path: Path) -> None:
        remote = device.push(blob(tmp_path, 500_000))
        with Adb(attached_phone.address) as other:
            other.check()
            attached_phone.change(change_after_bytes=100_000)  # sending it would be the end
            assert other.push(tmp_path / "blob") == remote


class TestDeployment:
    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Bundle:
        folder = tmp_path / "bundles" / ("5" * 64)
        folder.mkdir(parents=True)
        runner = folder / "head_runner"
        runner.write_text("#!/system/bin/sh\necho here\n")
        runner.chmod(0o755)
        bundle = Bundle(folder, runner, folder.name)
        write_sums(folder)
        pack(folder, bundle.archive)
        return bundle

    @staticmethod
    def deployed(bundle: Bundle) -> list[str]:
        return [f"./bundles/{bundle.sha256}/{name}" for name in ("SHA256SUMS", "head_runner")]

    def test_ships_nothing_the_second_time(self, attached_phone: Phone, device: Adb, bundle: Bundle) -> None:
        runner = device.deploy(bundle)
        bundle.archive.unlink()
        with Adb(attached_phone.address) as other:
            assert other.deploy(bundle) == runner
            assert other.call([*runner], timeout_s=20).stdout == b"here\n"
        assert files_in(device, ROOT) == self.deployed(bundle)

    def test_two_harnesses_may_deploy_at_once(self, attached_phone: Phone, bundle: Bundle) -> None:
        def deploy(_: int) -> bytes:
            with Adb(attached_phone.address) as device:
                return device.call([*device.deploy(bundle)], timeout_s=20).stdout

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(deploy, range(4))) == {b"here\n"}

    def test_clean_removes_ours_alone(self, device: Adb, bundle: Bundle, tmp_path: Path) -> None:
        device.put(blob(tmp_path, 10), f"{TEMPORARY}/somebody's")
        device.deploy(bundle)
        device.push(tmp_path / "blob")
        device.clean()
        assert files_in(device, TEMPORARY) == ["./somebody's"]
        device.deploy(bundle)
        assert files_in(device, ROOT) == self.deployed(bundle)


class TestTunnel:
    @staticmethod
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(connection.recv(100).upper())

    @staticmethod
    def ask(address: str) -> bytes:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), 5) as client:
            client.sendall(b"hello")
            return client.recv(100)

    def test_leads_here_until_it_is_closed(self, device: Adb) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            address = device.open_tunnel(port)
            assert address != f"127.0.0.1:{port}"
            assert device.open_tunnel(port) == address
            answering = threading.Thread(target=self.answer, args=[listener])
            answering.start()
            assert self.ask(address) == b"HELLO"
            answering.join()
        device.close()
        with pytest.raises(ConnectionRefusedError):
            self.ask(address)

    def test_is_opened_anew_after_the_device_was_lost(self, attached_phone: Phone, device: Adb) -> None:
        device.open_tunnel(9)
        attached_phone.change(state="unplugged")
        attached_phone.change(state="device")
        with failure(""):
            device.check()
        address = device.open_tunnel(9)
        assert address in [f"127.0.0.1:{port}" for port in tunnels(attached_phone)]

    def test_closing_a_lost_device_is_no_error(self, attached_phone: Phone, device: Adb) -> None:
        for port in (9, 10):
            device.open_tunnel(port)
        attached_phone.change(state="unplugged")
        device.close()

    def test_closing_closes_no_other(self, attached_phone: Phone, device: Adb) -> None:
        mine = device.open_tunnel(9)
        with Adb(attached_phone.address) as other:
            other.open_tunnel(9)
            assert len(tunnels(attached_phone)) == 2
        assert [f"127.0.0.1:{port}" for port in tunnels(attached_phone)] == [mine]

    def test_the_workstation_is_where_the_phone_can_reach_it(self, device: Adb) -> None:
        assert device.workstation_address() == "127.0.0.1"
        with closing(Adb("adb:0123456789ABCDEF")) as on_a_cable:
            assert on_a_cable.workstation_address() is None
            assert on_a_cable.tunnel_link == "adb reverse (usb)"


def tunnels(phone: Phone) -> list[str]:
    """The ports that the phone forwards, as adb's own client has it."""
    listed = adbutils.AdbClient().device(phone.serial).reverse_list()
    return [item.remote.removeprefix("tcp:") for item in listed]


class TestFaults:
    def test_unauthorized(self, attached_phone: Phone, device: Adb) -> None:
        attached_phone.change(state="unauthorized")
        with failure("(unauthorized)", remedy="accept the dialog"):
            device.check()
        attached_phone.change(state="device")
        device.check()

    @pytest.mark.parametrize(("state", "words"), [("unauthorized", "unauthorized"), ("offline", "it is offline")])
    def test_what_is_attached_may_still_not_be_usable(
        self, own_adb_server: AdbServer, attached_phone: Phone, state: str, words: str
    ) -> None:
        attached_phone.change(state="unauthorized" if state == "unauthorized" else "offline")
        serial = own_adb_server.attach(attached_phone, state=state)
        with Adb("adb") as device, failure(words):
            device.check()
        assert Adb.discover() == [f"adb:{serial}"]

    def test_one_that_adb_holds_for_connected_is_connected_to_anew(self, attached_phone: Phone, device: Adb) -> None:
        device.check()
        attached_phone.change(state="unplugged")
        with Adb(attached_phone.address) as other, failure("refused"):
            other.check()
        attached_phone.change(state="device")
        with Adb(attached_phone.address) as other:
            other.check()

    def test_unplugged_in_mid_transfer(self, attached_phone: Phone, device: Adb, tmp_path: Path) -> None:
        device.check()
        sent = blob(tmp_path, 3_000_000)
        attached_phone.change(change_after_bytes=1_000_000)
        with failure("lost while blob was sent", remedy="cable"):
            device.push(sent)
        with failure("refused"):
            device.push(sent)
        attached_phone.change(state="device")
        remote = device.push(sent)
        whole = [f"./files/{Path(remote).name}"]
        wait_until(lambda: files_in(device, ROOT) == whole, "the phone threw away what it had of the first one")
        device.get(remote, tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == sent.read_bytes()

    def test_unplugged_while_a_command_runs(self, attached_phone: Phone, device: Adb) -> None:
        device.check()
        unplugging = threading.Timer(0.3, attached_phone.change, kwargs={"state": "unplugged"})
        unplugging.start()
        with failure("lost", remedy="run again"):
            device.call(["sleep", "30"], timeout_s=20)
        unplugging.join()

    def test_silent_before_a_command(self, attached_phone: Phone, device: Adb) -> None:
        device.check()
        device.answer_s = 0.3
        attached_phone.change(state="silent")
        with failure("does not answer"):
            device.call(["true"], timeout_s=20)

    def test_silent_in_the_middle_of_a_command(self, attached_phone: Phone, device: Adb) -> None:
        device.check()
        silencing = threading.Timer(0.2, attached_phone.change, kwargs={"state": "silent"})
        silencing.start()
        device.answer_s = 0.3
        with failure("did not end within 0.6 s"):
            device.call(["sleep", "30"], timeout_s=0.6)
        silencing.join()

    def test_silent_in_mid_transfer(self, attached_phone: Phone, device: Adb, tmp_path: Path) -> None:
        device.check()
        device.stall_s = device.answer_s = 0.3
        attached_phone.change(change_after_bytes=1_000_000, then="silent")
        with failure("does not answer while blob was sent"):
            device.push(blob(tmp_path, 3_000_000))

    @pytest.mark.usefixtures("own_adb_server")
    def test_full(self, tmp_path: Path) -> None:
        with phone(storage_bytes=12 * 2**20) as small, Adb(small.address) as device:
            with failure("no space for blob (9000000 bytes)", remedy="free ", kind=TransferError):
                device.push(blob(tmp_path, 9_000_000))
            with failure(" of 20000000 bytes arrived", remedy="free ", kind=TransferError):
                device.put(blob(tmp_path, 20_000_000), f"{TEMPORARY}/big")
            with failure("no space in", remedy="free "):
                device.check()
            assert files_in(device, TEMPORARY) == []

    @pytest.mark.usefixtures("own_adb_server")
    @pytest.mark.parametrize(("machine", "remedy"), [("armv8l", "64-bit"), ("x86_64", "ARM64 system image")])
    def test_no_bundle_for_it(self, machine: str, remedy: str) -> None:
        words = f"its processor is '{machine}', not aarch64"
        with phone(machine=machine) as other, Adb(other.address) as device, failure(words, remedy=remedy):
            device.describe()

    def test_adb_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
        with Adb("adb") as device, failure("adb is missing", remedy="apt-get install adb"):
            device.check()


class TestHeat:
    def test_is_seen(self, attached_phone: Phone, device: Adb) -> None:
        cool = read_state(device)
        assert (cool.temperature_c, cool.throttled) == (31.0, False)
        attached_phone.heat_up(68.5)
        hot = read_state(device)
        assert (hot.temperature_c, hot.throttled) == (68.5, True)
        assert cool.frequency_khz
        assert hot.frequency_khz == cool.frequency_khz // 2
        assert (hot.governor, hot.battery_percent) == ("schedutil", 87)


class TestErrors:
    def test_every_error_of_adbutils_is_mapped(self) -> None:
        errors = {
            kind for _, kind in inspect.getmembers(adbutils.errors, inspect.isclass) if issubclass(kind, Exception)
        }
        assert errors <= set(CLASSES)

    @pytest.mark.parametrize(
        ("exc", "words", "remedy"),
        [
            (adbutils.AdbError("No adb exe could be found. Install adb on your system"), "adb is missing", "apt-get"),
            (adbutils.AdbError("device 'X' not found"), "not attached", "USB debugging"),
            (adbutils.AdbError("insufficient permissions for device: verify udev rules"), "USB port", "plugdev"),
            (adbutils.AdbError("device still authorizing"), "unauthorized", "dialog"),
            (adbutils.AdbError("something\nnew"), "adb failed (something new)", "adb devices"),
            (adbutils.errors.AdbTimeout("adb read timeout"), "does not answer", "cable"),
            (ConnectionResetError(104, "reset"), "was lost", "cable"),
            (OSError(28, "No space left on device"), "this workstation's disk is full", "free space here"),
        ],
    )
    def test_each_has_its_remedy(self, exc: Exception, words: str, remedy: str) -> None:
        error = device_error(exc, name="adb")
        assert words in error.message
        assert remedy in error.remedy
        assert "\n" not in str(error)

    def test_unknown_words_mean_nothing(self) -> None:
        assert meaning_of_words("connected to 10.0.0.7:5555") is None
