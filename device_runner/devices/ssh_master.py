"""One connection, held by the user's own `ssh`: whom it reaches, as whom, by which way and key, is OpenSSH's business.

Commands and forwardings share it through a socket: see ControlMaster in ssh_config(5).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

from device_runner.devices.pipes import Talking
from device_runner.devices.ssh_address import SshAddress
from device_runner.devices.ssh_errors import NO_SSH, SILENCE, device_error, explained
from device_runner.errors import DeviceError

_LOOPBACK = "127.0.0.1"
_POLL_S = 0.005
# So long a connection that is lost may take to say so.
_LAST_WORDS_S = 2.0
_FORWARD_S = 20.0
_ALIVE_QUESTIONS = 3

# What the user has configured for sessions of their own, and would stand in the way of ours. Nothing is ever asked.
_OPTIONS = {
    "BatchMode": "yes",
    "ClearAllForwardings": "yes",
    "ControlMaster": "yes",
    "ControlPersist": "no",
    "ExitOnForwardFailure": "no",
    "LogLevel": "INFO",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "ServerAliveCountMax": str(_ALIVE_QUESTIONS),
    "Tunnel": "no",
}
# Those who share the connection need no configuration, and must not make a connection of their own where it is gone.
_SHARE = ["-F", "none", "-T", "-o", "ProxyCommand=false", "-o", "ControlMaster=no", "-o", "LogLevel=ERROR"]
# Stands where ssh wants a host's name: the connection leads where it leads.
_WHOEVER = "device"

# The connection ends with this process, however that ends: then nobody holds the other end of the pipe. ssh sometimes
# overlooks SIGTERM; the group is that of a ProxyCommand, too.
_GUARD = 'read -r end; kill -s KILL -- "-$1"; rm -rf "$2"'
_guards: weakref.WeakSet[Popen[bytes]] = weakref.WeakSet()
os.register_at_fork(after_in_child=lambda: [guard.stdin.close() for guard in _guards if guard.stdin])

# A socket's path may hold 107 letters, 17 of them added by ssh, which also replaces what begins with % or $.
_PLAIN_FOLDER = re.compile(r"[\w./-]{1,60}")


class Master:
    """A connection that is up. `close` it.

    Args:
        keepalive_s: how often a silent device is asked whether it is there; the fourth time it counts as lost.
        connect_s: how long connecting may take.

    Raises:
        DeviceError: it does not come up.
    """

    def __init__(self, address: SshAddress, *, name: str, keepalive_s: int, connect_s: float) -> None:
        self._name, self._login = name, address.login
        if shutil.which("ssh") is None:
            raise explained(NO_SSH, name=name, login=self._login)
        temporary = tempfile.gettempdir()
        # Removed by `close`, or by the guard.
        self._folder = Path(tempfile.mkdtemp(dir=temporary if _PLAIN_FOLDER.fullmatch(temporary) else "/tmp"))  # noqa: S108
        self._socket, self._log = self._folder / "s", self._folder / "log"
        options = {**_OPTIONS, "ControlPath": str(self._socket), "ServerAliveInterval": str(keepalive_s)}
        settings = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        # No window may ask for a password, either, not even those of a jump host's own ssh.
        environment = os.environ | {"SSH_ASKPASS_REQUIRE": "never"}
        with self._log.open("wb") as log:
            self._process = Popen(  # noqa: S603 - no shell, and the address is no option
                ["ssh", "-N", *settings, *address.options],  # noqa: S607 - the user's own
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        guard = ["sh", "-c", _GUARD, "sh", str(self._process.pid), str(self._folder)]
        self._guard = Popen(guard, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)  # noqa: S603
        _guards.add(self._guard)
        try:
            self._wait(connect_s)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the connection is there, as far as ssh knows."""
        return self._process.poll() is None

    def forward(self, port: int) -> int:
        """Forward a port of the device's own choice on its loopback to this workstation's; returns the one there."""
        words = ["-O", "forward", "-R", f"{_LOOPBACK}:0:{_LOOPBACK}:{port}", _WHOEVER]
        done = subprocess.run(  # noqa: S603
            self._sharing(*words), stdin=DEVNULL, capture_output=True, timeout=_FORWARD_S, text=True, check=False
        )
        if done.returncode != 0 or not done.stdout.strip().isdecimal():
            raise self.failure(done.stderr)
        return int(done.stdout)

    def command(self, text: str) -> Talking:
        """A process that stands for a command on the device: its input, its outputs, its status."""
        return Talking(self._sharing(_WHOEVER, text))

    def lasts(self) -> bool:
        """Whether the connection is there, also a moment later: losing it takes as long as seeing it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS_S)
        return self.alive

    def failure(self, said: str, *, during: str = "") -> DeviceError:
        """Why something did not work that ssh said this of: the connection's own last words count more."""
        words = said if self.alive else self._log.read_text(errors="replace")
        return device_error(words, name=self._name, login=self._login, during=during)

    def close(self) -> None:
        """Hang up, also on who does not answer any more."""
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin:
            self._guard.stdin.close()
        with suppress(ProcessLookupError):  # it ended, and a ProxyCommand with it
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self, connect_s: float) -> None:
        deadline = time.monotonic() + connect_s
        while not self._socket.exists():
            if not self.alive:
                raise self.failure("")
            if time.monotonic() > deadline:
                raise device_error(SILENCE, name=self._name, login=self._login)
            time.sleep(_POLL_S)

    def _sharing(self, *words: str) -> list[str]:
        return ["ssh", *_SHARE, "-S", str(self._socket), *words]
