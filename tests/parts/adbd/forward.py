"""The services `tcp:` (into the phone) and `reverse:` (out of it)."""

from __future__ import annotations

import asyncio

from tests.parts.adbd.transport import Stream, Transport, accept

_CHUNK_BYTES = 256 * 1024


async def serve_tcp(port: int, stream: Stream) -> None:
    """Connect the stream to a port of the phone."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return  # closed without having been accepted: that is the answer
    await accept(stream)
    await _join(stream, reader, writer)


class Reverse:
    """The phone's listening ports whose connections leave through the adb server; they go with the transport."""

    def __init__(self) -> None:
        self._listeners: dict[int, tuple[asyncio.Server, str]] = {}
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, request: str, stream: Stream) -> None:
        """Answer "forward:[norebind:]tcp:REMOTE;LOCAL", "killforward:tcp:REMOTE", "killforward-all", "list-forward"."""
        await accept(stream)
        verb, _, what = request.partition(":")
        try:
            await stream.write(await self._answer(verb, what, stream.transport))
        except (OSError, ValueError, KeyError) as exc:
            reason = f"cannot do {request}: {exc}".encode()
            await stream.write(b"FAIL" + _block(reason))

    def close(self) -> None:
        """Stop listening."""
        for listener, _ in self._listeners.values():
            listener.close()
        self._listeners.clear()
        for connection in self._connections:
            connection.cancel()

    async def _answer(self, verb: str, what: str, transport: Transport) -> bytes:
        if verb == "forward":
            return b"OKAY" + await self._forward(what, transport)
        if verb == "list-forward":  # no OKAY of its own
            lines = [f"phone tcp:{port} {local}\n" for port, (_, local) in self._listeners.items()]
            return _block("".join(lines).encode())
        if verb == "killforward":
            self._listeners.pop(int(what.removeprefix("tcp:")))[0].close()
        elif verb == "killforward-all":
            self.close()
        else:
            raise ValueError("unknown verb")
        return b"OKAY"

    async def _forward(self, what: str, transport: Transport) -> bytes:
        """Where the phone chose the port, it says which one."""
        remote, local = what.removeprefix("norebind:").split(";")
        wanted = int(remote.removeprefix("tcp:"))
        if wanted in self._listeners:
            if what.startswith("norebind:"):
                raise ValueError("cannot rebind")
            self._listeners.pop(wanted)[0].close()
        listener = await asyncio.start_server(lambda r, w: self._connected(r, w, local, transport), "127.0.0.1", wanted)
        port = listener.sockets[0].getsockname()[1]
        self._listeners[port] = listener, local
        return b"" if wanted else _block(str(port).encode())

    def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, local: str, transport: Transport
    ) -> None:
        task = asyncio.create_task(_carry(reader, writer, local, transport))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, local: str, transport: Transport) -> None:
    stream = await transport.open(local)
    if stream is None:
        writer.transport.abort()
        return
    try:
        await _join(stream, reader, writer)
    finally:
        await stream.close()


def _block(content: bytes) -> bytes:
    return f"{len(content):04x}".encode() + content


async def _join(stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes both ways until either side ends: adb knows no half-closed connections."""
    tasks = [asyncio.create_task(_to_socket(stream, writer)), asyncio.create_task(_to_stream(reader, stream))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if stream.ended:
            await tasks[0]  # what came before the end
        await writer.drain()
    except OSError:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()


async def _to_socket(stream: Stream, writer: asyncio.StreamWriter) -> None:
    while data := await stream.read():
        writer.write(data)
        await writer.drain()


async def _to_stream(reader: asyncio.StreamReader, stream: Stream) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        await stream.write(data)
