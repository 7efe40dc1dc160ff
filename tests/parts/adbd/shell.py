"""The service `shell`: version 2 with its packets, and the old one that merges outputs and loses the status."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
from collections.abc import Awaitable, Callable, Coroutine

from tests.parts.adbd.transport import Stream, accept

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_PACKET = struct.Struct("<BI")
_CHUNK_BYTES = 64 * 1024
_SHELL = "/system/bin/sh"


async def serve_shell(request: str, stream: Stream, environment: dict[str, str]) -> None:
    """Answer "shell,v2,raw:COMMAND" or "shell:COMMAND". There are no terminals: "pty" is taken for "raw"."""
    kind, _, command = request.partition(":")
    packets = "v2" in kind.split(",")
    await accept(stream)
    process = await _started(
        asyncio.create_subprocess_exec(
            *((_SHELL, "-c", command) if command else (_SHELL,)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if packets else asyncio.subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    )
    assert process.stdin is not None
    assert process.stdout is not None
    feeding = asyncio.create_task(_feed(stream, process, packets=packets))
    try:
        if packets and process.stderr is not None:
            lock = asyncio.Lock()

            async def send(kind: int, data: bytes) -> None:
                async with lock:
                    await stream.write(_PACKET.pack(kind, len(data)) + data)

            await asyncio.gather(_drain(process.stdout, send, _STDOUT), _drain(process.stderr, send, _STDERR))
            status = await process.wait()
            await send(_EXIT, bytes([status if status >= 0 else 0x80 | -status]))
        else:
            await _drain(process.stdout, lambda _kind, data: stream.write(data), _STDOUT)
            await process.wait()
    finally:
        feeding.cancel()
        _hang_up(process)


async def _started(creating: Coroutine[object, object, asyncio.subprocess.Process]) -> asyncio.subprocess.Process:
    """A process; where the client goes away while it starts, it is hung up, not killed as asyncio would."""
    task = asyncio.ensure_future(creating)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        _hang_up(await task)
        raise


async def _drain(output: asyncio.StreamReader, send: Callable[[int, bytes], Awaitable[None]], kind: int) -> None:
    """Send what comes out, until everybody who holds the output has closed it: background jobs too."""
    while data := await output.read(_CHUNK_BYTES):
        await send(kind, data)


async def _feed(stream: Stream, process: asyncio.subprocess.Process, *, packets: bool) -> None:
    """Give the process its input until the stream ends."""
    assert process.stdin is not None
    buffer = bytearray()
    while data := await stream.read():
        if not packets:
            await _give(process.stdin, data)
            continue
        buffer += data
        while len(buffer) >= _PACKET.size:
            kind, length = _PACKET.unpack_from(buffer)
            if len(buffer) < _PACKET.size + length:
                break
            content = bytes(buffer[_PACKET.size : _PACKET.size + length])
            del buffer[: _PACKET.size + length]
            if kind == _STDIN:
                await _give(process.stdin, content)
            elif kind == _CLOSE_STDIN:
                process.stdin.close()
    _hang_up(process)


async def _give(stdin: asyncio.StreamWriter, data: bytes) -> None:
    if stdin.is_closing():
        return  # it reads no further
    with contextlib.suppress(OSError):
        stdin.write(data)
        await stdin.drain()


def _hang_up(process: asyncio.subprocess.Process) -> None:
    """What Android does when its client goes away: the input ends, and the shell, only the shell, gets SIGHUP."""
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGHUP)
