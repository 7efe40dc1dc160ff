"""The ssh device behind the login shells that people have, which print, complain, wait, or run no commands at all."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from device_runner.devices.ssh import Ssh
from device_runner.devices.ssh_shell import CommandOutput
from tests.parts.common import blob, failure
from tests.parts.sshd.fixture import at_home
from tests.parts.sshd.pi import Pi, raspberry_pi

TALK = "echo Welcome to my Pi; echo a warning >&2; stty erase x"
HOSTILE = (
    *("", " ", "-n", "--", "a\nb", "\n", "tab\t", "\\", "\\\\", "\\n", "\\0101", "\\c", "!!", "!1", "!", "~", "$HOME"),
    *(
        "${x}",
        "$(id)",
        "`id`",
        "'",
        '"',
        "'\"'",
        "ü",
        "日本",
        "%s",
        "#",
        "*",
        "a;b",
        "a&b",
        "a|b",
        "<x",
        "^a^b",
        "{a,b}",
    ),
)


@dataclass(frozen=True)
class Shell:
    """A login shell, and what its user has written for it: files in the home folder."""

    name: str
    program: str
    files: Mapping[str, str] = field(default_factory=dict)


SHELLS = (
    Shell("bash that talks", "/bin/bash", {".bashrc": f"{TALK}\ntrap 'echo Goodbye; echo goodbye >&2' EXIT\n"}),
    Shell("bash with options", "/bin/bash", {".bashrc": "export CDPATH=/:/tmp\nset -euCf\nexport SHELLOPTS\n"}),
    Shell("bash that becomes fish", "/bin/bash", {".bashrc": '[ -t 0 ] && exec fish\n"$BASH" --version\n'}),
    Shell("a session's rc", "/bin/bash", {".ssh/rc": TALK}),
    Shell("dash", "/bin/dash"),
    Shell(
        "fish",
        "/usr/bin/fish",
        {".config/fish/config.fish": f"{TALK}\nfunction bye --on-event fish_exit; echo Bye; end\n"},
    ),
    Shell("tcsh", "/bin/tcsh", {".tcshrc": f"{TALK.replace('>&2', '')}\n"}),
    Shell("csh", "/bin/bsd-csh", {".cshrc": f"{TALK.replace('>&2', '')}\n"}),
    Shell("zsh", "/usr/bin/zsh", {".zshenv": f"{TALK}\nTRAPEXIT() {{ echo Bye }}\n"}),
    Shell("ksh", "/bin/ksh93"),
    Shell("mksh", "/bin/mksh"),
    Shell("rbash", "/bin/rbash", {".bashrc": f"{TALK}\n"}),
)
# The others are tried where there is time.
QUICK = frozenset({"bash that talks", "fish", "tcsh"})
BUSYBOX = "/bin/busybox"
SH = {
    "bash": "/bin/bash",
    "mksh": "/bin/mksh",
}


@pytest.fixture(scope="module")
def the_pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pi]:
    with raspberry_pi(tmp_path_factory.mktemp("pi")) as pi:
        (pi.client / "banner").write_text("Permission denied: whoever is no member. Connection refused.\n")
        pi.sshd_config.write_text(f"{pi.sshd_config.read_text()}Banner {pi.client}/banner\n")
        pi.restart()
        yield pi


@pytest.fixture
def pi(the_pi: Pi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pi]:
    keys = the_pi.authorized_keys.read_text()
    yield at_home(the_pi, monkeypatch)
    the_pi.authorized_keys.write_text(keys)
    the_pi.change_login_shell("/bin/bash")
    for path in the_pi.home_here.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def own_uname(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine's processor do: busybox says what it is by itself, and asks no `uname` of the Pi's."""
    monkeypatch.setattr("device_runner.devices.ssh._MACHINE", platform.machine())


def give(pi: Pi, shell: Shell) -> None:
    pi.change_login_shell(shell.program)
    for name, content in shell.files.items():
        (pi.home_here / name).parent.mkdir(parents=True, exist_ok=True)
        (pi.home_here / name).write_text(content)


@pytest.mark.parametrize(
    "shell",
    [pytest.param(s, id=s.name, marks=[] if s.name in QUICK else [pytest.mark.slow]) for s in SHELLS],
)
def test_a_device_answers_the_same_whatever_its_login_shell(pi: Pi, tmp_path: Path, shell: Shell) -> None:
    give(pi, shell)
    everything_works(pi, tmp_path)


@pytest.mark.usefixtures("own_uname")
def test_a_device_answers_the_same_under_busybox(pi: Pi, tmp_path: Path) -> None:
    pi.link("ash", BUSYBOX)
    pi.link("sh", BUSYBOX)
    try:
        give(pi, Shell("ash", "/mnt/bin/ash"))
        everything_works(pi, tmp_path)
    finally:
        pi.unlink("sh")


def everything_works(pi: Pi, folder: Path) -> None:
    with Ssh(pi.address) as ssh:
        answers_as_asked(ssh)
        sent = blob(folder, 300_000)
        ssh.get(ssh.push(sent), folder / "fetched")
        assert (folder / "fetched").read_bytes() == sent.read_bytes()
        with failure("did not end"):
            ssh.call(["sh", "-c", "sleep 4321 & sleep 4322"], timeout_s=0.5)
        assert ssh.call(["true"], timeout_s=20).status == 0
        assert not [line for line in pi.commands() if line.startswith("sleep 432")]


@pytest.mark.slow
@pytest.mark.parametrize("name", SH)
def test_a_device_answers_the_same_whatever_its_sh(pi: Pi, name: str) -> None:
    pi.link("sh", SH[name])
    try:
        with Ssh(pi.address) as ssh:
            answers_as_asked(ssh)
    finally:
        pi.unlink("sh")


def answers_as_asked(ssh: Ssh) -> None:
    """Whether outputs, status, arguments, bytes and errors are those of the command alone."""
    done = ssh.call(["sh", "-c", "printf out; printf err >&2; exit 7"], timeout_s=20)
    assert (done.status, done.stdout, done.stderr) == (7, b"out", b"err")
    done = ssh.call(["printf", "%s\\0", *HOSTILE], timeout_s=20)
    assert done.stdout.decode().split("\0")[:-1] == list(HOSTILE)
    every_byte = bytes(range(256)) * 300
    assert ssh.call(["cat"], stdin=every_byte, timeout_s=20).stdout == every_byte
    with failure("no-such-program cannot be started"):
        ssh.call(["no-such-program"], timeout_s=20)
    assert ssh.call(["sh", "-c", "exit 127"], timeout_s=20).status == 127
    assert ssh.call(["sh", "-c", "kill -9 $$"], timeout_s=20).status == 128 + 9
    assert ssh.root() == "/home/pi/.cache/splitbench-device"


class TestNoCommands:
    def test_nologin_is_told_with_its_own_words(self, pi: Pi) -> None:
        pi.change_login_shell("/usr/sbin/nologin")
        with (
            Ssh(pi.address) as ssh,
            failure("which says 'This account is currently not available.'", remedy="echo hello"),
        ):
            ssh.root()

    @pytest.mark.parametrize("status", [0, 255])
    def test_a_forced_command_is_told_with_its_own_words(self, pi: Pi, status: int) -> None:
        pi.authorized_keys.write_text(f'command="echo Backups alone; exit {status}" {pi.authorized_keys.read_text()}')
        with Ssh(pi.address) as ssh, failure("which says 'Backups alone'", remedy="echo hello"):
            ssh.root()

    def test_silence_is_told(self, pi: Pi) -> None:
        pi.change_login_shell("/bin/true")
        with Ssh(pi.address) as ssh, failure("it runs no commands, and says nothing"):
            ssh.root()

    @pytest.mark.slow
    def test_a_shell_that_becomes_another_one_for_commands_too_is_told(self, pi: Pi) -> None:
        (pi.home_here / ".bashrc").write_text("exec dash\n")
        with Ssh(pi.address) as ssh, failure("it runs", remedy="echo hello"):
            ssh.root()

    def test_a_shell_that_waits_is_told(self, pi: Pi) -> None:
        (pi.home_here / ".bashrc").write_text("sleep 60\n")
        with Ssh(pi.address) as ssh:
            ssh.connect_s = 2
            with failure("its login shell does not come to the command"):
                ssh.root()

    @pytest.mark.slow
    def test_a_shell_that_is_missing_is_a_user_that_nobody_may_be(self, pi: Pi) -> None:
        pi.change_login_shell("/bin/no-such-shell")
        with Ssh(pi.address) as ssh, failure("it accepts none of your keys"):
            ssh.root()

    def test_a_shell_that_is_killed_is_told(self, pi: Pi) -> None:
        with Ssh(pi.address) as ssh, failure("the shell that ran sh was ended there"):
            ssh.call(["sh", "-c", "kill -9 $PPID"], timeout_s=20)


class TestAnswer:
    @pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
    def test_it_is_taken_from_the_talk_in_pieces_of_any_size(self, step: int) -> None:
        content = b"\nxyz\0 xyz: xyz:en xyz:begin\n \xff"
        stream = b"talk xyz:begi\n xyz:begin\n" + content + b"xyz:end 7\nmore talk"
        taken = bytearray()
        answer = CommandOutput("xyz", taken.extend)
        for start in range(0, len(stream), step):
            answer.feed(stream[start : start + step])
        answer.close()
        assert (bytes(taken), answer.ended, answer.status) == (content, True, 7)
        assert answer.talk == b"talk xyz:begi\n more talk"

    def test_endless_talk_takes_no_memory(self) -> None:
        answer = CommandOutput("xyz", len)
        for _ in range(100):
            answer.feed(bytes(100_000))
        assert not answer.begun
        assert len(answer.talk) < 10_000
