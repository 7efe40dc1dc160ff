"""Connecting by ssh as the user would: their keys, agent, configuration, known hosts; host keys are always checked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import asyncssh

from device_runner.devices.ssh_errors import FOREIGN, HostKeyChanged, HostKeyUnknown
from device_runner.errors import DeviceError, UsageError

_ADDRESS = re.compile(
    r"""ssh://
    (?:(?P<user>[\w.+\\$][\w.+\\$-]*)@)?
    (?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>\w[\w.-]*))
    (?::(?P<port>\d{1,5}))?/?""",
    re.VERBOSE,
)
_SSH_PORT = 22


@dataclass(frozen=True)
class SshAddress:
    """Where an ssh server is. What is None, ~/.ssh/config decides."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ssh://[USER@]HOST[:PORT]. Raises UsageError."""
        found = _ADDRESS.fullmatch(text)
        port = int(found["port"]) if found and found["port"] else None
        if found is None or (port is not None and not 0 < port < 2**16):
            remedy = "write ssh://USER@HOST:PORT (USER@ and :PORT may be left out, IPv6 in brackets, no password)"
            raise UsageError(f"'{text}' is not an ssh address", remedy=remedy)
        return cls(found["host"] or found["ipv6"], found["user"], port)

    @property
    def login(self) -> str:
        """What follows `ssh` or `ssh-copy-id` on a command line."""
        port = f"-p {self.port} " if self.port else ""
        return f"{port}{self.user}@{self.host}" if self.user else f"{port}{self.host}"


class Client(asyncssh.SSHClient):
    """Says which of two things is wrong with a host key that known_hosts does not hold, and why a connection was lost.

    Attributes:
        lost: why; None until it happens.
    """

    def __init__(self, known: asyncssh.SSHKnownHosts) -> None:
        self._known = known
        self.lost: Exception | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep the reason."""
        self.lost = exc if isinstance(exc, FOREIGN) else None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Refuse a host key that is not among the known ones."""
        entry = host if port == _SSH_PORT else f"[{host}]:{port}"
        others = self._known.match(host, addr, port if port != _SSH_PORT else None)[0]
        kind = HostKeyChanged if others else HostKeyUnknown
        raise kind(entry, key.get_fingerprint())


@dataclass(frozen=True)
class Connected:
    """A connection.

    Attributes:
        client: tells why it was lost, once it is.
        local_address: of this end, where it leads to the device without a jump host or a proxy.
    """

    connection: asyncssh.SSHClientConnection
    client: Client
    local_address: str | None


async def connect(address: SshAddress, *, keepalive_s: float) -> Connected:
    """Connect, through jump hosts where the configuration says so. A silent peer is given up after 4 x keepalive_s."""
    return await _connect(address, None, keepalive_s)


async def _connect(address: SshAddress, through: asyncssh.SSHClientConnection | None, keepalive_s: float) -> Connected:
    asked = {"port": address.port, "username": address.user}
    given = {key: value for key, value in asked.items() if value is not None}
    settings = await asyncssh.SSHClientConnectionOptions.construct(host=address.host, config=(), **given)
    # asyncssh would open the way by itself, but with its own idea of known hosts.
    jumps = cast(str | None, settings.tunnel) if through is None else None
    for jump in jumps.split(",") if jumps else ():
        through = (await _connect(SshAddress.parse(f"ssh://{jump}"), through, keepalive_s)).connection
    known = _known_hosts(settings)
    client, connection = Client(known), None
    try:
        connection = await asyncssh.connect(
            address.host,
            tunnel=through,
            known_hosts=known,
            client_factory=lambda: client,
            keepalive_interval=keepalive_s,
            **given,
        )
    finally:
        if through is not None and connection is None:
            through.abort()
    if through is not None:
        connection.set_tunnel(through)
    direct = through is None and settings.proxy_command is None
    return Connected(connection, client, connection.get_extra_info("sockname")[0] if direct else None)


def _known_hosts(settings: asyncssh.SSHClientConnectionOptions) -> asyncssh.SSHKnownHosts:
    """All that the user's and the system's files say.

    asyncssh by itself reads one or the other, and with `UserKnownHostsFile none` checks nothing at all.
    """
    ssh = Path("~/.ssh").expanduser()
    users = settings.config.get("UserKnownHostsFile", [ssh / "known_hosts", ssh / "known_hosts2"])
    systems = settings.config.get("GlobalKnownHostsFile", ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"])
    known = asyncssh.SSHKnownHosts()
    for file in [*cast(Iterable[str], users), *cast(Iterable[str], systems)]:
        path = Path(file).expanduser()
        if path.is_file():
            try:
                known.load(path.read_text(errors="replace"))
            except ValueError as exc:
                raise DeviceError(f"{path}: {exc}", remedy="correct that line") from exc
    return known


async def hang_up(connection: asyncssh.SSHClientConnection, *, patience_s: float) -> None:
    """Close a connection, also one that leads nowhere any more."""
    connection.close()
    try:
        async with asyncio.timeout(patience_s):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()
