"""What adbutils' exceptions, the adb server's words and a device's state mean to the user, and what to do about it.

One table. The server's words win, then an error number, then an exception's class before its bases.
"""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from device_runner.devices.adb_library import (
    AdbConnectionError,
    AdbError,
    AdbInstallError,
    AdbSyncError,
    AdbTimeout,
)
from device_runner.errors import DeviceError


class AdbMeaning(NamedTuple):
    """What happened, and a remedy. {said}: the exception's words, in one line."""

    what: str
    remedy: str


_REPLUG = "look at its cable and its screen, then run again: what is finished is kept"
# The server may be somebody else's: it is never ended, but left alone.
_SERVER = "see what listens there, or use a server of your own: export ADB_SERVER_SOCKET=tcp:localhost:5038"
_START = "see what adb itself says: adb start-server"
_SEE_DEVICES = "see what adb itself says: adb devices -l"

OFFLINE = AdbMeaning(
    "it is offline", "unplug it and plug it in again (over Wi-Fi: adb disconnect), or: adb reconnect offline"
)
UNAUTHORIZED = AdbMeaning(
    "it does not know this workstation (unauthorized)",
    "unlock the phone and accept the dialog 'Allow USB debugging?'; none shows: plug it in again",
)
NOT_ATTACHED = AdbMeaning(
    "it is not attached ({said})",
    "plug it in and switch USB debugging on (Settings, Developer options); see: adb devices",
)
SILENT = AdbMeaning("it does not answer", _REPLUG)
UNREACHABLE = AdbMeaning(
    "adb cannot reach it ({said})",
    "switch Wireless debugging on (Settings, Developer options), take the port shown there, and stay in its network;"
    " a phone that was restarted at port 5555 needs the cable once more: adb tcpip 5555",
)
LOST = AdbMeaning("the connection was lost", _REPLUG)
_NO_PERMISSION = AdbMeaning(
    "this user may not use its USB port",
    "apt-get install android-sdk-platform-tools-common, add yourself to the group plugdev, and log in again",
)

# What `adb devices` says of a device, where that is not "device".
STATES: Mapping[str, AdbMeaning] = MappingProxyType(
    {
        "offline": OFFLINE,
        "connecting": OFFLINE,
        "unauthorized": UNAUTHORIZED,
        "authorizing": UNAUTHORIZED,
        "no": _NO_PERMISSION,  # "no permissions (...)"
        **dict.fromkeys(
            ("bootloader", "recovery", "rescue", "sideload", "host"),
            AdbMeaning("it has not started Android", "start it normally: adb reboot"),
        ),
    }
)

# What the server says where it refuses a request.
WORDS: Mapping[str, AdbMeaning] = MappingProxyType(
    {
        "unauthorized": UNAUTHORIZED,
        "failed to authenticate": UNAUTHORIZED,
        "authorizing": UNAUTHORIZED,
        "device offline": OFFLINE,
        "insufficient permissions": _NO_PERMISSION,
        "no permissions": _NO_PERMISSION,
        "not found": NOT_ATTACHED,
        "no devices": NOT_ATTACHED,
        "resolve host": AdbMeaning("adb does not find its name ({said})", "use its IP address: adb:IP:PORT"),
        "no adb exe": AdbMeaning("adb is missing", "apt-get install adb"),
        "unknown data: b''": LOST,
        "unknown data": AdbMeaning("what answers in the place of the adb server is none ({said})", _SERVER),
        "says nothing": AdbMeaning("{said}", _SERVER),
        "start-server": AdbMeaning("the adb server cannot be started ({said})", _START),
        "does not start": AdbMeaning("{said}", _START),
        "cannot be reached": AdbMeaning(
            "{said}", "see that it runs there and lets others in (adb -a nodaemon server), or unset what names it"
        ),
        "connection closed": LOST,
        "closed": AdbMeaning("it refused the request, or was lost just now", _REPLUG),
        "cannot bind": AdbMeaning("it opens no way back ({said})", "use --way-back direct"),
    }
)

NUMBERS: Mapping[int, AdbMeaning] = MappingProxyType(
    {errno.ENOSPC: AdbMeaning("this workstation's disk is full", "free space here")}
)

CLASSES: Mapping[type[Exception], AdbMeaning] = MappingProxyType(
    {
        AdbTimeout: SILENT,
        AdbConnectionError: AdbMeaning("the adb server cannot be reached ({said})", _SERVER),
        AdbSyncError: AdbMeaning("adb could not copy a file ({said})", "run again"),
        AdbInstallError: AdbMeaning("adb could not install a package ({said})", _SEE_DEVICES),
        AdbError: AdbMeaning("adb failed ({said})", _SEE_DEVICES),
        EOFError: LOST,
        ConnectionError: LOST,
        TimeoutError: SILENT,
        FileNotFoundError: AdbMeaning("adb is missing", "apt-get install adb"),
        subprocess.TimeoutExpired: AdbMeaning("the adb server does not start ({said})", _START),
        OSError: AdbMeaning("the adb server cannot be used ({said})", _SERVER),
    }
)

FOREIGN: tuple[type[Exception], ...] = tuple(CLASSES)
"""What to catch around a conversation with the adb server."""


def device_error(cause: Exception | AdbMeaning, *, name: str, said: str = "", during: str = "") -> DeviceError:
    """What happened to a device, in one line.

    Args:
        name: the device's address.
        said: the words; by default the exception's.
        during: " while ... was sent", where that matters.
    """
    words = " ".join((said or str(cause)).split())
    meaning = cause if isinstance(cause, AdbMeaning) else meaning_of(cause)
    return DeviceError(f"{name}: {meaning.what.format(said=words)}{during}", remedy=meaning.remedy)


def meaning_of(exc: Exception) -> AdbMeaning:
    """The entry for an exception."""
    in_words = meaning_of_words(str(exc)) if isinstance(exc, AdbError) else None
    by_number = NUMBERS.get(exc.errno or 0) if isinstance(exc, OSError) else None
    return in_words or by_number or next(CLASSES[kind] for kind in type(exc).__mro__ if kind in CLASSES)


def meaning_of_words(said: str) -> AdbMeaning | None:
    """The entry for what the adb server says; None where it says nothing known."""
    return next((meaning for words, meaning in WORDS.items() if words in said.lower()), None)
