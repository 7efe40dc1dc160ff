"""Where an ssh server is: ssh://[USER@]HOST[:PORT]."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import shlex
from dataclasses import dataclass
from typing import Self

from device_runner.errors import UsageError

_SCHEME = "ssh://"
_USER = re.compile(r"[\w.+\\$][\w.+\\$@-]*")
_PLACE = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>\w[\w.-]*))(?::(?P<port>\d{1,9}))?/?")
_PORTS = range(1, 2**16)
_WRITE = "write ssh://USER@HOST:PORT (USER@ and :PORT may be left out, IPv6 in brackets, no password)"


@dataclass(frozen=True)
class SshAddress:
    """Where an ssh server is. What is None, the user's ssh configuration decides."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ssh://[USER@]HOST[:PORT]. Raises UsageError, which never shows a password."""
        if not text.startswith(_SCHEME):
            refuse_ssh_without_scheme(text)
        user, at, place = text.removeprefix(_SCHEME).rpartition("@")
        if ":" in user:
            raise UsageError("an ssh address holds a password", remedy=f"leave it out, and use a key: {_WRITE}")
        match = _PLACE.fullmatch(place)
        if not text.startswith(_SCHEME) or match is None or (at and not _USER.fullmatch(user)):
            raise UsageError(f"'{text}' is not an ssh address", remedy=_WRITE)
        port = int(match["port"]) if match["port"] else None
        if port is not None and port not in _PORTS:
            raise UsageError(f"'{text}': no port {port} can be", remedy=f"ports are 1 to 65535: {_WRITE}")
        return cls(match["host"] or match["ipv6"], user or None, port)

    @property
    def options(self) -> list[str]:
        """What `ssh` is told of it, the last of its options and the host."""
        user = ["-l", self.user] if self.user else []
        port = ["-p", str(self.port)] if self.port else []
        return [*user, *port, "--", self.host]

    @property
    def login(self) -> str:
        """What a user types behind `ssh` or `ssh-copy-id`."""
        port = f"-p {self.port} " if self.port else ""
        return port + shlex.quote(f"{self.user}@{self.host}" if self.user else self.host)


def refuse_ssh_without_scheme(text: str) -> None:
    """Refuse what must have been meant as an ssh address, and say how that is written. Raises UsageError."""
    bare = re.sub("(?i)^(ssh|sftp|scp):/*", "", text)
    if not ("@" in bare or bare != text or _is_host(bare)):
        return
    guess = _SCHEME + (f"[{bare}]" if bare.count(":") > 1 and "[" not in bare else bare)
    SshAddress.parse(guess)
    raise UsageError(f"'{text}' is not a device", remedy=f"did you mean {guess}?")


def without_password(text: str) -> str:
    """An address as it may be shown, whatever was typed."""
    return re.sub("(?i)^((?:(?:ssh|sftp|scp):/*)?+[^:]*):.*@", r"\1:...@", text)


def _is_host(text: str) -> bool:
    """Whether a word is an IP address, or a name with a dot and perhaps a port; "package.module:Class" is neither."""
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(text.strip("[]")))
    return re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", text) is not None
