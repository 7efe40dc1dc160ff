"""The messages between adb server and device: a header of 24 bytes, then a payload."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass

VERSION = 0x01000001  # from here on, payload checksums are not looked at
MAX_PAYLOAD = 1024 * 1024

_HEADER = struct.Struct("<4s5I")


@dataclass(frozen=True)
class Message:
    """One message; what `arg0` and `arg1` mean depends on the command."""

    command: bytes
    arg0: int
    arg1: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """The bytes of it."""
        magic = int.from_bytes(self.command, "little") ^ 0xFFFFFFFF
        return _HEADER.pack(self.command, self.arg0, self.arg1, len(self.payload), 0, magic) + self.payload


async def read_message(reader: asyncio.StreamReader) -> Message:
    """The next message. Raises IncompleteReadError at the end, ValueError where it is not adb that speaks."""
    command, arg0, arg1, length, _checksum, magic = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    if magic != int.from_bytes(command, "little") ^ 0xFFFFFFFF or length > MAX_PAYLOAD:
        raise ValueError(f"not a message of adb: {command!r}")
    return Message(command, arg0, arg1, await reader.readexactly(length))
