"""The ssh device against OpenSSH's own sshd: who may talk to whom, files, commands, and what goes wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from device_runner.bundle import Bundle
from device_runner.devices import open_device
from device_runner.devices.probe import read_state
from device_runner.devices.ssh import Ssh
from device_runner.devices.ssh_address import SshAddress, without_password
from device_runner.devices.ssh_errors import device_error
from device_runner.errors import TransferError, UsageError
from device_runner.sealed import pack, write_sums
from tests.parts.common import blob, failure
from tests.parts.sshd.fixture import at_home, awkward_pi, plain_pi, the_awkward_pi, the_plain_pi
from tests.parts.sshd.pi import Pi, raspberry_pi

__all__ = ["awkward_pi", "plain_pi", "the_awkward_pi", "the_plain_pi"]


@pytest.fixture
def own_pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pi]:
    """A Pi that the test may spoil."""
    with raspberry_pi(tmp_path / "pi and client") as pi:
        yield at_home(pi, monkeypatch)


@pytest.fixture
def device(plain_pi: Pi) -> Iterator[Ssh]:
    with Ssh(plain_pi.address) as ssh:
        yield ssh


def left_on(pi: Pi, *folder: str) -> list[str]:
    return sorted(path.name for path in pi.see(pi.home).joinpath(".cache", "splitbench-device", *folder).iterdir())


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "read"),
        [
            ("ssh://raspberrypi.local", SshAddress("raspberrypi.local")),
            ("ssh://pi@raspberrypi.local", SshAddress("raspberrypi.local", "pi")),
            ("ssh://pi@10.0.0.7:2222", SshAddress("10.0.0.7", "pi", 2222)),
            ("ssh://my_pi:22/", SshAddress("my_pi", None, 22)),
            ("ssh://pi@[fe80::1%eth0]:22", SshAddress("fe80::1%eth0", "pi", 22)),
            ("ssh://[::1]", SshAddress("::1")),
            ("ssh://me@example.org@host:22", SshAddress("host", "me@example.org", 22)),
            ("ssh://münchen.example", SshAddress("münchen.example")),
        ],
    )
    def test_is_read(self, text: str, read: SshAddress) -> None:
        assert SshAddress.parse(text) == read

    @pytest.mark.parametrize(
        "text",
        [
            *("ssh", "ssh:", "ssh://", "ssh://@host", "ssh://pi@", "ssh://host:", "ssh://host:0"),
            *("ssh://host:65536", "ssh://host:ssh", "ssh://host/folder", "ssh://::1"),
            *("ssh://-oProxyCommand=id", "ssh://-l@host", "ssh://a b", "ssh://host;id", "ssh://$(id)", "ssh://host\n"),
        ],
    )
    def test_that_cannot_be_read_is_a_usage_error(self, text: str) -> None:
        with pytest.raises(UsageError) as caught:
            open_device(text)
        assert "ssh://USER@HOST:PORT" in caught.value.remedy

    @pytest.mark.parametrize(
        "text",
        [
            *("ssh://pi:s3cret@host", "ssh://pi:s3cret@", "ssh://pi:s3/c@ret:x@host:22", "pi:s3cret@host"),
            *("SSH://pi:s3cret@host", "ssh:pi:s3cret@host", "ssh://:s3cret@host", "ssh://me@home:s3cret@host"),
        ],
    )
    def test_a_password_is_refused_and_never_shown(self, text: str) -> None:
        with pytest.raises(UsageError) as caught:
            open_device(text)
        assert "password" in caught.value.message
        assert "s3" not in str(caught.value)
        assert "s3" not in without_password(text)

    @pytest.mark.parametrize("text", ["ssh://host:70000", "ssh://host:0", "ssh://host:99999999"])
    def test_a_port_out_of_range_is_told(self, text: str) -> None:
        with pytest.raises(UsageError, match="no port") as caught:
            open_device(text)
        assert "1 to 65535" in caught.value.remedy

    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("pi@raspberrypi.local", "ssh://pi@raspberrypi.local"),
            ("pi@host:2222", "ssh://pi@host:2222"),
            ("raspberrypi.local", "ssh://raspberrypi.local"),
            ("raspberrypi.local:22", "ssh://raspberrypi.local:22"),
            ("10.0.0.7", "ssh://10.0.0.7"),
            ("::1", "ssh://[::1]"),
            ("[::1]", "ssh://[::1]"),
            ("SSH://pi@host", "ssh://pi@host"),
            ("ssh:pi@host", "ssh://pi@host"),
        ],
    )
    def test_without_its_scheme_is_told_with_it(self, text: str, meant: str) -> None:
        with pytest.raises(UsageError) as caught:
            open_device(text)
        assert caught.value.remedy == f"did you mean {meant}?"

    @pytest.mark.parametrize("text", ["usb", "package.module:Class", "raspberrypi", "emulatde"])
    def test_other_words_are_none(self, text: str) -> None:
        with pytest.raises(UsageError) as caught:
            open_device(text)
        assert "did you mean ssh://" not in caught.value.remedy

    @pytest.mark.parametrize("text", ["ssh://pi@host:22", "adb:10.0.0.7:5555", "emulated", "ssh://[::1]:22"])
    def test_one_without_a_password_is_shown_as_it_is(self, text: str) -> None:
        assert without_password(text) == text

    def test_what_is_pasted_from_a_remedy_is_quoted(self) -> None:
        assert SshAddress("host", "$a\\b", 22).login == "-p 22 '$a\\b@host'"


class TestMeanings:
    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ("client_loop: send disconnect: Broken pipe", "the connection was cut"),
            ("Connection to pi closed by remote host.", "the connection was cut"),
            ("Timeout, server pi not responding.", "the connection was lost (Timeout, server pi not responding)"),
            ("ssh: connect to host pi port 22: Connection refused", "it refuses the connection"),
            ("ssh: connect to host pi port 22: No route to host", "it cannot be reached (No route to host)"),
            ("ssh: connect to host pi port 22: Network is unreachable", "there is no way to its network"),
            ("ssh: connect to host pi port 22: Connection timed out", "it does not answer"),
            ("Connection timed out during banner exchange\nConnection to pi port 22 timed out", "it does not answer"),
            (
                "ssh: Could not resolve hostname pi: Name or service not known",
                "its name is not known (pi: Name or service not known)",
            ),
            ("pi@pi: Permission denied (publickey,password).", "it accepts none of your keys"),
            ("pi@pi: Permission denied (password).", "it takes no keys"),
            (
                "x\nReceived disconnect from ::1 port 22:2: Too many authentication failures\r\nDisconnected",
                "turn came",
            ),
            (
                "Unable to negotiate with pi port 22: no matching host key type found. Their offer: x",
                "no cipher or key",
            ),
            (
                "/home/me/.ssh/config: line 3: Bad configuration option: x",
                "your ssh configuration cannot be read (/home",
            ),
            ("ssh_dispatch_run_fatal: Connection to pi port 22: message authentication code incorrect", "is damaged"),
            ("kex_exchange_identification: read: Connection reset by peer", "it hung up before ssh began"),
            ("Host key verification failed.", "its host key is not known yet"),
            (
                "Host key verification failed.\nkex_exchange_identification: x\nConnection closed by UNKNOWN port 6",
                "on the way there: its host key is not known yet",
            ),
            ("whatever else", "ssh failed (whatever else)"),
            ("", "ssh failed ()"),
        ],
    )
    def test_what_ssh_says_is_told(self, said: str, words: str) -> None:
        error = device_error(said, name="ssh://pi", login="pi")
        assert error.message.startswith("ssh://pi: ")
        assert words in error.message
        assert error.remedy
        assert "\n" not in str(error)

    def test_a_banner_is_not_the_cause(self) -> None:
        banner = "Whoever is no member: Permission denied (ask us). Connection refused, Host key verification failed.\n"
        error = device_error(f"{banner}Timeout, server pi not responding.\n", name="ssh://pi", login="pi")
        assert "the connection was lost" in error.message

    def test_what_a_terminal_would_obey_is_not_shown(self) -> None:
        assert "\x1b" not in str(device_error("\x1b[2J it is all gone", name="ssh://pi", login="pi"))


class TestConnecting:
    def test_an_unknown_host_key_is_refused(self, own_pi: Pi) -> None:
        own_pi.known_hosts.unlink()
        with Ssh(own_pi.address) as ssh, failure("host key is not known yet", remedy=f"ssh -p {own_pi.port} pi@127"):
            ssh.root()

    def test_another_host_key_than_the_known_one_is_refused(self, own_pi: Pi) -> None:
        own_pi.change_host_key()
        own_pi.restart()
        entry = f"[127.0.0.1]:{own_pi.port}"
        with Ssh(own_pi.address) as ssh, failure("is NOT the one in known_hosts", remedy=f"ssh-keygen -R '{entry}'"):
            ssh.root()

    def test_a_key_that_the_device_does_not_take_is_refused(self, own_pi: Pi) -> None:
        own_pi.authorized_keys.write_text("")
        with Ssh(own_pi.address) as ssh, failure("accepts none of your keys", remedy=f"ssh-copy-id -p {own_pi.port}"):
            ssh.root()

    def test_nothing_is_asked_for_where_a_key_is_locked(self, own_pi: Pi) -> None:
        key = own_pi.client / ".ssh" / "id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", key], check=True)
        with Ssh(own_pi.address) as ssh, failure("accepts none of your keys", remedy="ssh-add"):
            ssh.root()

    def test_a_device_without_an_ssh_server_refuses(self, own_pi: Pi) -> None:
        own_pi.stop()
        with Ssh(own_pi.address) as ssh, failure("refuses the connection", remedy="raspi-config"):
            ssh.root()

    def test_a_device_that_says_nothing_is_given_up(self, plain_pi: Pi) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as mute,
            Ssh(plain_pi.address_through(mute.getsockname()[1])) as ssh,
        ):
            ssh.connect_s = 0.5
            with failure("does not answer"):
                ssh.root()

    def test_the_agent_s_keys_are_used(self, own_pi: Pi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        key, agent_socket = own_pi.client / ".ssh" / "id_ed25519", str(tmp_path / "agent")
        with subprocess.Popen(["ssh-agent", "-D", "-a", agent_socket], stdout=subprocess.PIPE) as agent:
            assert agent.stdout
            agent.stdout.readline()
            monkeypatch.setenv("SSH_AUTH_SOCK", agent_socket)
            subprocess.run(["ssh-add", "-q", key], check=True)
            key.unlink()
            with Ssh(own_pi.address) as ssh:
                assert ssh.call(["true"], timeout_s=20).status == 0
            agent.terminate()

    def test_the_configuration_s_names_users_ports_keys_and_jump_hosts_are_used(self, own_pi: Pi) -> None:
        key = own_pi.client / ".ssh" / "id_ed25519"
        key.rename(key.with_name("another"))
        (own_pi.client / ".ssh" / "config").write_text(
            f"Host desk cellar\nHostName 127.0.0.1\nPort {own_pi.port}\nUser pi\nIdentityFile ~/.ssh/another\n"
            "Host cellar\nProxyJump desk\n"
        )
        with Ssh("ssh://desk") as desk, Ssh("ssh://cellar") as cellar:
            assert desk.root() == cellar.root()
            assert desk.workstation_address() == "127.0.0.1"

    @pytest.mark.parametrize("machine", ["armv7l", "armv6l"])
    def test_a_32_bit_system_is_told_what_to_install(self, own_pi: Pi, machine: str) -> None:
        own_pi.machine.write_text(f"{machine}\n")
        with Ssh(own_pi.address) as ssh, failure(machine, remedy="install the 64-bit Raspberry Pi OS"):
            ssh.root()

    def test_a_restarted_device_is_connected_anew(self, own_pi: Pi, tmp_path: Path) -> None:
        with Ssh(own_pi.address) as ssh, socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            remote = ssh.push(blob(tmp_path, 1000))
            ssh.open_tunnel(port)
            own_pi.restart()
            assert ssh.call(["test", "-e", remote], timeout_s=20).status == 0
            assert reaches(ssh, ssh.open_tunnel(port), listener)

    def test_a_device_without_forwarding_names_the_other_way(self, own_pi: Pi) -> None:
        own_pi.sshd_config.write_text(own_pi.sshd_config.read_text() + "AllowTcpForwarding no\n")
        own_pi.restart()
        with Ssh(own_pi.address) as ssh, failure("no way back", remedy="--way-back direct"):
            ssh.open_tunnel(1)


class TestCommands:
    def test_arguments_arrive_as_they_are_in_an_awkward_home(self, awkward_pi: Pi) -> None:
        hostile = [
            "",
            "-n",
            "--",
            "a\nb",
            "tab\t",
            "\\",
            "\\n",
            "!!",
            "~",
            "$HOME",
            "${x}",
            "$(id)",
            "'\"'",
            "ü",
            "%s",
            "#",
        ]
        with Ssh(awkward_pi.address) as ssh:
            done = ssh.call(["printf", "%s\\0", *hostile], timeout_s=20)
            assert ssh.root() == "/home/it's a pi/.cache/splitbench-device"
        assert done.stdout.decode().split("\0")[:-1] == hostile

    def test_a_command_that_is_out_of_time_ends_with_all_that_it_started(self, plain_pi: Pi, device: Ssh) -> None:
        with failure("did not end within 0.5 s"):
            device.call(["sh", "-c", "sleep 4321 & sleep 4322; echo"], timeout_s=0.5)
        device.call(["true"], timeout_s=20)
        wait_for(lambda: not sleeping(plain_pi))

    def test_a_signal_is_a_status_above_128(self, device: Ssh) -> None:
        assert device.call(["sh", "-c", "kill -9 $$"], timeout_s=20).status == 128 + 9
        assert device.call(["sh", "-c", "kill -15 $$"], timeout_s=20).status == 128 + 15

    def test_a_status_of_127_is_a_result(self, device: Ssh) -> None:
        assert device.call(["sh", "-c", "exit 127"], timeout_s=20).status == 127

    @pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "/etc/passwd", "/etc", ""])
    def test_what_cannot_be_started_says_why(self, plain_pi: Pi, awkward_pi: Pi, program: str) -> None:
        for home in (plain_pi, awkward_pi):
            with (
                pytest.MonkeyPatch.context() as patch,
                Ssh(at_home(home, patch).address) as ssh,
                failure(f"{program} cannot be started"),
            ):
                ssh.call([program, "an argument"], timeout_s=20)

    def test_much_output_on_both_streams_arrives(self, device: Ssh) -> None:
        script = "head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2; head -c 1000 /dev/zero"
        done = device.call(["sh", "-c", script], timeout_s=60)
        assert (len(done.stdout), len(done.stderr)) == (5_001_000, 5_000_000)

    def test_input_that_nobody_reads_does_no_harm(self, device: Ssh) -> None:
        assert device.call(["true"], stdin=bytes(5_000_000), timeout_s=20).status == 0

    def test_a_device_that_falls_silent_is_lost(self, plain_pi: Pi) -> None:
        with plain_pi.behind() as front, Ssh(plain_pi.address_through(front.port)) as ssh:
            ssh.keepalive_s = 1
            ssh.root()
            front.silence()
            with failure(
                "the connection was lost (Timeout, server 127.0.0.1 not responding)", remedy="look at its power"
            ):
                ssh.call(["sleep", "60"], timeout_s=60)

    def test_a_connection_cut_while_a_command_runs_is_made_anew_by_the_next(self, plain_pi: Pi) -> None:
        with plain_pi.behind() as front, Ssh(plain_pi.address_through(front.port)) as ssh:
            lose_a_sleeping_command(plain_pi, ssh, front.cut)
            assert ssh.call(["true"], timeout_s=20).status == 0
            wait_for(lambda: not sleeping(plain_pi))

    def test_a_silent_connection_s_command_is_ended_by_the_next(self, plain_pi: Pi) -> None:
        with plain_pi.behind() as front, Ssh(plain_pi.address_through(front.port)) as ssh:
            ssh.keepalive_s = 1
            lose_a_sleeping_command(plain_pi, ssh, front.silence)
            front.forward()
            assert ssh.call(["true"], timeout_s=20).status == 0
            wait_for(lambda: not sleeping(plain_pi))

    def test_what_a_harness_left_behind_is_ended_by_the_next_one_and_nothing_else(self, plain_pi: Pi) -> None:
        with (
            plain_pi.behind() as front,
            Ssh(plain_pi.address_through(front.port)) as gone,
            Ssh(plain_pi.address) as other,
            Ssh(plain_pi.address) as new,
            ThreadPoolExecutor() as pool,
        ):
            go = f"{other.root()}-go"
            other.call_checked(["mkdir", "-p", str(Path(go).parent)], timeout_s=20)
            lose_a_sleeping_command(plain_pi, gone, front.cut)
            busy = pool.submit(
                other.call, ["sh", "-c", 'while ! [ -e "$0" ]; do sleep 0.1; done; rm "$0"', go], timeout_s=60
            )
            wait_for(lambda: "sleep 0.1" in plain_pi.commands())
            new.call_checked(["touch", go], timeout_s=20)
            assert busy.result().status == 0
            wait_for(lambda: not sleeping(plain_pi))

    def test_an_interrupted_command_ends_on_the_device(self, plain_pi: Pi, device: Ssh) -> None:
        def interrupt() -> None:
            wait_for(lambda: bool(sleeping(plain_pi)))
            os.kill(os.getpid(), signal.SIGINT)

        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            device.call(["sleep", "4321"], timeout_s=60)
        interrupting.join()
        assert device.call(["true"], timeout_s=20).status == 0
        wait_for(lambda: not sleeping(plain_pi))


class TestFiles:
    def test_hostile_names_arrive_equal(self, awkward_pi: Pi, tmp_path: Path) -> None:
        sent = blob(tmp_path, 100_000, "-rf 'x' \"y\" $(id) \n;")
        with Ssh(awkward_pi.address) as ssh:
            folder = f'{ssh.root()}/-o\'dd "folder" $(id)\n*'
            ssh.call_checked(["mkdir", "-p", folder], timeout_s=20)
            ssh.put(sent, f"{folder}/-file;'")
            ssh.get(f"{folder}/-file;'", tmp_path / "-fetched ' $x")
            assert ssh.call_checked(["ls", folder], timeout_s=20).decode() == "-file;'\n"
        assert (tmp_path / "-fetched ' $x").read_bytes() == sent.read_bytes()

    @pytest.mark.parametrize("size", [0, 1, 2**18, 2**18 + 1])
    def test_files_of_every_size_arrive_equal(self, device: Ssh, tmp_path: Path, size: int) -> None:
        sent = blob(tmp_path, size)
        device.get(device.push(sent), tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == sent.read_bytes()

    def test_a_connection_cut_in_mid_transfer_leaves_nothing_and_the_next_push_arrives(
        self, plain_pi: Pi, tmp_path: Path
    ) -> None:
        sent = blob(tmp_path, 20_000_000)
        with plain_pi.behind() as front, Ssh(plain_pi.address_through(front.port)) as ssh:
            ssh.root()
            front.cut(after=10_000_000)
            with failure("while blob was sent", remedy="run again"):
                ssh.push(sent)
            remote = ssh.push(sent)
            assert ssh.call_checked(["sha256sum", remote], timeout_s=20).decode().startswith(Path(remote).name)
        assert not [name for name in left_on(plain_pi, "files") if name.endswith(".part")]

    def test_a_connection_cut_while_fetching_leaves_what_was_there(self, plain_pi: Pi, tmp_path: Path) -> None:
        (tmp_path / "fetched").write_bytes(b"from before")
        with plain_pi.behind() as front, Ssh(plain_pi.address_through(front.port)) as ssh:
            remote = ssh.push(blob(tmp_path, 20_000_000))
            front.cut(after=10_000_000)
            with failure(f"while {remote} was fetched"):
                ssh.get(remote, tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == b"from before"
        assert sorted(path.name for path in tmp_path.iterdir() if "fetched" in path.name) == ["fetched"]

    def test_a_device_that_falls_silent_in_mid_transfer_is_lost(self, plain_pi: Pi, tmp_path: Path) -> None:
        with plain_pi.behind() as front, Ssh(plain_pi.address_through(front.port)) as ssh:
            ssh.keepalive_s = 1
            ssh.root()
            front.silence(after=10_000_000)
            with failure("not responding) while blob was sent"):
                ssh.push(blob(tmp_path, 20_000_000))

    def test_a_full_disk_says_how_much_to_free(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with raspberry_pi(tmp_path / "pi", home_bytes=12_000_000) as pi:
            at_home(pi, monkeypatch)
            with Ssh(pi.address) as ssh:
                kept = ssh.push(blob(tmp_path, 100_000, "kept"))
                with failure("no space for blob", remedy="bytes on the device", kind=TransferError):
                    ssh.push(blob(tmp_path, 20_000_000))
                # As where it fills up meanwhile.
                with failure("No space left on device", remedy="free", kind=TransferError):
                    ssh.put(tmp_path / "blob", f"{ssh.root()}/files/blob")
                assert left_on(pi, "files") == [Path(kept).name]

    def test_a_folder_that_may_not_be_written_is_named(self, device: Ssh, tmp_path: Path) -> None:
        with failure("Permission denied", remedy="/etc can be written", kind=TransferError):
            device.put(blob(tmp_path, 1000), "/etc/blob")

    def test_two_harnesses_may_put_the_same_file_at_once(self, plain_pi: Pi, tmp_path: Path) -> None:
        sent, paths = blob(tmp_path, 5_000_000), []

        def push() -> None:
            with Ssh(plain_pi.address) as ssh:
                paths.append(ssh.push(sent))

        threads = [threading.Thread(target=push) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert paths[0] == paths[1]
        assert plain_pi.see(paths[0]).read_bytes() == sent.read_bytes()


class TestDeployment:
    def test_a_bundle_that_is_there_is_not_sent_again(self, plain_pi: Pi, tmp_path: Path) -> None:
        bundle = script_bundle(tmp_path, "first")
        with Ssh(plain_pi.address) as ssh:
            assert ssh.call(ssh.deploy(bundle), timeout_s=20).stdout == b"first\n"
        bundle.archive.unlink()
        with Ssh(plain_pi.address) as ssh:
            assert ssh.call(ssh.deploy(bundle), timeout_s=20).stdout == b"first\n"

    def test_cleaning_removes_all_of_ours_and_nothing_else(self, own_pi: Pi, tmp_path: Path) -> None:
        with Ssh(own_pi.address) as ssh:
            ssh.deploy(script_bundle(tmp_path, "one"))
            ssh.push(blob(tmp_path, 1000))
            home = own_pi.see(own_pi.home)
            (home / ".cache" / "splitbench").mkdir()
            (home / "splitbench-device").write_text("mine")
            ssh.clean()
            assert [path.name for path in (home / ".cache").iterdir()] == ["splitbench"]
            assert (home / "splitbench-device").read_text() == "mine"
            ssh.clean()  # nothing is there: no error

    def test_after_cleaning_a_bundle_is_sent_again(self, plain_pi: Pi, tmp_path: Path) -> None:
        bundle = script_bundle(tmp_path, "again")
        with Ssh(plain_pi.address) as ssh:
            ssh.deploy(bundle)
            ssh.clean()
            assert ssh.call(ssh.deploy(bundle), timeout_s=20).stdout == b"again\n"


class TestState:
    def test_a_hot_throttled_pi_tells_it(self, own_pi: Pi) -> None:
        with Ssh(own_pi.address) as ssh:
            before = read_state(ssh)
            (own_pi.zone / "temp").write_text("86500\n")
            (own_pi.firmware / "get_throttled").write_text("throttled=0x50005\n")
            after = read_state(ssh)
        assert (before.temperature_c, before.throttled) == (48.312, False)
        assert (after.temperature_c, after.throttled) == (86.5, True)

    def test_a_throttling_that_is_over_does_not_count(self, own_pi: Pi) -> None:
        (own_pi.firmware / "get_throttled").write_text("throttled=0x50000\n")
        with Ssh(own_pi.address) as ssh:
            assert read_state(ssh).throttled is False

    def test_opening_the_same_port_again_gives_the_same_way(self, device: Ssh) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            way = device.open_tunnel(port)
            assert device.open_tunnel(port) == way
            assert reaches(device, way, listener)


def script_bundle(folder: Path, says: str) -> Bundle:
    """A bundle whose runner says something."""
    sha256 = f"{says}{os.urandom(8).hex()}"
    bundle = Bundle(folder / sha256, folder / sha256 / "head_runner", sha256)
    bundle.folder.mkdir()
    bundle.runner.write_text(f"#!/bin/sh\necho {says}\n")
    bundle.runner.chmod(0o755)
    write_sums(bundle.folder)
    pack(bundle.folder, bundle.archive)
    return bundle


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def sleeping(pi: Pi) -> list[str]:
    return [line for line in pi.commands() if line.startswith("sleep 432")]


def lose_a_sleeping_command(pi: Pi, device: Ssh, lose: Callable[[], None]) -> None:
    """Start a command that sleeps for long, and lose the connection once it does."""

    def wait_and_lose() -> None:
        wait_for(lambda: bool(sleeping(pi)))
        lose()

    losing = threading.Thread(target=wait_and_lose)
    losing.start()
    with failure("the connection was"):
        device.call(["sleep", "4321"], timeout_s=60)
    losing.join()
    assert sleeping(pi), "sshd does not end it"


def reaches(device: Ssh, way: str, listener: socket.socket) -> bool:
    """Whether bytes sent on the device to `way` arrive at a listener here."""
    host, _, port = way.rpartition(":")
    device.call_checked(["bash", "-c", f"echo here >/dev/tcp/{host}/{port}"], timeout_s=20)
    listener.settimeout(20)
    connection, _ = listener.accept()
    with connection:
        return connection.recv(100) == b"here\n"
