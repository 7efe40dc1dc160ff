"""What an exception of asyncssh, or of the socket beneath it, means to the user, and what to do about it.

One table. The most specific entry wins: an error number before a class, a class before its bases.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import asyncssh

from device_runner.errors import DeviceError


class HostKeyUnknown(asyncssh.HostKeyNotVerifiable):
    """known_hosts says nothing of this host. `entry`: how known_hosts names it."""

    def __init__(self, entry: str, fingerprint: str) -> None:
        super().__init__(f"{entry} shows {fingerprint}")
        self.entry = entry


class HostKeyChanged(HostKeyUnknown):
    """known_hosts holds another key for this host."""


class Meaning(NamedTuple):
    """What happened, and a remedy. {said}: the exception's words; {ssh}, {login}: how ssh is called for this device."""

    what: str
    remedy: str


_LOOK = "look at its power and its network, then run again: what is finished is kept"
_COMPARE = "see what your own client says: {ssh} -v"

MEANINGS: Mapping[type[Exception] | int, Meaning] = MappingProxyType(
    {
        # Who is there
        HostKeyUnknown: Meaning("its host key is not known yet ({said})", "compare it and accept it once: {ssh}"),
        HostKeyChanged: Meaning(
            "its host key is NOT the one in known_hosts ({said}): it is another machine, or was installed anew",
            "if you know why, forget the old key: ssh-keygen -R '{entry}'",
        ),
        asyncssh.HostKeyNotVerifiable: Meaning("its host key cannot be trusted ({said})", _COMPARE),
        # Who asks
        asyncssh.PermissionDenied: Meaning(
            "it accepts none of your keys ({said})",
            "give it one: ssh-copy-id {login}; or unlock yours: ssh-add",
        ),
        asyncssh.IllegalUserName: Meaning("no such user name can be ({said})", "correct the user in the address"),
        asyncssh.KeyImportError: Meaning("a key of yours cannot be read ({said})", "correct ~/.ssh/config"),
        asyncssh.KeyEncryptionError: Meaning("a key of yours is locked ({said})", "unlock it first: ssh-add"),
        asyncssh.ConfigParseError: Meaning("your ssh configuration cannot be read ({said})", "correct ~/.ssh/config"),
        FileNotFoundError: Meaning("a file of your ssh configuration is missing ({said})", "correct ~/.ssh/config"),
        PermissionError: Meaning("a file of your ssh configuration cannot be read ({said})", "correct its permissions"),
        # No way there
        socket.gaierror: Meaning("its name is not known ({said})", "check the name, or use its IP address"),
        errno.ECONNREFUSED: Meaning(
            "it refuses the connection", "switch its ssh server on (Raspberry Pi: raspi-config, Interface Options, SSH)"
        ),
        errno.EHOSTUNREACH: Meaning("it cannot be reached ({said})", _LOOK),
        errno.ENETUNREACH: Meaning("there is no way to its network ({said})", "connect this workstation to it"),
        errno.ETIMEDOUT: Meaning("it does not answer", _LOOK),
        TimeoutError: Meaning("it does not answer", _LOOK),
        # Lost on the way
        asyncssh.ConnectionLost: Meaning("the connection was lost ({said})", _LOOK),
        errno.ECONNRESET: Meaning("the connection was cut", _LOOK),
        errno.EPIPE: Meaning("the connection was cut", _LOOK),
        asyncssh.MACError: Meaning("what arrives is damaged ({said})", "change the cable or the network"),
        asyncssh.CompressionError: Meaning("what arrives is damaged ({said})", "remove Compression from ~/.ssh/config"),
        # Another language
        asyncssh.KeyExchangeFailed: Meaning("no cipher or key type in common ({said})", "update its ssh server"),
        asyncssh.ProtocolNotSupported: Meaning("its ssh is of an unknown version ({said})", "update its ssh server"),
        asyncssh.ProtocolError: Meaning("it broke the conversation off ({said})", _COMPARE),
        asyncssh.ServiceNotAvailable: Meaning("it offers no such service ({said})", _COMPARE),
        # Something refused
        asyncssh.ChannelOpenError: Meaning(
            "it opens no session ({said})", "end other sessions, or raise MaxSessions in its sshd_config"
        ),
        asyncssh.ChannelListenError: Meaning(
            "it opens no way back ({said})", "set AllowTcpForwarding yes in its sshd_config, or use --way-back direct"
        ),
        errno.ENOSPC: Meaning("this workstation's disk is full", "free space here"),
        # Whatever else there may be
        asyncssh.DisconnectError: Meaning("it ended the connection ({said})", _COMPARE),
        asyncssh.Error: Meaning("ssh failed ({said})", _COMPARE),
        OSError: Meaning("the connection failed ({said})", _LOOK),
    }
)

FOREIGN: tuple[type[Exception], ...] = tuple(key for key in MEANINGS if isinstance(key, type))
"""What to catch around a call of asyncssh."""


def device_error(exc: Exception, *, name: str, ssh: str, login: str, during: str = "") -> DeviceError:
    """What a foreign exception means, in one line.

    Args:
        name: the device's address.
        ssh, login: how the user calls ssh and ssh-copy-id for it.
        during: " while ... was sent", where that matters.
    """
    meaning = MEANINGS[_entry(exc)]
    said = " ".join(str(exc).split()) or type(exc).__name__
    words = {"said": said, "ssh": ssh, "login": login, "entry": getattr(exc, "entry", "")}
    return DeviceError(f"{name}: {meaning.what.format(**words)}{during}", remedy=meaning.remedy.format(**words))


def _entry(exc: Exception) -> type[Exception] | int:
    number = _number(exc)
    return number if number in MEANINGS else next(kind for kind in type(exc).__mro__ if kind in MEANINGS)


def _number(exc: Exception) -> int:
    """The error number, which asyncio leaves in words alone where a name has several addresses and none answered."""
    if not isinstance(exc, OSError):
        return 0
    in_words = re.findall(r"\[Errno (\d+)\]", str(exc))
    return exc.errno or (int(in_words[-1]) if in_words else 0)
