"""A Raspberry Pi on loopback: OpenSSH's own sshd, whose sessions look like those of a Pi and run ARM64 programs.

It lives in mount and PID namespaces of its own, so that its users, its /sys and its /tmp are seen by nobody else, and
nothing of it outlives it. What it cannot show: a Pi's times, its heat, its memory card.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from device_runner.cache import cache_folder
from tests.parts.arm64 import run_arm64_programs
from tests.parts.sshd.proxy import Proxy, proxy

_USER_ID = 1000
_START_S = 20.0

_SSHD_CONFIG = """\
ListenAddress 127.0.0.1:{port}
ListenAddress [::1]:{port}
HostKey /mnt/host_key
AuthorizedKeysFile /mnt/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
Subsystem sftp internal-sftp
SetEnv PATH=/mnt/bin:/usr/local/bin:/usr/bin:/bin QEMU_CPU=cortex-a76
"""

# OpenSSH's programs take the home folder from the user database and do not heed HOME: they get a database of their own.
_CLIENT = """\
#!/bin/sh
case " $* " in *" -F none "*) exec /usr/bin/ssh "$@" ;; esac  # it reads nothing of theirs
exec unshare --mount sh -c 'mount --bind "$0" /etc/passwd && exec /usr/bin/ssh "$@"' '{passwd}' "$@"
"""

_PROGRAMS = {
    "uname": """\
#!/bin/sh
case "$1" in
  -m) exec cat /mnt/machine ;;
  -sr) echo "Linux 6.12.25+rpt-rpi-2712" ;;
  *) exec /usr/bin/uname "$@" ;;
esac
""",
    "vcgencmd": """\
#!/bin/sh
exec cat "/mnt/firmware/$1"
""",
}


class Pi:
    """A Raspberry Pi that listens on loopback. Its files can be edited while it runs.

    Attributes:
        port, address: where it listens; `address` is what --device takes. It listens on ::1, too.
        client: home of whoever connects to it; holds .ssh with a key that it accepts and known_hosts that know it.
        environment: makes a process that home's owner, also for the real `ssh`, which it finds on PATH.
        home: its user's home folder, as a path of its own; `see` gives the path from here.
        firmware: what `vcgencmd WORD` prints, one file a word.
        machine: what `uname -m` prints.
        zone: its thermal zone, as in /sys.
        authorized_keys, known_hosts: whom it lets in; whom `client` trusts.
        sshd_config: read when it starts.
    """

    def __init__(self, folder: Path, *, home: str, login_shell: str, home_bytes: int, tmp_options: str) -> None:
        self._stage = folder / "pi"
        self._setup = [str(self._stage), str(home_bytes), tmp_options]
        self._process: subprocess.Popen[bytes] | None = None
        self.home = f"/home/{home}"
        self.client = folder / "client"
        self.known_hosts = self.client / ".ssh" / "known_hosts"
        self.authorized_keys = self._stage / "authorized_keys"
        self.sshd_config = self._stage / "sshd_config"
        self.firmware = self._stage / "firmware"
        self.machine = self._stage / "machine"
        self.zone = self._stage / "sys" / "class" / "thermal" / "thermal_zone0"
        self.port = _free_port()
        self.address = self.address_through(self.port)
        self._furnish(login_shell)
        self.change_host_key()
        self._make_client()
        self.know(self.port)
        self.know(self.port, "::1")

    @property
    def environment(self) -> Mapping[str, str]:
        # Another HOME is no reason to build everything anew.
        return {
            "HOME": str(self.client),
            "PATH": f"{self.client / 'bin'}:{os.environ['PATH']}",
            "SSH_AUTH_SOCK": "",
            "SPLITBENCH_CACHE_DIR": str(cache_folder()),
        }

    @property
    def openssh_options(self) -> list[str]:
        """What the system's ssh and scp must be told."""
        key, known_hosts = self.client / ".ssh" / "id_ed25519", self.known_hosts
        return ["-F", "none", "-i", str(key), "-o", f"UserKnownHostsFile={known_hosts}", "-o", "IdentityAgent=none"]

    @property
    def home_here(self) -> Path:
        """Its user's home folder as a path of this machine, also while it is off."""
        return self._stage / self.home.lstrip("/")

    def address_through(self, port: int) -> str:
        """The address of this Pi behind a proxy's port."""
        return f"ssh://pi@127.0.0.1:{port}"

    def see(self, path: str) -> Path:
        """The path from here to a file of the Pi, while it runs."""
        assert self._process
        return Path(f"/proc/{psutil.Process(self._process.pid).children()[0].pid}/root{path}")

    def change_login_shell(self, program: str) -> None:
        """Give its user another one, from the next login on."""
        passwd = self._stage / "etc" / "passwd"
        lines = passwd.read_text().splitlines()
        changed = [f"{line.rpartition(':')[0]}:{program}" if line.startswith("pi:") else line for line in lines]
        passwd.write_text("\n".join(changed) + "\n")

    def add_user(self, name: str) -> None:
        """Let somebody else in with the same keys, who is the same user under another name."""
        with (self._stage / "etc" / "passwd").open("a") as passwd:
            passwd.write(f"{name}:*:{_USER_ID}:{_USER_ID}::{self.home}:/bin/bash\n")

    def link(self, name: str, program: str) -> None:
        """Make one of its programs known under another name, before all that are called so."""
        self.unlink(name)
        (self._stage / "bin" / name).symlink_to(program)

    def unlink(self, name: str) -> None:
        """Take that back."""
        (self._stage / "bin" / name).unlink(missing_ok=True)

    def commands(self) -> list[str]:
        """The command lines of all that runs on it."""
        assert self._process
        inside = psutil.Process(self._process.pid).children(recursive=True)
        return [line for process in inside if (line := _command_line(process))]

    @property
    def host_key(self) -> str:
        """Its public host key now, a line as known_hosts has it behind a name."""
        return (self._stage / "host_key.pub").read_text()

    def know(self, port: int, host: str = "127.0.0.1") -> None:
        """Make `client` trust the host key that it has now, at a port."""
        with self.known_hosts.open("a") as file:
            file.write(f"[{host}]:{port} {self.host_key}")

    @contextlib.contextmanager
    def behind(self, *, bytes_per_second: float = 0) -> Iterator[Proxy]:
        """A proxy in front of it, whose port `client` trusts."""
        with proxy(self.port, bytes_per_second=bytes_per_second) as front:
            self.know(front.port)
            yield front

    def change_host_key(self) -> None:
        """Give it another host key, from its next start on."""
        generate_key(self._stage / "host_key")

    def start(self) -> None:
        """Switch it on."""
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = str(Path(__file__).with_name("setup.sh"))
        with (self._stage / "log").open("ab") as log:
            self._process = subprocess.Popen([*namespaces, "sh", script, *self._setup], stdout=log, stderr=log)
        deadline = time.monotonic() + _START_S
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"sshd does not start: {(self._stage / 'log').read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Pull its plug: all that runs on it ends at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Switch it off and on."""
        self.stop()
        self.start()

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _furnish(self, login_shell: str) -> None:
        last_core = (os.cpu_count() or 1) - 1
        files = {
            "sshd_config": _SSHD_CONFIG.format(port=self.port),
            "machine": "aarch64\n",
            "etc/passwd": (
                "root:*:0:0:root:/root:/bin/sh\n"
                f"pi:*:{_USER_ID}:{_USER_ID}::{self.home}:{login_shell}\n"
                "sshd:*:102:65534::/run/sshd:/usr/sbin/nologin\n"
            ),
            "etc/group": f"root:x:0:\npi:x:{_USER_ID}:\nnogroup:x:65534:\n",
            "etc/machine-id": f"{secrets.token_hex(16)}\n",
            "firmware/get_throttled": "throttled=0x0\n",
            "firmware/measure_temp": "temp=48.3'C\n",
            "sys/firmware/devicetree/base/serial-number": f"{secrets.token_hex(8)}\0",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "48312\n",
            **{f"sys/devices/system/cpu/{which}": f"0-{last_core}\n" for which in ("possible", "present", "online")},
            **{f"bin/{name}": text for name, text in _PROGRAMS.items()},
        }
        for name, text in files.items():
            path = self._stage / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in _PROGRAMS:
            (self._stage / "bin" / name).chmod(0o755)
        home = self._stage / self.home.lstrip("/")
        home.mkdir(parents=True)
        os.chown(home, _USER_ID, _USER_ID)
        self._stage.chmod(0o755)

    def _make_client(self) -> None:
        (self.client / ".ssh").mkdir(parents=True, mode=0o700)
        (self.client / "bin").mkdir()
        passwd, program = self.client / "passwd", self.client / "bin" / "ssh"
        passwd.write_text(f"root:x:0:0:root:{self.client}:/bin/sh\n")
        program.write_text(_CLIENT.format(passwd=passwd))
        program.chmod(0o755)
        key = self.client / ".ssh" / "id_ed25519"
        generate_key(key)
        self.authorized_keys.write_text(key.with_suffix(".pub").read_text())


@contextlib.contextmanager
def raspberry_pi(
    folder: Path,
    *,
    home: str = "pi",
    login_shell: str = "/bin/bash",
    home_bytes: int = 0,
    tmp_options: str = "mode=1777",
) -> Iterator[Pi]:
    """Switch a Raspberry Pi on, until the end of the block; without root the test is skipped.

    Args:
        folder: for its files; empty.
        home: the name of its user's home folder.
        login_shell: its user's login shell.
        home_bytes: how much the home folder holds, until the next restart; 0: as much as this machine's disk.
        tmp_options: how /tmp is mounted.
    """
    if os.geteuid() != 0:
        pytest.skip("a Raspberry Pi's namespaces need root")
    run_arm64_programs()
    pi = Pi(folder, home=home, login_shell=login_shell, home_bytes=home_bytes, tmp_options=tmp_options)
    pi.start()
    try:
        yield pi
    finally:
        pi.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def generate_key(path: Path) -> None:
    """Make a pair of keys."""
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def _command_line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
