"""A Raspberry Pi, or another 64-bit ARM machine with Linux, reached over ssh."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from device_runner.devices.base import Completed
from device_runner.devices.call_log import logged
from device_runner.devices.pipes import Patience
from device_runner.devices.remote import RemoteDevice
from device_runner.devices.ssh_address import SshAddress
from device_runner.devices.ssh_errors import ENDED, NO_COMMANDS, OF_SHARING, SAYS_NOTHING, STUCK, explained
from device_runner.devices.ssh_master import Master
from device_runner.devices.ssh_shell import NOT_STARTED, START, CommandOutput, script
from device_runner.errors import DeviceError

# A transfer in which nothing moves for so long is given up; memory cards pause for seconds.
_STALL_S = 60.0
_END_S = 5.0
_PAUSES_S = (0.1, 0.5, 2.0)
_LOOPBACK = "127.0.0.1"

# Not ~/.cache/splitbench: where the device is a workstation as well, that is its own cache.
_ROOT = ".cache/splitbench-device"

_CANNOT_EXECUTE = 126
# What `ssh` itself ends with where it failed.
_SSH_FAILED = 255

# sshd lets commands run on when it loses who gave them. A runner that is left over would spoil the next times, so that
# a new connection ends what was started over an earlier one ($1), and whatever of ours has lost its sshd: the shell
# that leads its session is gone, or has been handed to init.
_MARK = "SPLITBENCH_HARNESS"
_END = f"""
brace=')'
for environ in $(grep -ls {_MARK}= /proc/[0-9]*/environ); do
  folder=${{environ%/environ}}
  read -r stat 2>/dev/null <"$folder/stat" || continue
  set -- "$1" ${{stat##*"$brace" }}
  if grep -qs "$1" "$environ" || ! [ -e "/proc/$5" ] || grep -qs '^PPid:[[:space:]]*1$' "/proc/$5/status"; then
    kill -s KILL -- "-${{folder#/proc/}}" 2>/dev/null
    kill -s KILL "${{folder#/proc/}}" 2>/dev/null
  fi
done
"""
_GREET = f"""{_END}
uname -m
echo "${{SSH_CONNECTION%% *}}"
printf %s "$HOME"
"""

_MACHINE = "aarch64"
_OTHER_MACHINES = {
    **dict.fromkeys(("armv6l", "armv7l", "armv8l"), "install the 64-bit Raspberry Pi OS"),
    "x86_64": "run splitbench on it, with --device local",
}


class Ssh(RemoteDevice):
    """A 64-bit ARM machine with Linux, such as a Raspberry Pi. Address: ssh://[USER@]HOST[:PORT].

    Your own `ssh` connects, so that your configuration, keys, agent, jump hosts and known host keys are what they are
    for it. No password is ever asked for.

    Attributes:
        connect_s: how long connecting may take.
        keepalive_s: how often a silent device is asked whether it is there; the fourth time it counts as lost.
    """

    direct_link, tunnel_link = "direct", "ssh tunnel"
    connect_s: float = 20.0
    keepalive_s: int = 5

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._address = SshAddress.parse(address)
        self._master: Master | None = None
        self._home = ""
        self._sees_us_at: str | None = None
        self._tunnels: dict[int, str] = {}
        self._mark = f"{_MARK}={secrets.token_hex(8)}"
        self._calls = itertools.count()

    def root(self) -> str:
        """A folder in the user's cache."""
        self._ready()
        return f"{self._home}/{_ROOT}"

    @logged
    def call(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run a command to its end; its arguments arrive as they are."""
        master, stdout = self._ready(), bytearray()
        mark = f"{self._mark}.{next(self._calls)}."
        try:
            done = self._run(master, argv, [stdin], stdout.extend, patience=Patience(timeout_s), mark=mark)
        except TimeoutError as exc:
            self._end(master, mark)
            what = f"{Path(argv[0]).name} did not end within {timeout_s:g} s"
            raise DeviceError(f"{self.name}: {what}", remedy="use fewer iterations, or look at the device") from exc
        except KeyboardInterrupt:
            self._end(master, mark)
            raise
        if done.stderr.endswith(NOT_STARTED) or done.status == _CANNOT_EXECUTE:
            reason = done.said.rpartition(": ")[2]
            raise DeviceError(f"{self.name}: {argv[0]} cannot be started: {reason}", remedy="see bench devices")
        return Completed(done.status, bytes(stdout), done.stderr)

    @logged
    def transfer(
        self, argv: Sequence[str], stdin: Iterable[bytes], on_stdout: Callable[[bytes], object], *, during: str
    ) -> Completed:
        """Run a command that a file goes into or comes out of; the connection is lost where nothing moves."""
        patience = Patience(_STALL_S, renewed=True)
        try:
            return self._run(self._ready(), argv, stdin, on_stdout, patience=patience, during=during)
        except TimeoutError as exc:
            self._hang_up()
            what = f"nothing moved for {_STALL_S:g} s{during}"
            raise DeviceError(f"{self.name}: {what}", remedy="look at its network and its disk; run again") from exc

    def open_tunnel(self, port: int) -> str:
        """Forward a port of the device's own choice on its loopback to this workstation's `port`.

        A lost connection closes it; the next call opens it anew.
        """
        master = self._ready()
        if port not in self._tunnels:
            self._tunnels[port] = f"{_LOOPBACK}:{master.forward(port)}"
        return self._tunnels[port]

    def workstation_address(self) -> str | None:
        """Where the device sees its connection come from: this workstation, or what stands between (a jump host)."""
        self._ready()
        return self._sees_us_at

    def close(self) -> None:
        """Hang up."""
        super().close()
        self._hang_up()

    def _ready(self) -> Master:
        """Connect, unless that is done. A new connection may lead to another machine: what was there counts no more."""
        if self._master is None or not self._master.alive:
            self._hang_up()
            self._there.clear()
            patience = Patience(self.connect_s)
            self._master = Master(self._address, name=self.name, keepalive_s=self.keepalive_s, connect_s=self.connect_s)
            try:
                self._greet(self._master, patience)
            except BaseException:
                self._hang_up()
                raise
        return self._master

    def _hang_up(self) -> None:
        if self._master is not None:
            self._master.close()
        self._master = None
        self._tunnels.clear()

    def _greet(self, master: Master, patience: Patience) -> None:
        """End what was left over, and make sure that there is a bundle for this machine."""
        said = bytearray()
        try:
            self._run(master, ["sh", "-c", _GREET, "sh", self._mark], (), said.extend, patience=patience)
        except TimeoutError as exc:
            raise explained(STUCK, name=self.name, login=self._address.login) from exc
        machine, _, rest = said.decode(errors="surrogateescape").partition("\n")
        peer, _, home = rest.partition("\n")
        if machine != _MACHINE:
            remedy = _OTHER_MACHINES.get(machine, "use a device with a 64-bit ARM processor")
            raise DeviceError(f"{self.name}: its processor is '{machine}', not {_MACHINE}", remedy=remedy)
        if not home.startswith("/"):
            raise DeviceError(f"{self.name}: its user has no home folder", remedy="log in as a user that has one")
        self._home, self._sees_us_at = home.rstrip("/"), peer or None

    def _run(
        self,
        master: Master,
        argv: Sequence[str],
        stdin: Iterable[bytes],
        on_stdout: Callable[[bytes], object],
        *,
        patience: Patience,
        during: str = "",
        mark: str = "",
    ) -> Completed:
        """Run a command; its standard output is handed on. Raises TimeoutError where patience is over."""
        # A device of few sessions may still be ending the last one: nothing has run then, and it is asked again.
        for pause_s in (*_PAUSES_S, None):
            frame, stderr = secrets.token_hex(8), bytearray()
            out, err = CommandOutput(frame, on_stdout), CommandOutput(frame, stderr.extend)
            order = script(argv, frame=frame, environment=mark)
            status = _converse(master, itertools.chain([order], stdin), out, err, patience)
            if out.ended and err.ended:
                return Completed(out.status, b"", bytes(stderr))
            out.close()
            err.close()
            refused = status == _SSH_FAILED and not out.begun and OF_SHARING.search(err.talk.decode(errors="replace"))
            if pause_s is None or not refused or not isinstance(stdin, Sequence):
                break
            time.sleep(min(pause_s, patience.left_s))
        raise self._unanswered(master, argv, out, err, failed=status == _SSH_FAILED, during=during)

    def _unanswered(
        self, master: Master, argv: Sequence[str], out: CommandOutput, err: CommandOutput, *, failed: bool, during: str
    ) -> DeviceError:
        """Why an answer is missing, or not whole."""
        said = err.talk.decode(errors="replace")
        # The same status may be that of a command, or of a signal.
        if failed and (not master.lasts() or OF_SHARING.search(said)):
            error = master.failure(said, during=during)
            if not master.alive:
                self._hang_up()
            return error
        name, login = self.name, self._address.login
        if out.begun:
            return explained(ENDED, name=name, login=login, during=during, said=Path(argv[0]).name)
        for line in f"{out.talk.decode(errors='replace')}\n{said}".splitlines():
            if line.strip():
                return explained(NO_COMMANDS, name=name, login=login, said=line)
        return explained(SAYS_NOTHING, name=name, login=login)

    def _end(self, master: Master, mark: str) -> None:
        """End a command, and what it started, that nobody waits for; a new connection would do so, too."""
        try:
            self._run(master, ["sh", "-c", _END, "sh", mark], (), len, patience=Patience(_END_S))
        except (DeviceError, TimeoutError):
            self._hang_up()


def _converse(
    master: Master, stdin: Iterable[bytes], out: CommandOutput, err: CommandOutput, patience: Patience
) -> int | None:
    """Let a command run until both its outputs have ended, or its process has: then its status."""
    with master.command(START) as process:
        return process.converse(stdin, out.feed, err.feed, patience=patience, complete=lambda: out.ended and err.ended)
