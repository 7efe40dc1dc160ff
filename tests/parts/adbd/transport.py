"""One connection from an adb server: who the phone is, and the streams that share it."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable

from tests.parts.adbd.conditions import Conditions, Throttle
from tests.parts.adbd.protocol import MAX_PAYLOAD, VERSION, Message, read_message

_AUTH_TOKEN, _AUTH_PUBLIC_KEY = 1, 3
_TOKEN_BYTES = 20
_LONG_BYTES, _SPOILT = 2048, 1000  # commands are shorter, files are not


class Stream:
    """One of the streams of a transport: a pipe both ways that ends for both at once.

    Each side sends a message only when the last one was taken, so that a slow reader holds its writer up.
    """

    def __init__(self, transport: Transport, local_id: int) -> None:
        self.transport = transport
        self.local_id = local_id
        self.remote_id = 0
        self.ended = False
        self.opened = asyncio.Event()
        self._taken = asyncio.Event()
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        """What came next; nothing when the stream has ended."""
        if self.ended and self._incoming.empty():
            return b""
        data = await self._incoming.get()
        if data:
            await self._send(b"OKAY")
        return data

    async def write(self, data: bytes) -> None:
        """Send, and wait until it was taken. Raises BrokenPipeError when the stream has ended."""
        for start in range(0, len(data), self.transport.max_payload):
            if self.ended:
                raise BrokenPipeError
            self._taken.clear()
            await self._send(b"WRTE", self.transport.damaged(data[start : start + self.transport.max_payload]))
            await self._taken.wait()

    async def close(self) -> None:
        """End the stream for both."""
        if not self.ended:
            await self._send(b"CLSE")
            self.end()

    def end(self) -> None:
        """The other side has ended it: wakes whoever waits."""
        self.ended = True
        self.opened.set()
        self._taken.set()
        self._incoming.put_nowait(b"")
        self.transport.streams.pop(self.local_id, None)

    def take(self, data: bytes) -> None:
        """The transport has something for the stream."""
        self._incoming.put_nowait(data)

    def taken(self, remote_id: int) -> None:
        """The other side has taken what was sent, or has accepted the stream."""
        self.remote_id = remote_id
        self.opened.set()
        self._taken.set()

    async def _send(self, command: bytes, payload: bytes = b"") -> None:
        if not self.ended:
            await self.transport.send(Message(command, self.local_id, self.remote_id, payload))


Service = Callable[[str, Stream], Awaitable[None]]


class Transport:
    """One connection from an adb server.

    Args:
        serve: what answers a request ("shell,v2:ls") on a stream; it ends when the stream may be closed.
        banner: who the phone is.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        conditions: Conditions,
        *,
        banner: bytes,
        serve: Service,
    ) -> None:
        self.streams: dict[int, Stream] = {}
        self.max_payload = MAX_PAYLOAD
        self._reader, self._writer = reader, writer
        self._conditions = conditions
        self._banner = banner
        self._serve = serve
        self._ids = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._throttle = Throttle()

    async def run(self) -> None:
        """Answer until the connection is lost."""
        try:
            while True:
                message = await read_message(self._reader)
                await self._throttle.pass_bytes(len(message.payload), self._conditions.bytes_per_second)
                self._count(len(message.payload))
                await self._handle(message)
        except (OSError, EOFError, ValueError):
            pass  # lost, or cut off on request
        finally:
            self.abort()
            for stream in list(self.streams.values()):
                stream.end()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def abort(self) -> None:
        """Lose the connection at once."""
        self._writer.transport.abort()

    async def open(self, destination: str) -> Stream | None:
        """Open a stream to a place that the adb server reaches ("tcp:8000"); None where it cannot.

        It may have said something and have ended already.
        """
        stream = self._new_stream()
        await self.send(Message(b"OPEN", stream.local_id, 0, destination.encode() + b"\0"))
        await stream.opened.wait()
        return stream if stream.remote_id else None

    async def send(self, message: Message) -> None:
        """Send a message; its payload counts against the phone's bandwidth."""
        await self._throttle.pass_bytes(len(message.payload), self._conditions.bytes_per_second)
        self._writer.write(message.encode())
        await self._writer.drain()

    def damaged(self, payload: bytes) -> bytes:
        """What becomes of a payload on the way."""
        if not self._conditions.damaging or len(payload) < _LONG_BYTES:
            return payload
        self._conditions.damaging = False
        return payload[:_SPOILT] + bytes([payload[_SPOILT] ^ 1]) + payload[_SPOILT + 1 :]

    def _count(self, received: int) -> None:
        now = self._conditions
        if now.change_after_bytes is not None:
            now.change_after_bytes -= received
            if now.change_after_bytes <= 0:
                now.change_after_bytes, now.state = None, now.then
                if now.state == "unplugged":
                    raise BrokenPipeError

    async def _handle(self, message: Message) -> None:
        state = self._conditions.state
        if message.command in (b"CNXN", b"AUTH"):
            await self._introduce(message, state)
        elif state == "silent":
            return
        elif message.command == b"OPEN":
            await self._open(message)
        elif stream := self.streams.get(message.arg1):
            if message.command == b"OKAY":
                stream.taken(message.arg0)
            elif message.command == b"WRTE":
                stream.take(self.damaged(message.payload))
            elif message.command == b"CLSE":
                stream.end()

    async def _introduce(self, message: Message, state: str) -> None:
        if state == "offline":
            return
        if state == "unauthorized":  # every signature is refused; whether the public key is accepted, a person decides
            if not (message.command == b"AUTH" and message.arg0 == _AUTH_PUBLIC_KEY):
                await self.send(Message(b"AUTH", _AUTH_TOKEN, 0, os.urandom(_TOKEN_BYTES)))
            return
        if message.command == b"CNXN":
            self.max_payload = min(MAX_PAYLOAD, message.arg1)
        await self.send(Message(b"CNXN", VERSION, MAX_PAYLOAD, self._banner))

    async def _open(self, message: Message) -> None:
        stream = self._new_stream()
        stream.remote_id = message.arg0
        task = asyncio.create_task(self._answer(message.payload.rstrip(b"\0").decode(errors="surrogateescape"), stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: str, stream: Stream) -> None:
        try:
            await self._serve(request, stream)
        except BrokenPipeError:
            pass  # the other side has closed the stream
        finally:
            await stream.close()

    def _new_stream(self) -> Stream:
        stream = Stream(self, next(self._ids))
        self.streams[stream.local_id] = stream
        return stream


async def accept(stream: Stream) -> None:
    """Tell the other side that its request is being answered."""
    await stream.transport.send(Message(b"OKAY", stream.local_id, stream.remote_id))
