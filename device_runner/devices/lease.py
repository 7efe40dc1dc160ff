"""Who measures on a device, kept on the device itself: harnesses of other workstations and users are told.

ROOT/lease holds four lines: the holder's token, the device's boot id, the second of its uptime at which the lease ends,
and who that is. No clock is compared with another: a lease counts until its device was restarted, or until its time is
over and no runner of ours runs there. It is renewed every half minute, never while something is timed.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from device_runner.devices.remote import RemoteDevice
from device_runner.errors import DeviceError, HeldError

_QUICK_S = 60.0
_LASTS_S = 180
_RENEW_S = 30.0
_TOLD = "splitbench-lease="

# VERB ROOT TOKEN WHO SECONDS DEAD: "take" (also from the holder DEAD), "free" or "look". Tells "free", "mine", "held"
# or "unknown", then the holder. The folder lease.busy keeps two such scripts apart: mkdir succeeds for one of them
# alone. What a script that was killed in the middle left of it goes after two seconds.
_SCRIPT = r"""
verb=$1 lease=$2/lease token=$3 who=$4 seconds=$5 dead=$6
boot= now=
{ read -r boot </proc/sys/kernel/random/boot_id; read -r now rest </proc/uptime; } 2>/dev/null
now=${now%%.*}
holder= its_boot= until= name=
reread() {
  holder=
  if [ -r "$lease" ]; then { read -r holder; read -r its_boot; read -r until; read -r name; } <"$lease"; fi
}
counts() {
  [ -n "$holder" ] && [ "$holder" != "$dead" ] && [ "$its_boot" = "$boot" ] || return
  [ "$until" -gt "$now" ] 2>/dev/null || grep -qs '/bundles/[0-9a-f]\{64\}/head_runner' /proc/[0-9]*/cmdline
}
tell() { echo "splitbench-lease=$1 $holder $((${until:-0} - now)) $name"; exit; }
[ -n "$boot" ] && [ -n "$now" ] || tell unknown
reread
if [ "$verb" = look ]; then if counts; then tell held; else tell free; fi; fi
tries=0
mkdir -p "$2"
until mkdir "$lease.busy" 2>/dev/null; do
  tries=$((tries + 1))
  [ $tries = 2 ] && rmdir "$lease.busy" 2>/dev/null
  if [ $tries = 5 ]; then mkdir "$lease.busy"; exit 1; fi
  sleep 1
done
trap 'rmdir "$lease.busy"' EXIT
reread
if [ "$verb" = free ]; then
  [ "$holder" != "$token" ] || rm -f "$lease"
  tell free
fi
if [ "$holder" != "$token" ] && counts; then tell held; fi
printf '%s\n' "$token" "$boot" "$((now + seconds))" "$who" >"$lease.new" && mv -f "$lease.new" "$lease" || exit 1
tell mine
"""


@dataclass(frozen=True)
class Holder:
    """Who measures on a device now.

    Attributes:
        token: of its harness; harnesses of one workstation can tell whether it still runs.
        seconds_left: after which its lease ends, unless it is renewed.
        name: "ada@laptop, process 4711".
    """

    token: str
    seconds_left: int
    name: str


def holder_of(device: RemoteDevice) -> Holder | None:
    """Who measures on the device now; takes nothing. Raises DeviceError where it does not answer."""
    held = _ask(device, "look")[1]
    return None if held is None or _is_dead(held.token) else held


class Lease:
    """A device that is this harness's for as long as the block runs; other harnesses are refused meanwhile.

    A device that tells neither its boot nor its uptime keeps no lease, and refuses nobody.
    """

    def __init__(self, device: RemoteDevice) -> None:
        self._device = device
        self._token = _token()
        self._ends = 0.0
        self._quiet = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        """Take it. Raises HeldError where another harness has it, DeviceError where the device does not answer."""
        self._take(_LASTS_S)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        with suppress(DeviceError):  # lost: it ends by itself
            _ask(self._device, "free", self._token)

    @contextmanager
    def undisturbed(self, pause_s: float = 0.0) -> Iterator[None]:
        """Nothing renews the lease while the block runs: it is renewed now, where that is due.

        Args:
            pause_s: how long the block may do nothing on the device.

        Raises:
            HeldError: another harness has taken the device meanwhile.
        """
        with self._quiet:
            self.keep(pause_s)
            yield

    def keep(self, pause_s: float = 0.0) -> None:
        """Renew it where that is due, from within a block that is `undisturbed` and measures nothing just now.

        Args:
            pause_s: how long the block may do nothing on the device.

        Raises:
            HeldError: another harness has taken the device meanwhile.
        """
        if self._ends - time.monotonic() < pause_s + _LASTS_S - _RENEW_S:
            self._renew(pause_s + _LASTS_S)

    def _keep(self) -> None:
        while not self._over.wait(_RENEW_S):
            if self._quiet.acquire(blocking=False):
                try:
                    with suppress(HeldError):  # said before the next measurement
                        self._renew(_LASTS_S)
                finally:
                    self._quiet.release()

    def _renew(self, seconds: float) -> None:
        try:
            self._take(seconds)
        except HeldError:
            raise
        except DeviceError:  # it was lost: what is measured next says so better
            return

    def _take(self, seconds: float) -> None:
        told, held = _ask(self._device, "take", self._token, seconds=seconds)
        if told == "held" and held and _is_dead(held.token):
            told, held = _ask(self._device, "take", self._token, seconds=seconds, dead=held.token)
        if told == "held" and held:
            raise held_error(self._device.name, held)
        self._ends = time.monotonic() + seconds


def held_error(address: str, holder: Holder) -> HeldError:
    """Somebody else measures on a device."""
    return HeldError(
        f"another harness is measuring on {address}: {holder.name}",
        remedy=f"wait for it, or end it: {max(1, holder.seconds_left)} s later at most the device is free",
    )


def _ask(
    device: RemoteDevice, verb: str, token: str = "", *, seconds: float = 0.0, dead: str = ""
) -> tuple[str, Holder | None]:
    who = f"{_user()}@{socket.gethostname()}, process {os.getpid()}"
    argv = ["sh", "-c", _SCRIPT, "sh", verb, device.root(), token, who, f"{seconds:.0f}", dead]
    said = device.call_checked(argv, timeout_s=_QUICK_S).decode(errors="replace")
    line = next((line for line in said.splitlines() if line.startswith(_TOLD)), "")
    told, token, left, name = (*line.removeprefix(_TOLD).split(" ", 3), "", "", "", "")[:4]
    seconds_left = int(left) if left.removeprefix("-").isdecimal() else 0
    return told, Holder(token, seconds_left, name) if told == "held" else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _token() -> str:
    """Names this process among all of all workstations."""
    return f"{_workstation()}/{os.getpid()}/{_started(os.getpid())}"


def _is_dead(token: str) -> bool:
    """Whether a token is that of a process of this workstation that has ended."""
    workstation, _, process = token.partition("/")
    number, _, started = process.partition("/")
    return workstation == _workstation() and number.isdecimal() and _started(int(number)) != started


def _workstation() -> str:
    """This machine since it was started, and the processes that one sees of it: a container sees its own alone."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    return hashlib.sha256(f"{boot}{Path('/proc/self/ns/pid').readlink()}".encode()).hexdigest()[:16]


def _started(process: int) -> str:
    """When a process started, in the kernel's ticks; empty where it has ended."""
    try:
        state, *facts = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else facts[18]
