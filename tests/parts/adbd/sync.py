"""The service `sync:` (version 1): STAT, LIST, SEND and RECV."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

from tests.parts.adbd.transport import Stream, accept

_WORD = struct.Struct("<I")
_DATA_BYTES = 64 * 1024
_LONGEST_PATH = 1024


class _EndedError(Exception):
    """The client has closed the stream."""


class _Input:
    """The bytes of a stream, in the pieces that are asked for."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            data = await self._stream.read()
            if not data:
                raise _EndedError
            self._buffer += data
        content = bytes(self._buffer[:count])
        del self._buffer[:count]
        return content

    async def read_word(self) -> int:
        return int(_WORD.unpack(await self.read(_WORD.size))[0])


async def serve_sync(stream: Stream) -> None:
    """Answer one request after another until QUIT or the end of the stream."""
    await accept(stream)
    source = _Input(stream)
    try:
        while (kind := await source.read(4)) != b"QUIT":
            length = await source.read_word()
            if length > _LONGEST_PATH:
                await _fail(stream, "path too long")
                return
            path = os.fsdecode(await source.read(length))
            if kind == b"STAT":
                await _stat(stream, path)
            elif kind == b"LIST":
                await _list(stream, path)
            elif kind == b"SEND":
                await _receive(stream, source, path)
            elif kind == b"RECV":
                await _send(stream, path)
            else:
                await _fail(stream, f"unknown command {kind.hex()}")
                return
    except _EndedError:
        pass


async def _fail(stream: Stream, reason: str) -> None:
    await stream.write(b"FAIL" + _WORD.pack(len(reason.encode())) + reason.encode())


def _words(found: os.stat_result) -> bytes:
    return struct.pack("<III", found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime) & 0xFFFFFFFF)


async def _stat(stream: Stream, path: str) -> None:
    """Of a link itself, as version 1 has it; what is not there has only zeros."""
    try:
        await stream.write(b"STAT" + _words(os.lstat(path)))
    except OSError:
        await stream.write(b"STAT" + bytes(12))


async def _list(stream: Stream, path: str) -> None:
    try:
        names = [".", "..", *os.listdir(path)]  # noqa: PTH208 - names, as they are
    except OSError:
        names = []
    for name in names:
        encoded = os.fsencode(name)
        await stream.write(b"DENT" + _words(os.lstat(f"{path}/{name}")) + _WORD.pack(len(encoded)) + encoded)
    await stream.write(b"DONE" + bytes(16))


async def _receive(stream: Stream, source: _Input, request: str) -> None:
    """Take a file in; after a failure the rest is read and thrown away, since the client sends on."""
    path, _, mode = request.rpartition(",")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("wb", buffering=0) as file:
            os.fchmod(file.fileno(), _spread(int(mode)))
            failure = await _write(source, file.fileno())
        if failure:
            Path(path).unlink()
    except OSError as exc:
        failure = f"couldn't create file: {exc.strerror}"
        while await _next_data(source) is not None:
            pass
    await (_fail(stream, failure) if failure else stream.write(b"OKAY" + bytes(4)))


async def _write(source: _Input, descriptor: int) -> str:
    """Write what comes; returns why that failed, or nothing."""
    failure = ""
    while (data := await _next_data(source)) is not None:
        try:
            if not failure:
                _write_all(descriptor, data)
        except OSError as exc:
            failure = f"write failed: {exc.strerror}"
    return failure


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


async def _next_data(source: _Input) -> bytes | None:
    kind, length = await source.read(4), await source.read_word()
    if kind == b"DONE":  # its length is the file's time
        return None
    if kind != b"DATA" or length > _DATA_BYTES:
        raise _EndedError
    return await source.read(length)


def _spread(mode: int) -> int:
    """Android gives group and others what the owner has."""
    owner = mode >> 6 & 0o7
    return owner << 6 | owner << 3 | owner


async def _send(stream: Stream, path: str) -> None:
    try:
        with Path(path).open("rb") as file:
            if stat.S_ISDIR(os.fstat(file.fileno()).st_mode):
                raise IsADirectoryError(21, "Is a directory")
            while data := file.read(_DATA_BYTES):
                await stream.write(b"DATA" + _WORD.pack(len(data)) + data)
    except BrokenPipeError:
        raise
    except OSError as exc:
        await _fail(stream, f"open failed: {exc.strerror}")
        return
    await stream.write(b"DONE" + bytes(4))
