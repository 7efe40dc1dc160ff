"""The ssh device goes where plain `ssh` goes, as whom it goes and with its key, or fails where it fails."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from device_runner.devices.ssh import Ssh
from device_runner.devices.ssh_address import SshAddress
from tests.parts.common import failure
from tests.parts.sshd.fixture import at_home
from tests.parts.sshd.pi import Pi, generate_key, raspberry_pi

# Which server address and port, as whom, and with which key somebody came.
ASK = ["sh", "-c", 'set -- $SSH_CONNECTION; echo "$3 $4 $USER"; cat "$SSH_USER_AUTH"']


@dataclass(frozen=True)
class Configuration:
    """What stands in ~/.ssh/config, and the host that is asked for.

    Attributes:
        text: {port}, {other}: where the Pi listens on 127.0.0.1; {port} also on ::1. {busy}: a port that is taken here.
        fails: words of the device's error, where plain ssh cannot get there, either; empty where it can.
        files: others in ~/.ssh.
    """

    name: str
    text: str
    address: str = "ssh://pi"
    fails: str = ""
    files: dict[str, str] = field(default_factory=dict)


PI = "HostName 127.0.0.1\nPort {port}\nUser pi\n"
ALIAS = f"Host pi\n{PI}"
ANOTHER = "IdentityFile ~/.ssh/another\nIdentitiesOnly yes\n"

CONFIGURATIONS = (
    Configuration("alias", ALIAS),
    Configuration("address over alias", ALIAS, "ssh://guest@pi:{other}"),
    Configuration("no configuration", "", "ssh://pi@127.0.0.1:{port}"),
    Configuration("include before", f"Include one\n{ALIAS}", files={"one": "Host pi\nUser guest\nPort {other}\n"}),
    Configuration("include after", f"{ALIAS}Include one\n", files={"one": "User guest\nPort {other}\n"}),
    Configuration("include of a pattern", f"Include conf.d/*\n{ALIAS}", files={"conf.d/a": "User guest\n"}),
    Configuration("match host", f"{ALIAS}Match host 127.0.0.1\n{ANOTHER}"),
    Configuration("match exec", f'Match host pi exec "test -e ~/.ssh/config"\nUser guest\n{ALIAS}'),
    Configuration("match exec that says no", f"Match host pi exec false\nUser guest\n{ALIAS}"),
    Configuration("match final", f"{ALIAS}Match final host 127.0.0.1\n{ANOTHER}"),
    Configuration("match user", f"{ALIAS}Match originalhost pi user pi\n{ANOTHER}"),
    Configuration("negation", f"Host p* !pi\nUser nobody\n{ALIAS}"),
    Configuration("the first one counts", f"Host *\nUser guest\n{ALIAS}"),
    Configuration("jump", f"{ALIAS}Host far\n{PI}Port {{other}}\nProxyJump pi\n", "ssh://far"),
    Configuration("two jumps", f"{ALIAS}Host mid\n{PI}\nHost far\n{PI}ProxyJump pi,mid\n", "ssh://far"),
    Configuration("jump as a URI", f"Host far\n{PI}ProxyJump ssh://guest@127.0.0.1:{{other}}\n", "ssh://far"),
    Configuration("jump none", f"Host pi\nProxyJump none\n{ALIAS}Host *\nProxyJump nowhere\n"),
    Configuration("jump that is not there", f"{ALIAS}ProxyJump pi@127.0.0.1:1\n", fails="on the way there: it refuses"),
    Configuration("proxy command", f"{ALIAS}ProxyCommand bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'\n"),
    Configuration("proxy command that fails", f"{ALIAS}ProxyCommand false\n", fails="ProxyCommand or jump host ended"),
    Configuration("a key that is missing", f"{ALIAS}IdentityFile ~/.ssh/missing\nIdentityFile ~/.ssh/another\n"),
    Configuration("identity none", f"{ALIAS}IdentityFile none\n", fails="accepts none of your keys"),
    Configuration("identities only", f"{ALIAS}{ANOTHER}"),
    Configuration("a key that others may read", f"{ALIAS}IdentityFile ~/.ssh/open\n", fails="as others may read it"),
    Configuration("a library for tokens that is missing", f"{ALIAS}PKCS11Provider /no/such/library.so\n"),
    Configuration(
        "a key's name with tokens",
        f"{ALIAS}IdentityFile ~/.ssh/%r-of-%n\nIdentitiesOnly yes\n",
        fails="accepts none of your keys",
    ),
    Configuration("name with %h", "Host 1\nHostName 127.0.0.%h\nPort {port}\nUser pi\n", "ssh://1"),
    Configuration("known hosts none", f"{ALIAS}UserKnownHostsFile none\n", fails="its host key is not known yet"),
    Configuration(
        "known hosts nowhere, not strict", f"{ALIAS}UserKnownHostsFile /dev/null\nStrictHostKeyChecking no\n"
    ),
    Configuration("known hosts in several files", f"{ALIAS}UserKnownHostsFile ~/.ssh/none ~/.ssh/known_hosts\n"),
    Configuration(
        "accept new", f"{ALIAS}UserKnownHostsFile ~/.ssh/new\nStrictHostKeyChecking accept-new\nHashKnownHosts yes\n"
    ),
    Configuration("host key alias", f"{ALIAS}HostKeyAlias garden\n", files={"known_hosts2": "garden {key}"}),
    Configuration("times with units", f"{ALIAS}ConnectTimeout 1m\nServerAliveInterval 1m\nConnectionAttempts 2\n"),
    Configuration("latin-1 in a comment", f"# K\udcfcche\n{ALIAS}# \udce4\n"),
    Configuration("canonical names", f"CanonicalizeHostname yes\nCanonicalizeMaxDots 0\n{ALIAS}"),
    Configuration("IPv6 alone", "Host pi\nHostName ::1\nAddressFamily inet6\nPort {port}\nUser pi\n"),
    Configuration("IPv6 address", "", "ssh://pi@[::1]:{port}"),
    Configuration("bind address", f"{ALIAS}BindAddress 127.0.0.3\n"),
    Configuration("bind address of others", f"{ALIAS}BindAddress 192.0.2.1\n", fails="BindAddress"),
    Configuration("shared connection", f"{ALIAS}ControlMaster auto\nControlPath ~/.ssh/%n\nControlPersist 2\n"),
    Configuration("remote command", f"{ALIAS}RemoteCommand htop\nRequestTTY force\n"),
    Configuration("a terminal", f"{ALIAS}RequestTTY force\nLogLevel DEBUG3\n"),
    Configuration(
        "busy forwardings", f"{ALIAS}LocalForward {{busy}} x:1\nExitOnForwardFailure yes\nDynamicForward {{busy}}\n"
    ),
    Configuration("local command", f"{ALIAS}PermitLocalCommand yes\nLocalCommand echo here; sleep 0.1\n"),
    Configuration("environment", f"{ALIAS}SendEnv *\nSetEnv A=b\nForwardX11 yes\nForwardAgent yes\n"),
    Configuration("quiet", f"{ALIAS}LogLevel QUIET\n"),
    Configuration("quiet failure", f"{ALIAS}LogLevel QUIET\n", "ssh://pi:1", fails="it refuses"),
    Configuration("session type", f"{ALIAS}SessionType default\nStdinNull yes\nEscapeChar none\n"),
    Configuration("compression", f"{ALIAS}Compression yes\n"),
    Configuration("an unknown word", f"{ALIAS}NoSuchWord yes\n", fails="config: line 5: Bad configuration option"),
    Configuration("an unknown word that is ignored", f"IgnoreUnknown UseKeychain\n{ALIAS}UseKeychain yes\n"),
    Configuration("half a line", f"{ALIAS}Port\n", fails="your ssh configuration cannot be read"),
    Configuration("no such port", f"Host pi\nPort 70000\n{ALIAS}", fails="your ssh configuration cannot be read"),
    Configuration("no such host", "Host pi\nHostName no-such-host.invalid\n", fails="its name is not known"),
    Configuration("no cipher in common", f"{ALIAS}Ciphers 3des-cbc\n", fails="no cipher or key type in common"),
)


# The others are tried where there is time.
QUICK = frozenset(
    {
        *("alias", "include before", "match exec", "jump as a URI", "a key that is missing", "times with units"),
        *("latin-1 in a comment", "shared connection", "remote command", "busy forwardings", "an unknown word"),
    }
)


@dataclass(frozen=True)
class World:
    """A Pi with two users (pi, guest), two ports, two keys and IPv6, and a port here that is taken."""

    pi: Pi
    other: int
    busy: int

    @property
    def words(self) -> dict[str, object]:
        """What configurations are filled with."""
        return {"port": self.pi.port, "other": self.other, "busy": self.busy, "key": self.pi.host_key}


@pytest.fixture(scope="module")
def the_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        raspberry_pi(tmp_path_factory.mktemp("pi")) as pi,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        with socket.create_server(("127.0.0.1", 0)) as free:
            other = free.getsockname()[1]
        more = f"ListenAddress 127.0.0.1:{other}\nExposeAuthInfo yes\n"
        pi.sshd_config.write_text(more + pi.sshd_config.read_text())
        pi.add_user("guest")
        for name in ("another", "open"):
            generate_key(pi.client / name)
        (pi.client / "open").chmod(0o644)
        keys = [pi.client / ".ssh" / "id_ed25519", pi.client / "another", pi.client / "open"]
        pi.authorized_keys.write_text("".join(key.with_suffix(".pub").read_text() for key in keys))
        pi.restart()
        yield World(pi, other, taken.getsockname()[1])


@pytest.fixture
def world(the_world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    pi = at_home(the_world.pi, monkeypatch)
    home = pi.client / ".ssh"
    shutil.copytree(home, pi.client / "before")
    for name in ("another", "open"):
        shutil.copy2(pi.client / name, home)
    pi.know(the_world.other)
    yield the_world
    shutil.rmtree(home)
    (pi.client / "before").rename(home)


def write(world: World, configuration: Configuration) -> str:
    """Write it into the client's ~/.ssh; returns the device's address."""
    for name, text in {"config": configuration.text, **configuration.files}.items():
        path = world.pi.client / ".ssh" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.format(**world.words).encode(errors="surrogateescape"))
    return configuration.address.format(**world.words)


def plain_ssh(address: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What ssh does of itself, but for what would stand in the way of any command."""
    bare = [
        "-T",
        *(
            f"-o{setting}"
            for setting in ("BatchMode=yes", "RemoteCommand=none", "PermitLocalCommand=no", "ClearAllForwardings=yes")
        ),
    ]
    command = ["ssh", *bare, *options, *SshAddress.parse(address).options]
    return subprocess.run([*command, shlex.join(ASK)], capture_output=True, text=True, timeout=60, check=False)


def resolved(address: str) -> dict[str, str]:
    """What `ssh -G` says."""
    lines = plain_ssh(address, "-G").stdout.splitlines()
    return dict(line.split(" ", 1) for line in lines if " " in line)


@pytest.mark.parametrize(
    "configuration",
    [pytest.param(c, id=c.name, marks=[] if c.name in QUICK else [pytest.mark.slow]) for c in CONFIGURATIONS],
)
def test_a_device_is_reached_where_ssh_reaches_it(world: World, configuration: Configuration) -> None:
    address = write(world, configuration)
    plain = plain_ssh(address)
    with Ssh(address) as ssh:
        if configuration.fails:
            assert plain.returncode == 255, plain.stdout
            with failure(configuration.fails):
                ssh.root()
            return
        assert plain.returncode == 0, plain.stderr
        assert ssh.call(ASK, timeout_s=20).stdout.decode() == plain.stdout
        assert ssh.open_tunnel(1)
    host, port, user = plain.stdout.split()[:3]
    settings = resolved(address)
    assert (settings["port"], settings["user"]) == (port, user)
    assert settings["hostname"] == host


def test_an_agent_with_many_keys_names_the_setting(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(world, Configuration("", ALIAS))
    with agent(tmp_path / "agent", count=8) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        assert plain_ssh("ssh://pi").returncode == 255
        with Ssh("ssh://pi") as ssh, failure("Too many authentication failures", remedy="IdentitiesOnly yes"):
            ssh.root()
        write(world, Configuration("", f"{ALIAS}{ANOTHER}"))
        with Ssh("ssh://pi") as ssh:
            assert ssh.call(ASK, timeout_s=20).stdout.decode() == plain_ssh("ssh://pi").stdout


def test_one_session_at_a_time_is_enough(world: World) -> None:
    before = world.pi.sshd_config.read_text()
    world.pi.sshd_config.write_text(f"MaxSessions 1\n{before}")
    world.pi.restart()
    try:
        with Ssh(world.pi.address) as ssh:
            assert [ssh.call(["true"], timeout_s=20).status for _ in range(20)] == [0] * 20
            with failure("did not end"):
                ssh.call(["sleep", "4321"], timeout_s=0.3)
            assert ssh.call(["true"], timeout_s=20).status == 0
            with ThreadPoolExecutor(1) as pool:
                first = pool.submit(ssh.call, ["sleep", "1"], timeout_s=20)
                time.sleep(0.3)
                assert ssh.call(["true"], timeout_s=20).status == 0  # asked again once the first has ended
                assert first.result().status == 0
    finally:
        world.pi.sshd_config.write_text(before)
        world.pi.restart()


def test_a_workstation_without_ssh_is_told_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/such/folder")
    with Ssh(world.pi.address) as ssh, failure("which is not installed here", remedy="apt-get install openssh-client"):
        ssh.root()


def test_a_long_name_of_the_temporary_folder_does_no_harm(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("%h $x" * 20)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with Ssh(world.pi.address) as ssh:
        assert ssh.call(["true"], timeout_s=20).status == 0


def test_nothing_is_left_of_a_harness_that_is_killed(world: World) -> None:
    code = (
        "import sys; from device_runner.devices.ssh import Ssh; s = Ssh(sys.argv[1]); s.root();"
        "print(s._master._folder, flush=True); s.call(['sleep', '4321'], timeout_s=600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, world.pi.address], stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout
        folder = Path(harness.stdout.readline().strip())
        clients = psutil.Process(harness.pid).children(recursive=True)
        harness.kill()
    gone, alive = psutil.wait_procs(clients, timeout=10)
    assert gone
    assert not alive
    wait_for(lambda: not folder.exists())


@contextmanager
def agent(path: Path, *, count: int) -> Iterator[str]:
    """An ssh-agent with so many keys that nobody knows."""
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        for number in range(count):
            generate_key(path.with_name(f"key{number}"))
            key = path.with_name(f"key{number}")
            subprocess.run(["ssh-add", "-q", key], check=True, env=os.environ | {"SSH_AUTH_SOCK": str(path)})
        yield str(path)
        process.terminate()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
