"""The wire format: one payload for one content, the same on both sides, and nothing else gets through."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from device_runner.errors import FrameError, RunnerCode
from device_runner.frames import (
    HEADER_BYTES,
    ConnectionEndedError,
    Frame,
    decode_payload,
    encode_payload,
    read_frame,
    write_frame,
)

Tensors = dict[str, npt.NDArray[Any]]

ACTIVATION = Frame(
    {"kind": "activation", "picture": "3"},
    {"activation": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)},
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
tensors = st.sampled_from([np.float32, np.int8, np.uint8]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=5, max_side=4))
)
frames = st.builds(
    Frame,
    st.dictionaries(texts, texts, max_size=4),
    st.dictionaries(texts.filter(lambda name: name != "__metadata__"), tensors, max_size=4),
)


def framed(payload: bytes) -> bytes:
    return struct.pack("<QI", len(payload), google_crc32c.value(payload)) + payload


def payload_of(header: object, data: bytes = b"") -> bytes:
    """Make a payload with any header, canonical or not."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def assert_equal(one: Frame, other: Frame) -> None:
    assert dict(one.metadata) == dict(other.metadata)
    assert set(one.tensors) == set(other.tensors)
    for name, tensor in one.tensors.items():
        assert other.tensors[name].dtype == tensor.dtype
        assert other.tensors[name].shape == tensor.shape
        assert other.tensors[name].tobytes() == tensor.tobytes()


def entry(dtype: str, shape: list[object], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


MALFORMED = {
    "nothing": b"",
    "seven bytes": b"\0" * 7,
    "a header of 2^60 bytes": struct.pack("<Q", 2**60) + b"{}",
    "a header one byte too long": struct.pack("<Q", 9) + b"{}      ",
    "no JSON": payload_of(b"{"),
    "a list": payload_of([]),
    "a number of five thousand digits": payload_of(b'{"__metadata__":{},"a":' + b"9" * 5000 + b"}"),
    "deep nesting": payload_of(b"[" * 60000),
    "no UTF-8": payload_of(b'{"__metadata__":{"a":"\xff"}}'),
    "an overlong zero": payload_of(b'{"__metadata__":{"a":"\xc0\x80"}}'),
    "a surrogate": payload_of(b'{"__metadata__":{"a":"\xed\xa0\x80"}}'),
    "an escaped surrogate": payload_of(b'{"__metadata__":{"a":"\\ud800"}}'),
    "a control character": payload_of(b'{"__metadata__":{"a":"\n"}}'),
    "a needless escape": payload_of(b'{"__metadata__":{"a":"\\u0041"}}'),
    "no metadata": payload_of({}),
    "metadata that is no text": payload_of({"__metadata__": {"a": 1}}),
    "metadata out of order": payload_of({"__metadata__": {"b": "", "a": ""}}),
    "a key twice": payload_of(b'{"__metadata__":{"a":"","a":""}}'),
    "metadata twice": payload_of(b'{"__metadata__":{},"__metadata__":{}}'),
    "spaces": payload_of(b'{"__metadata__": {}}'),
    "an unpadded header": struct.pack("<Q", 19) + b'{"__metadata__":{}}',
    "too much padding": payload_of(b'{"__metadata__":{}}' + b" " * 12),
    "an unknown type": payload_of({"__metadata__": {}, "a": entry("F64", [1], 0, 8)}, b"\0" * 8),
    "an empty tensor": payload_of({"__metadata__": {}, "a": entry("U8", [0], 0, 0)}),
    "a negative size": payload_of({"__metadata__": {}, "a": entry("U8", [-1], 0, 0)}),
    "a size that is true": payload_of({"__metadata__": {}, "a": entry("U8", [True], 0, 1)}, b"\0"),
    "a size with a point": payload_of({"__metadata__": {}, "a": entry("U8", [1.0], 0, 1)}, b"\0"),
    "a shape that overflows": payload_of({"__metadata__": {}, "a": entry("F32", [2**32, 2**31], 0, 0)}),
    "a shape of 2^64": payload_of({"__metadata__": {}, "a": entry("U8", [2**64], 0, 2**64)}),
    "too few bytes": payload_of({"__metadata__": {}, "a": entry("U8", [2], 0, 2)}, b"\0"),
    "too many bytes": payload_of({"__metadata__": {}, "a": entry("U8", [2], 0, 2)}, b"\0\0\0"),
    "a shape smaller than its data": payload_of({"__metadata__": {}, "a": entry("U8", [1], 0, 2)}, b"\0\0"),
    "a hole": payload_of({"__metadata__": {}, "a": entry("U8", [1], 1, 2)}, b"\0\0"),
    "an overlap": payload_of({"__metadata__": {}, "a": entry("U8", [2], 0, 2), "b": entry("U8", [1], 1, 2)}, b"\0\0"),
    "tensors out of order": payload_of(
        {"__metadata__": {}, "b": entry("U8", [1], 0, 1), "a": entry("U8", [1], 1, 2)}, b"\0\0"
    ),
    "another key": payload_of({"__metadata__": {}, "a": {**entry("U8", [1], 0, 1), "x": 1}}, b"\0"),
    "no offsets": payload_of({"__metadata__": {}, "a": {"dtype": "U8", "shape": [1]}}, b"\0"),
    "a tensor that is a number": payload_of({"__metadata__": {}, "a": 1}),
    "a header of over 64 KiB": payload_of({"__metadata__": {"a": "x" * 66000}}),
}


class NativeSide:
    """frame_tool as a server: a frame goes in, its code and the frame made from its content come out."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def recode(self, frame: bytes) -> tuple[RunnerCode, bytes]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(struct.pack("<I", len(frame)) + frame)
        self._process.stdin.flush()
        head = self._process.stdout.read(5)
        assert len(head) == 5, "frame_tool died: see its report on standard error"
        code, length = struct.unpack("<BI", head)
        return RunnerCode(code), self._process.stdout.read(length)

    def close(self) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait()


@pytest.fixture(scope="module")
def native(frame_tool: Path) -> Iterator[NativeSide]:
    side = NativeSide(frame_tool)
    yield side
    assert side.close() == 0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(30)
        there.settimeout(30)
        yield here, there


# Python alone


@given(frames)
def test_content_survives_encoding(frame: Frame) -> None:
    assert_equal(decode_payload(encode_payload(frame)), frame)


def test_the_payload_is_safetensors_that_others_read() -> None:
    loaded = safetensors.numpy.load(encode_payload(ACTIVATION))
    np.testing.assert_array_equal(loaded["activation"], ACTIVATION.tensors["activation"])


def test_the_payload_is_canonical() -> None:
    frame = Frame({"b": 'é"\n', "a": "\x01"}, {"y": np.array([1, 2], np.uint8), "x": np.array([[-1]], np.int8)})
    header = (
        '{"__metadata__":{"a":"\\u0001","b":"é\\"\\n"},'
        '"x":{"dtype":"I8","shape":[1,1],"data_offsets":[0,1]},"y":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}'
    )
    assert encode_payload(frame) == payload_of(header.encode(), b"\xff\x01\x02")


def test_strides_and_byte_order_do_not_travel() -> None:
    tensor = np.arange(6, dtype=np.float32).reshape(2, 3)
    for same in (np.asfortranarray(tensor), tensor.astype(">f4"), np.stack([tensor, tensor], axis=-1)[..., 0]):
        assert encode_payload(Frame({}, {"a": same})) == encode_payload(Frame({}, {"a": tensor}))


def test_decoded_tensors_are_read_only() -> None:
    tensor = decode_payload(encode_payload(ACTIVATION)).tensors["activation"]
    with pytest.raises(ValueError, match="read-only"):
        tensor[...] = 0


@pytest.mark.parametrize(
    "frame",
    [
        Frame({}, {"a": np.zeros(2, np.float64)}),
        Frame({}, {"a": np.zeros((2, 0), np.float32)}),
        Frame({}, {"__metadata__": np.zeros(1, np.uint8)}),
        Frame({"a": "\ud800"}, {}),
        Frame({"a": "x" * 70000}, {}),
    ],
    ids=["float64", "empty", "reserved name", "surrogate", "long text"],
)
def test_what_cannot_travel_is_a_frame_error(frame: Frame) -> None:
    with pytest.raises(FrameError):
        encode_payload(frame)


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_payload_is_a_frame_error(name: str) -> None:
    with pytest.raises(FrameError):
        decode_payload(MALFORMED[name])


# sockets


def test_a_frame_arrives_with_the_bytes_that_were_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    sent = write_frame(here, ACTIVATION)
    frame, payload = read_frame(there, max_payload_bytes=4096)
    assert_equal(frame, ACTIVATION)
    assert payload == encode_payload(ACTIVATION)
    assert sent == HEADER_BYTES + len(payload)


def test_a_frame_larger_than_the_socket_buffers_arrives(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    large = Frame({}, {"a": np.random.default_rng(0).random((4, 1024, 1024), dtype=np.float32)})
    writer = threading.Thread(target=write_frame, args=(here, large))
    writer.start()
    frame, _ = read_frame(there, max_payload_bytes=2**25)
    writer.join()
    assert_equal(frame, large)


def test_a_frame_of_2_to_the_60_bytes_is_refused_unread(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    here.sendall(struct.pack("<QI", 2**60, 0))
    with pytest.raises(FrameError, match=str(2**60)):
        read_frame(there, max_payload_bytes=4096)


def test_the_largest_frame_allowed_is_exact(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    length = len(encode_payload(ACTIVATION))
    write_frame(here, ACTIVATION)
    read_frame(there, max_payload_bytes=length)
    write_frame(here, ACTIVATION)
    with pytest.raises(FrameError, match="are allowed"):
        read_frame(there, max_payload_bytes=length - 1)


@pytest.mark.parametrize("bit", range(8, 12 * 8 + 8 * 40, 37))
def test_a_flipped_bit_is_found(pair: tuple[socket.socket, socket.socket], bit: int) -> None:
    here, there = pair
    damaged = bytearray(framed(encode_payload(ACTIVATION)))
    damaged[bit // 8] ^= 1 << bit % 8
    here.sendall(damaged)
    here.shutdown(socket.SHUT_WR)
    with pytest.raises(FrameError):
        read_frame(there, max_payload_bytes=4096)


@pytest.mark.parametrize("length", [1, 11, 12, 40])
def test_a_short_read_is_a_frame_error(pair: tuple[socket.socket, socket.socket], length: int) -> None:
    here, there = pair
    here.sendall(framed(encode_payload(ACTIVATION))[:length])
    here.shutdown(socket.SHUT_WR)
    with pytest.raises(FrameError, match="ended after"):
        read_frame(there, max_payload_bytes=4096)


def test_an_end_between_frames_is_told_apart(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    here.close()
    with pytest.raises(ConnectionEndedError):
        read_frame(there, max_payload_bytes=4096)


# Python and C++


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(frame=frames)
def test_both_sides_write_the_same_bytes(native: NativeSide, frame: Frame) -> None:
    sent = framed(encode_payload(frame))
    assert native.recode(sent) == (RunnerCode.OK, sent)


@pytest.mark.parametrize("name", MALFORMED)
def test_native_side_refuses_a_malformed_payload(native: NativeSide, name: str) -> None:
    code, message = native.recode(framed(MALFORMED[name]))
    assert code == RunnerCode.FRAME_DAMAGED
    assert message.startswith(b"head_runner: ")


@st.composite
def damaged_payloads(draw: st.DrawFn) -> bytes:
    """Payloads near to a valid one, where mistakes hide: a few bytes changed, some cut or put in."""
    payload = bytearray(encode_payload(draw(frames)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(payload)))
        cut = draw(st.integers(0, 3))
        payload[place : place + cut] = draw(st.binary(max_size=3) | st.sampled_from([b'"', b"9", b",", b"}", b" "]))
    return bytes(payload)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(payload=damaged_payloads() | st.binary(max_size=64))
@example(payload=encode_payload(ACTIVATION))
def test_both_sides_accept_the_same_payloads(native: NativeSide, payload: bytes) -> None:
    code, recoded = native.recode(framed(payload))
    try:
        decode_payload(payload)
    except FrameError:
        assert code == RunnerCode.FRAME_DAMAGED
    else:
        assert (code, recoded) == (RunnerCode.OK, framed(payload))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(frame=st.binary(max_size=200))
def test_native_side_survives_garbage(native: NativeSide, frame: bytes) -> None:
    assert native.recode(frame)[0] == RunnerCode.FRAME_DAMAGED


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1000, 65537])
def test_checksums_agree(frame_tool: Path, tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    (tmp_path / "content").write_bytes(content)
    completed = subprocess.run([frame_tool, "checksum", tmp_path / "content"], capture_output=True, check=True)
    assert [int(text) for text in completed.stdout.split()] == [google_crc32c.value(content)] * 2


def native_run(frame_tool: Path, *arguments: object) -> tuple[RunnerCode, bytes]:
    completed = subprocess.run([frame_tool, *map(str, arguments)], capture_output=True, timeout=60, check=False)
    assert completed.stderr.count(b"\n") == (completed.returncode != 0)
    return RunnerCode(completed.returncode), completed.stdout


@pytest.mark.parametrize("name", ["missing", "empty", "truncated", "header of 2^60 bytes", "sparse", "folder"])
def test_native_side_names_a_file_it_cannot_read(frame_tool: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "file"
    if name == "folder":
        path.mkdir()
    elif name != "missing":
        content = {
            "empty": b"",
            "truncated": encode_payload(ACTIVATION)[:-1],
            "header of 2^60 bytes": MALFORMED["a header of 2^60 bytes"],
            "sparse": b"",
        }
        path.write_bytes(content[name])
    if name == "sparse":
        os.truncate(path, 2**43)
    assert native_run(frame_tool, "tensors", path) == (RunnerCode.FILE_UNREADABLE, b"")


def test_native_side_reads_files_that_others_write(frame_tool: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    written: Tensors = {"picture": np.zeros((3, 2, 2), np.uint8), "activation": np.zeros((1, 2), np.float32)}
    safetensors.numpy.save_file(written, path, {"what": 'a "text" \u20ac \U0001f600'})
    assert native_run(frame_tool, "tensors", path) == (RunnerCode.OK, b"picture U8 [3,2,2]\nactivation F32 [1,2]\n")


ANSWER = Frame({"kind": "answer", "decode_ns": "1500"}, {"answer": np.zeros((1, 5), np.float32)})


def told_decode(frame_tool: Path, path: Path, answer: Frame, most_ns: int) -> tuple[RunnerCode, bytes]:
    path.write_bytes(framed(encode_payload(answer)))
    return native_run(frame_tool, "answer", path, most_ns)


@pytest.mark.parametrize("decode_ns", ["0", "1500", "0001500"])
def test_native_side_reads_how_long_decoding_took(frame_tool: Path, tmp_path: Path, decode_ns: str) -> None:
    answer = Frame({**ANSWER.metadata, "decode_ns": decode_ns}, ANSWER.tensors)
    assert told_decode(frame_tool, tmp_path / "answer", answer, 1500) == (RunnerCode.OK, b"%d" % int(decode_ns))


@pytest.mark.parametrize(
    "answer",
    [
        Frame({"kind": "answer"}, ANSWER.tensors),
        *(
            Frame({"kind": "answer", "decode_ns": told}, ANSWER.tensors)
            for told in ("", "-1", "+1", " 1", "1.0", "1e3", "0x1", "nan", "1\0", "٣", "1" * 19, "9" * 60_000, "1501")
        ),
        Frame(ANSWER.metadata, {}),
        Frame(ANSWER.metadata, {"answer": np.zeros((1, 5), np.uint8)}),
    ],
    ids=lambda answer: str(answer.metadata.get("decode_ns"))[:20],
)
def test_native_side_refuses_an_answer_that_tells_no_time_that_can_be(
    frame_tool: Path, tmp_path: Path, answer: Frame
) -> None:
    assert told_decode(frame_tool, tmp_path / "answer", answer, 1500) == (RunnerCode.FRAME_DAMAGED, b"")


# the native side as a client

Receiver = Callable[[Callable[[socket.socket], object]], AbstractContextManager[str]]


def test_native_side_refuses_a_huge_frame_unread(frame_tool: Path, receiver: Receiver) -> None:
    with receiver(lambda client: client.sendall(struct.pack("<QI", 2**60, 0))) as address:
        assert native_run(frame_tool, "receive", address, 4096, 30000)[0] == RunnerCode.FRAME_DAMAGED


def test_native_side_does_not_wait_forever(frame_tool: Path, receiver: Receiver) -> None:
    with receiver(lambda client: client.recv(1)) as address:
        assert native_run(frame_tool, "receive", address, 4096, 200)[0] == RunnerCode.RECEIVER_UNREACHABLE


def test_native_side_reads_a_frame_that_comes_byte_by_byte(frame_tool: Path, receiver: Receiver) -> None:
    def trickle(client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in framed(encode_payload(Frame({"kind": "welcome"}, {}))):
            client.sendall(bytes([byte]))

    with receiver(trickle) as address:
        assert native_run(frame_tool, "receive", address, 4096, 30000) == (RunnerCode.OK, b"welcome")


@pytest.mark.parametrize("shape", [(), (1e9, 0), (2e6, 3_000_000)], ids=["as it is", "fast", "2 MB/s, 3 ms"])
def test_native_side_sends_the_same_bytes_over_any_link(
    frame_tool: Path, tmp_path: Path, receiver: Receiver, shape: tuple[float, ...]
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (1, 3, 100, 101), dtype=np.uint8)
    sent = encode_payload(Frame({}, {"activation": values, "picture": values[0]}))
    (tmp_path / "file").write_bytes(sent)
    arrived: list[bytes] = []
    with receiver(lambda client: arrived.append(read_frame(client, max_payload_bytes=2**20)[1])) as address:
        code, output = native_run(frame_tool, "send", address, tmp_path / "file", *shape)
    assert (code, int(output)) == (RunnerCode.OK, HEADER_BYTES + len(sent))
    assert arrived == [sent]


def test_no_byte_is_ahead_of_its_link(frame_tool: Path, tmp_path: Path, receiver: Receiver) -> None:
    """A promise, not a timing: byte k can't be there before a round trip and k bytes' time have passed."""
    rate, rtt_s = 400_000, 0.05
    sent = encode_payload(Frame({}, {"activation": np.zeros(60_000, np.uint8)}))
    (tmp_path / "file").write_bytes(sent)
    ahead: list[int] = []

    def watch(client: socket.socket) -> None:
        there = 0
        while part := client.recv(2**16):
            there += len(part)
            if time.monotonic() - started < rtt_s + there / rate:
                ahead.append(there)
        assert there == HEADER_BYTES + len(sent)

    with receiver(watch) as address:
        started = time.monotonic()
        assert native_run(frame_tool, "send", address, tmp_path / "file", rate, int(rtt_s * 1e9))[0] == RunnerCode.OK
    assert ahead == []


def test_a_shaped_frame_flows_from_its_start(frame_tool: Path, tmp_path: Path, receiver: Receiver) -> None:
    """At this rate the whole frame takes an hour, but its first bytes are refused at once."""
    (tmp_path / "file").write_bytes(encode_payload(Frame({}, {"activation": np.zeros(2**24, np.uint8)})))

    def refuse(client: socket.socket) -> None:
        assert client.recv(100)
        write_frame(client, Frame({"kind": "refused", "reason": "too slow"}, {}))

    with receiver(refuse) as address:
        assert native_run(frame_tool, "send", address, tmp_path / "file", 5000, 0)[0] == RunnerCode.RECEIVER_REFUSED


# files that the native side writes


def test_native_side_writes_the_file_that_python_writes(frame_tool: Path, tmp_path: Path) -> None:
    written: Tensors = {"picture": np.zeros((3, 2, 2), np.uint8), "activation": np.ones((1, 2), np.float32)}
    safetensors.numpy.save_file(written, tmp_path / "other's", {"what": "metadata"})
    (tmp_path / "file").write_bytes(b"something older")
    assert native_run(frame_tool, "write", tmp_path / "other's", tmp_path / "file")[0] == RunnerCode.OK
    assert (tmp_path / "file").read_bytes() == encode_payload(Frame({}, written))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other's"]
