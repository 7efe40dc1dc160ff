"""The wire format: how activations travel, and how they lie on disk.

A frame is `u64 payload length | u32 crc32c(payload) | payload`, all little-endian. The payload is canonical
safetensors: compact JSON with `__metadata__` first, its keys sorted, then the tensors sorted by name; padded with
spaces to a multiple of 8; then the tensors' data in the same order. There is exactly one payload for a given content,
so that the bytes that came over the wire are the file on disk. `native/src/frame.*` is the other side; tests hold the
two together byte for byte.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import google_crc32c
import numpy as np
import numpy.typing as npt
import safetensors

from device_runner.errors import FrameError

HEADER_BYTES = 12
"""Bytes of a frame in front of its payload: length and checksum."""

MAX_JSON_BYTES = 65536
"""The longest JSON header that a payload may have; ours take a few hundred bytes."""

_PREFIX = struct.Struct("<QI")
_JSON_LENGTH = struct.Struct("<Q")
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I8": np.dtype("i1"), "U8": np.dtype("u1")}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True, eq=False)
class Frame:
    """Text and tensors that travel together.

    Attributes:
        metadata: text by key; `kind` tells messages apart.
        tensors: arrays of float32, int8 or uint8 by name; none is empty. After reading they are read-only.
    """

    metadata: Mapping[str, str]
    tensors: Mapping[str, npt.NDArray[Any]]


class ConnectionEndedError(FrameError):
    """The peer closed the connection between two frames."""


def encode_payload(frame: Frame) -> bytes:
    """Return the one payload that holds this content.

    Raises:
        FrameError: a tensor of another type, an empty one, or text that UTF-8 or the header cannot hold.
    """
    tensors = {name: _wire_array(name, frame.tensors[name]) for name in sorted(frame.tensors)}
    shapes = {name: (_NAMES[tensor.dtype], list(tensor.shape)) for name, tensor in tensors.items()}
    header = _canonical_header(frame.metadata, shapes)
    return b"".join([header, *(tensor.data for tensor in tensors.values())])


def decode_payload(payload: bytes) -> Frame:
    """Return the content of a payload; the arrays are read-only copies.

    Raises:
        FrameError: anything but what `encode_payload` gives for some content.
    """
    try:
        metadata, shapes = _read_header(payload)
        canonical = _canonical_header(metadata, shapes)
        if not payload.startswith(canonical):
            raise FrameError("the payload's header is not canonical", remedy="use one version on both sides")
        loaded = safetensors.deserialize(payload)  # type: ignore[no-untyped-call]
        tensors = {name: _read_only_array(*shapes[name], tensor["data"]) for name, tensor in loaded}
    except (ValueError, RecursionError, safetensors.SafetensorError) as exc:
        raise FrameError(
            f"the payload is no safetensors of ours: {exc}", remedy="use one version on both sides"
        ) from exc
    return Frame(metadata, tensors)


def write_frame(sock: socket.socket, frame: Frame) -> int:
    """Send a frame and return the bytes that travelled, prefix included.

    Raises:
        FrameError: as `encode_payload`.
        OSError: the connection failed, or did not take the bytes within the socket's timeout.
    """
    payload = encode_payload(frame)
    prefix = _PREFIX.pack(len(payload), google_crc32c.value(payload))
    sent = sock.sendmsg([prefix, payload])
    if sent < HEADER_BYTES:
        sock.sendall(prefix[sent:])
    sock.sendall(memoryview(payload)[max(sent - HEADER_BYTES, 0) :])
    return HEADER_BYTES + len(payload)


def read_payload(sock: socket.socket, *, max_payload_bytes: int) -> bytes:
    """Read the next frame's payload, its length and checksum checked, its content not yet.

    Args:
        max_payload_bytes: a frame that claims more is refused before anything is allocated for it.

    Raises:
        ConnectionEndedError: the connection ended where a frame could have begun.
        FrameError: too long, cut short, or a wrong checksum.
        OSError: the connection failed, or the socket's timeout passed without a byte.
    """
    prefix = _read_exactly(sock, HEADER_BYTES)
    length, crc = _PREFIX.unpack(prefix)
    if length > max_payload_bytes:
        message = f"a frame claims {length} bytes, {max_payload_bytes} are allowed"
        raise FrameError(message, remedy="check that the sender runs the same plan")
    payload = _read_exactly(sock, length, begun=True)
    if google_crc32c.value(payload) != crc:
        raise FrameError("a frame's checksum does not match its content", remedy="check the link and run again")
    return payload


def read_frame(sock: socket.socket, *, max_payload_bytes: int) -> tuple[Frame, bytes]:
    """Read the next frame, and its payload as it is to be stored.

    Raises:
        ConnectionEndedError, FrameError, OSError: as `read_payload` and `decode_payload`.
    """
    payload = read_payload(sock, max_payload_bytes=max_payload_bytes)
    return decode_payload(payload), payload


def _read_exactly(sock: socket.socket, size: int, *, begun: bool = False) -> bytes:
    buffer = bytearray(size)
    view = memoryview(buffer)
    filled = 0
    while filled < size:
        got = sock.recv_into(view[filled:])
        if got == 0:
            remedy = "see the sender's own message"
            if filled == 0 and not begun:
                raise ConnectionEndedError("the sender closed the connection", remedy=remedy)
            raise FrameError(f"the connection ended after {filled} of {size} bytes of a frame", remedy=remedy)
        filled += got
    return bytes(buffer)


def _wire_array(name: str, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
    dtype = tensor.dtype.newbyteorder("<")
    if dtype not in _NAMES:
        raise FrameError(f"tensor '{name}' is {tensor.dtype}", remedy=f"send one of {', '.join(map(str, _NAMES))}")
    if tensor.size == 0:
        raise FrameError(f"tensor '{name}' is empty", remedy="leave it out")
    return np.asarray(tensor, dtype=dtype, order="C")


def _canonical_header(metadata: Mapping[str, str], shapes: Mapping[str, tuple[str, list[int]]]) -> bytes:
    header: dict[str, object] = {"__metadata__": {key: metadata[key] for key in sorted(metadata)}}
    offset = 0
    for name in sorted(shapes):
        dtype, shape = shapes[name]
        end = offset + math.prod(shape) * _DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"))
    try:
        encoded = text.encode()
    except UnicodeEncodeError as exc:
        raise FrameError(f"text that is no Unicode: {exc.reason}", remedy="send valid text") from exc
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > MAX_JSON_BYTES or "__metadata__" in shapes:
        raise FrameError("text and names do not fit the header", remedy=f"keep them under {MAX_JSON_BYTES} bytes")
    return _JSON_LENGTH.pack(len(encoded)) + encoded


def _read_header(payload: bytes) -> tuple[dict[str, str], dict[str, tuple[str, list[int]]]]:
    """Metadata, and type and shape by tensor name. Raises ValueError where the header holds anything else."""
    if len(payload) < _JSON_LENGTH.size:
        raise ValueError("too short for a header")
    (length,) = _JSON_LENGTH.unpack_from(payload)
    if length > min(MAX_JSON_BYTES, len(payload) - _JSON_LENGTH.size):
        raise ValueError(f"claims a header of {length} bytes")
    header = json.loads(payload[_JSON_LENGTH.size : _JSON_LENGTH.size + length].decode())
    if not isinstance(header, dict):
        raise ValueError("the header is no object")
    metadata = header.pop("__metadata__", None)
    if not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        raise ValueError("the metadata is not text")
    return metadata, {name: _read_entry(name, entry) for name, entry in header.items()}


def _read_entry(name: str, entry: object) -> tuple[str, list[int]]:
    if not isinstance(entry, dict):
        raise ValueError(f"tensor '{name}' is not described")
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"tensor '{name}' is of an unknown type")
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"tensor '{name}' has no shape")
    return dtype, cast("list[int]", shape)


def _read_only_array(dtype: str, shape: list[int], data: bytearray) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.frombuffer(data, dtype=_DTYPES[dtype]).reshape(shape)
    array.flags.writeable = False
    return array
