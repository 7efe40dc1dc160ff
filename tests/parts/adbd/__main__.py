"""The phone itself: `python -m tests.parts.adbd ROOT STORAGE_BYTES`, as root, in namespaces of its own.

Prints its port, then reads one line of changes to its conditions after another and answers each with an empty line. It
ends with its standard input, and with it every process that it started.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path

from tests.parts.adbd.android import MODEL, PRODUCT
from tests.parts.adbd.conditions import Conditions
from tests.parts.adbd.forward import Reverse, serve_tcp
from tests.parts.adbd.namespace import become_phone
from tests.parts.adbd.protocol import MAX_PAYLOAD
from tests.parts.adbd.shell import serve_shell
from tests.parts.adbd.sync import serve_sync
from tests.parts.adbd.transport import Stream, Transport

_BANNER = (
    f"device::ro.product.name={PRODUCT};ro.product.model={MODEL};ro.product.device={PRODUCT};features=shell_v2".encode()
)
_ENVIRONMENT = {
    "PATH": "/system/bin",
    "HOME": "/",
    "USER": "shell",
    "TMPDIR": "/data/local/tmp",
    "ANDROID_ROOT": "/system",
    "ANDROID_DATA": "/data",
    "QEMU_CPU": "cortex-a76",  # qemu's default CPU computes wrong int8 results
}


class Phone:
    """The phone's side of all connections."""

    def __init__(self) -> None:
        self.port = 0
        self._listener: asyncio.Server | None = None
        self._conditions = Conditions()
        self._transports: set[Transport] = set()

    async def change(self, line: bytes) -> None:
        """New conditions hold for what is connected too; a phone that cannot be used any more loses its connections."""
        vars(self._conditions).update(json.loads(line))
        await self.follow_state()

    async def follow_state(self) -> None:
        """Listen, unless unplugged; always on the same port."""
        if self._conditions.state == "unplugged":
            if self._listener is not None:
                self._listener.close()
            self._listener = None
        elif self._listener is None:
            self._listener = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=2 * MAX_PAYLOAD)
            self.port = self._listener.sockets[0].getsockname()[1]
        if self._conditions.state not in ("device", "silent"):
            for transport in self._transports:
                transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer an adb server until it is lost."""
        reverse = Reverse()
        transport = Transport(reader, writer, self._conditions, banner=_BANNER, serve=partial(_serve, reverse))
        self._transports.add(transport)
        try:
            await transport.run()
        finally:
            reverse.close()
            self._transports.discard(transport)
            await self.follow_state()  # it may have been cut off for good


async def _serve(reverse: Reverse, request: str, stream: Stream) -> None:
    """Answer one request; what is not known is closed without having been accepted."""
    kind, _, what = request.partition(":")
    if kind.split(",")[0] == "shell":
        await serve_shell(request, stream, _ENVIRONMENT)
    elif kind == "sync":
        await serve_sync(stream)
    elif kind == "tcp":
        await serve_tcp(int(what), stream)
    elif kind == "reverse":
        await reverse.serve(what, stream)


async def _live() -> None:
    phone = Phone()
    await phone.follow_state()
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin.buffer)
    print(phone.port, flush=True)  # noqa: T201 - read by whoever started the phone
    while line := await commands.readline():
        await phone.change(line)
        print(flush=True)  # noqa: T201
    os._exit(0)  # in the middle of whatever it does


if __name__ == "__main__":
    become_phone(Path(sys.argv[1]), storage_bytes=int(sys.argv[2]))
    asyncio.run(_live())
