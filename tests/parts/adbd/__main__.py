"""The phone itself: `python -m tests.parts.adbd ROOT STORAGE_BYTES`, as root, in mount and process namespaces of its own.

Prints its port, then reads one line of conditions after another and answers each with an empty line. It ends with its
standard input, and with it every process that it started.
"""

from __future__ import annotations

import asyncio
import os
import socket
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
        self._conditions = Conditions()
        self._transports: set[Transport] = set()

    def change(self, line: bytes) -> None:
        """New conditions hold for what is connected too; a phone that cannot be used any more loses its connections."""
        vars(self._conditions).update(vars(Conditions.decode(line)))
        if self._conditions.state not in ("device", "silent"):
            for transport in self._transports:
                transport.abort()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer an adb server until it is lost."""
        if self._conditions.state == "unplugged":
            writer.transport.abort()
            return
        reverse = Reverse()
        transport = Transport(reader, writer, self._conditions, banner=_BANNER, serve=partial(_serve, reverse))
        self._transports.add(transport)
        try:
            await transport.run()
        finally:
            reverse.close()
            self._transports.discard(transport)


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


async def _live(listener: socket.socket) -> None:
    phone = Phone()
    await asyncio.start_server(phone.connected, sock=listener, limit=2 * MAX_PAYLOAD)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin.buffer)
    print(listener.getsockname()[1], flush=True)  # noqa: T201 - read by whoever started the phone
    while line := await commands.readline():
        phone.change(line)
        print(flush=True)  # noqa: T201
    os._exit(0)  # in the middle of whatever it does; as the first process of its namespace it takes all others along


def main() -> None:
    """Bind the port, become the phone, and live until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    become_phone(Path(sys.argv[1]), storage_bytes=int(sys.argv[2]))
    asyncio.run(_live(listener))


if __name__ == "__main__":
    main()
