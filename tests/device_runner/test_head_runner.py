"""head_runner on real heads: the right numbers, or one line and an exit status of its own."""

from __future__ import annotations

import os
import random
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import torch

from device_runner.bundle import NATIVE_FOLDER, Bundle
from device_runner.errors import FrameError, RunnerCode
from device_runner.frames import Frame, decode_payload, encode_payload, read_frame, write_frame

RunHead = Callable[..., Any]
Receiver = Callable[[Callable[[socket.socket], object]], AbstractContextManager[str]]

LOGITS = {"answer": np.zeros((1, 5), np.float32)}
ANSWER = Frame({"kind": "answer", "decode_ns": "0"}, LOGITS)


def message(kind: str, **metadata: str) -> Frame:
    return Frame({"kind": kind, **metadata}, {})


@pytest.fixture
def convolution(heads: Any) -> dict[str, Any]:
    """Options of a run that ends well."""
    return {"pte": heads.pte("convolution"), "reference": heads.reference("convolution"), "max_abs_err": 1e-5}


@pytest.fixture
def shipping(heads: Any) -> dict[str, Any]:
    """Options that send pictures, but for the address."""
    return {"pictures": heads.pictures_file, "cell": "c0ffee", "round": 2}


class ObligingReceiver:
    """The receiver's side as designed; keeps what came in."""

    def __init__(self, token: str = "let-me-in", waits: int = 0) -> None:  # noqa: S107 - of a test
        self.token = token
        self.waits = waits
        self.hello: dict[str, str] = {}
        self.frames: list[Frame] = []
        self.wire_bytes: list[int] = []

    def __call__(self, client: socket.socket) -> None:
        self.hello = dict(read_frame(client, max_payload_bytes=4096)[0].metadata)
        if self.hello["token"] != self.token:
            write_frame(client, message("refused", reason="another token\nthan this run's"))
            return
        for _ in range(self.waits):
            write_frame(client, message("wait"))
        write_frame(client, message("welcome"))
        while client.recv(1, socket.MSG_PEEK):
            frame, payload = read_frame(client, max_payload_bytes=2**20)
            write_frame(client, message("received"))
            self.frames.append(frame)
            self.wire_bytes.append(len(payload) + 12)
            write_frame(client, ANSWER)
            write_frame(client, message("stored"))


def after_hello(*steps: Callable[[socket.socket], object]) -> Callable[[socket.socket], object]:
    """Make a receiver that reads the hello, then does this."""

    def handler(client: socket.socket) -> None:
        read_frame(client, max_payload_bytes=4096)
        for step in steps:
            step(client)

    return handler


def send(frame: Frame) -> Callable[[socket.socket], object]:
    return lambda client: write_frame(client, frame)


def take(client: socket.socket) -> None:
    read_frame(client, max_payload_bytes=2**20)


# the list of codes


def test_exit_statuses_are_those_of_runner_code() -> None:
    text = (NATIVE_FOLDER / "src" / "error.h").read_text()
    listed = re.search(r"enum class Code : int \{(.*?)\}", text, re.DOTALL)
    assert listed is not None
    codes = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper(): int(number)
        for name, number in re.findall(r"k(\w+) = (\d+)", listed[1])
    }
    assert codes == {code.name: code.value for code in RunnerCode}


# a head that is right


def test_a_right_head_is_verified_and_every_sample_kept(run_head: RunHead, convolution: dict[str, Any]) -> None:
    report = run_head(**convolution, min_cosine=0.9999, warmup=3, iterations=7).report
    assert report["outputs"][0]["verification"]["passed"]
    assert report["outputs"][0]["verification"]["max_abs_err"] <= 1e-5
    assert report["outputs"][0]["verification"]["cosine"] >= 0.9999
    assert [(output["dtype"], output["shape"]) for output in report["outputs"]] == [("F32", [1, 4, 6, 6])]
    assert len(report["warmup_ns"]) == 3
    assert len(report["run_ns"]) == 7
    assert all(sample > 0 for sample in [report["load_ns"], *report["warmup_ns"], *report["run_ns"]])
    assert report["outputs"][0]["shipments"] == []


def test_a_head_runs_until_its_median_is_known(run_head: RunHead, convolution: dict[str, Any]) -> None:
    report = run_head(**convolution, warmup=3, iterations="auto").report
    assert len(report["warmup_ns"]) == 3
    assert 10 <= len(report["run_ns"]) <= 1000


def test_max_abs_err_is_that_of_the_raw_values(
    run_head: RunHead, heads: Any, convolution: dict[str, Any], tmp_path: Path
) -> None:
    expected = heads.outputs["convolution"][0].copy()
    expected[0, 1, 2, 3] += 0.5
    reference = tmp_path / "reference"
    reference.write_bytes(encode_payload(Frame({}, {"picture": heads.pictures[0], "activation.0": expected})))
    report = run_head(**{**convolution, "reference": reference, "max_abs_err": 0.6}).report
    assert report["outputs"][0]["verification"]["max_abs_err"] == pytest.approx(0.5, abs=1e-5)
    assert report["outputs"][0]["verification"]["passed"]


@pytest.mark.parametrize("threads", [1, 2])
def test_it_runs_on_the_threads_asked_for(run_head: RunHead, convolution: dict[str, Any], threads: int) -> None:
    assert run_head(**convolution, threads=threads).report["threads"] == threads


def test_peak_memory_is_its_own_not_its_callers(run_head: RunHead, convolution: dict[str, Any]) -> None:
    assert 2**20 < run_head(**convolution).report["peak_rss_bytes"] < 100 * 2**20


def test_an_int8_head_is_compared_without_its_zero_point(run_head: RunHead, heads: Any, tmp_path: Path) -> None:
    expected = heads.outputs["eight_bit"][0].copy()
    expected[0, 0, 0, :4] = np.clip(expected[0, 0, 0, :4].astype(int) + 2, -128, 127)
    reference = tmp_path / "reference"
    reference.write_bytes(encode_payload(Frame({}, {"picture": heads.pictures[0], "activation.0": expected})))
    options = {"pte": heads.pte("eight_bit"), "reference": reference, "zero_point": -128}
    report = run_head(**options, max_abs_err=2, min_cosine=0.99).report
    assert report["outputs"][0]["dtype"] == "I8"
    assert (
        report["outputs"][0]["verification"]["max_abs_err"]
        == np.abs(expected - heads.outputs["eight_bit"][0].astype(int)).max()
    )
    values = [array.astype(float).ravel() + 128 for array in (expected, heads.outputs["eight_bit"][0])]
    cosine = values[0] @ values[1] / np.linalg.norm(values[0]) / np.linalg.norm(values[1])
    assert report["outputs"][0]["verification"]["cosine"] == pytest.approx(cosine, abs=1e-9)


# a head that is wrong


def assert_not_verified(outcome: Any) -> dict[str, Any]:
    """Nothing is timed before verification passes; the numbers that tell why are kept."""
    assert outcome.code == RunnerCode.VERIFICATION_FAILED
    (output,) = outcome.report["outputs"]
    assert outcome.report["run_ns"] == outcome.report["warmup_ns"] == output["shipments"] == []
    verification: dict[str, Any] = output["verification"]
    assert not verification["passed"]
    return verification


def test_a_head_of_other_weights_fails_verification(run_head: RunHead, heads: Any, convolution: dict[str, Any]) -> None:
    verification = assert_not_verified(run_head(**{**convolution, "pte": heads.pte("other_weights")}))
    assert verification["max_abs_err"] > 1e-5


def test_a_cosine_below_the_limit_fails_verification(
    run_head: RunHead, heads: Any, convolution: dict[str, Any]
) -> None:
    options = {**convolution, "pte": heads.pte("other_weights"), "max_abs_err": None, "min_cosine": 0.99}
    assert assert_not_verified(run_head(**options))["cosine"] < 0.99


def test_nan_fails_verification_though_no_limit_is_given(run_head: RunHead, heads: Any) -> None:
    outcome = run_head(pte=heads.pte("not_a_number"), reference=heads.reference("not_a_number"))
    assert assert_not_verified(outcome) == {"max_abs_err": None, "cosine": None, "passed": False}


@pytest.mark.parametrize("expected", [np.zeros((1, 4, 6, 5), np.float32), np.zeros((1, 4, 6, 6), np.int8)])
def test_a_reference_of_another_shape_or_type_fails_verification(
    run_head: RunHead, heads: Any, convolution: dict[str, Any], tmp_path: Path, expected: np.ndarray[Any, Any]
) -> None:
    reference = tmp_path / "reference"
    reference.write_bytes(encode_payload(Frame({}, {"picture": heads.pictures[0], "activation.0": expected})))
    outcome = run_head(**{**convolution, "reference": reference})
    assert assert_not_verified(outcome)["max_abs_err"] is None


@pytest.mark.parametrize("name", ["other_size", "two_outputs"])
def test_a_program_that_takes_or_gives_something_else_is_an_input_mismatch(
    run_head: RunHead, heads: Any, convolution: dict[str, Any], name: str
) -> None:
    outcome = run_head(**{**convolution, "pte": heads.pte(name)})
    assert outcome.code == RunnerCode.INPUT_MISMATCH
    assert outcome.report is None


def test_a_missing_program_is_named(run_head: RunHead, convolution: dict[str, Any], tmp_path: Path) -> None:
    outcome = run_head(**{**convolution, "pte": tmp_path / "none.pte"})
    assert outcome.code == RunnerCode.PROGRAM_MISSING
    assert "none.pte" in outcome.message


@pytest.mark.parametrize("kept", [0, 7, 40, 1000, -1])
def test_a_truncated_program_is_damaged(
    run_head: RunHead, convolution: dict[str, Any], tmp_path: Path, kept: int
) -> None:
    truncated = tmp_path / "truncated.pte"
    truncated.write_bytes(convolution["pte"].read_bytes()[:kept])
    assert run_head(**{**convolution, "pte": truncated}).code == RunnerCode.PROGRAM_DAMAGED


def test_a_program_larger_than_any_head_is_refused_unread(
    run_head: RunHead, convolution: dict[str, Any], tmp_path: Path
) -> None:
    sparse = tmp_path / "sparse.pte"
    sparse.touch()
    os.truncate(sparse, 2**43)
    assert run_head(**{**convolution, "pte": sparse}).code == RunnerCode.PROGRAM_DAMAGED


def test_an_unknown_operator_is_named(run_head: RunHead, heads: Any, tmp_path: Path) -> None:
    program = heads.pte("pass_on").read_bytes()
    assert b"aten::relu" in program
    renamed = tmp_path / "renamed.pte"
    renamed.write_bytes(program.replace(b"aten::relu", b"aten::lure"))
    outcome = run_head(pte=renamed, reference=heads.reference("pass_on"))
    assert outcome.code == RunnerCode.OPERATOR_MISSING
    assert "aten::lure" in outcome.message


def test_an_unknown_backend_is_named(run_head: RunHead, convolution: dict[str, Any], tmp_path: Path) -> None:
    program = convolution["pte"].read_bytes()
    assert b"XnnpackBackend" in program
    renamed = tmp_path / "renamed.pte"
    renamed.write_bytes(program.replace(b"XnnpackBackend", b"MysteryBackend"))
    outcome = run_head(**{**convolution, "pte": renamed})
    assert outcome.code == RunnerCode.OPERATOR_MISSING
    assert "MysteryBackend" in outcome.message


@pytest.mark.parametrize("seed", range(60))
def test_a_program_with_flipped_bits_never_goes_unnoticed_or_uncaught(
    run_head: RunHead, convolution: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    """Flips may hit padding; otherwise: an error of our own, however hard the library crashes on it."""
    rng = random.Random(seed)
    program = bytearray(convolution["pte"].read_bytes())
    for _ in range(8):
        program[rng.randrange(len(program))] ^= 1 << rng.randrange(8)
    (tmp_path / "flipped.pte").write_bytes(program)
    outcome = run_head(**{**convolution, "pte": tmp_path / "flipped.pte"})
    assert outcome.code in {
        RunnerCode.OK,
        RunnerCode.PROGRAM_DAMAGED,
        RunnerCode.OPERATOR_MISSING,
        RunnerCode.INPUT_MISMATCH,
        RunnerCode.VERIFICATION_FAILED,
        RunnerCode.EXECUTION_FAILED,
    }


# reference and options


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, RunnerCode.FILE_UNREADABLE),
        (b"", RunnerCode.FILE_UNREADABLE),
        (struct.pack("<Q", 2**60) + b"{}", RunnerCode.FILE_UNREADABLE),
        (encode_payload(Frame({}, {"picture": np.zeros((3, 16, 16), np.uint8)})), RunnerCode.INPUT_MISMATCH),
        (encode_payload(Frame({}, {"activation.0": np.zeros((1, 4), np.float32)})), RunnerCode.INPUT_MISMATCH),
        (
            encode_payload(
                Frame({}, {"picture": np.zeros((3, 16), np.uint8), "activation.0": np.zeros((1, 4), np.float32)})
            ),
            RunnerCode.INPUT_MISMATCH,
        ),
        (
            encode_payload(
                Frame({}, {"picture": np.zeros((4, 16, 16), np.uint8), "activation.0": np.zeros((1, 4), np.float32)})
            ),
            RunnerCode.INPUT_MISMATCH,
        ),
    ],
    ids=["missing", "empty", "2^60 bytes", "no activation", "no picture", "two dimensions", "four channels"],
)
def test_a_reference_that_cannot_be_used_is_named(
    run_head: RunHead, convolution: dict[str, Any], tmp_path: Path, content: bytes | None, code: RunnerCode
) -> None:
    reference = tmp_path / "reference"
    if content is not None:
        reference.write_bytes(content)
    assert run_head(**{**convolution, "reference": reference}).code == code


@pytest.mark.parametrize(
    "change",
    [
        {"threads": None},
        {"threads": 0},
        {"threads": "many"},
        {"threads": 10**30},
        {"iterations": -1},
        {"iterations": "automatic"},
        {"max_abs_err": "nan"},
        {"min_cosine": "x"},
        {"zero_point": 128},
        {"reference": None},
        {"pte": None},
        {"connect": "127.0.0.1:1"},
        {"colour": "red"},
        {"max_abs_err": "1,1"},
        {"zero_point": "0,0"},
        {"affinity": ""},
        {"affinity": "0"},
        {"affinity": "big"},
        {"affinity": "0x"},
        {"affinity": "1" * 300},
        {"link_rate": 1000, "link_rtt_ns": 0},
        {"power": ""},
        {"power": "current_now:voltage_now"},
        {"power": "/current_now"},
    ],
    ids=str,
)
def test_a_wrong_command_line_is_a_usage_error(
    run_head: RunHead, convolution: dict[str, Any], change: dict[str, Any]
) -> None:
    assert run_head(**{**convolution, **change}).code == RunnerCode.USAGE


# output files


def test_a_full_standard_output_is_named(run_head: RunHead, convolution: dict[str, Any]) -> None:
    assert run_head(**convolution, stdout=Path("/dev/full")).code == RunnerCode.OUTPUT_UNWRITABLE


def test_a_reader_that_left_is_an_unwritable_output(bundle: Bundle, convolution: dict[str, Any]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [bundle.runner, "--pte", convolution["pte"], "--reference", convolution["reference"]]
    command += ["--threads", "1", "--warmup", "0", "--iterations", "1"]
    with os.fdopen(writer) as closed_pipe:
        completed = subprocess.run(command, stdout=closed_pipe, stderr=subprocess.PIPE, check=False)
    assert completed.returncode == RunnerCode.OUTPUT_UNWRITABLE


# shipping


def test_shipped_activations_are_what_the_network_gives(
    run_head: RunHead, heads: Any, convolution: dict[str, Any], shipping: dict[str, Any], receiver: Receiver
) -> None:
    obliging = ObligingReceiver()
    with receiver(obliging) as address:
        report = run_head(**convolution, **shipping, connect=address).report
    assert obliging.hello == {"kind": "hello", "token": "let-me-in", "cell": "c0ffee", "round": "2"}
    for index, (frame, expected) in enumerate(zip(obliging.frames, heads.outputs["convolution"], strict=True)):
        assert dict(frame.metadata) == {"kind": "activation", "picture": str(index)}
        np.testing.assert_allclose(frame.tensors["activation"], expected, atol=1e-5)
    assert [shipment["picture"] for shipment in report["outputs"][0]["shipments"]] == [0, 1, 2]
    assert [shipment["wire_bytes"] for shipment in report["outputs"][0]["shipments"]] == obliging.wire_bytes
    for shipment in report["outputs"][0]["shipments"]:
        assert 0 < shipment["head_ns"] < shipment["end_to_end_ns"]
        assert parts(shipment) == shipment["end_to_end_ns"]


def parts(shipment: dict[str, Any]) -> int:
    return sum(shipment[f"{part}_ns"] for part in ("head", "encode", "transfer", "decode", "tail"))


def deliberate(decode_ns: int, *, pause_s: float) -> Callable[[socket.socket], object]:
    """Make a receiver that answers one picture after a pause, and tells this decode time."""
    answer = Frame({"kind": "answer", "decode_ns": str(decode_ns)}, LOGITS)
    steps = (send(message("received")), lambda _: time.sleep(pause_s), send(answer), send(message("stored")))
    return after_hello(send(message("welcome")), take, *steps)


@pytest.fixture
def one_picture(heads: Any, shipping: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "one picture"
    path.write_bytes(encode_payload(Frame({}, {"pictures": heads.pictures[:1]})))
    return {**shipping, "pictures": path}


def test_what_the_receiver_takes_to_decode_is_no_part_of_the_tail(
    run_head: RunHead, one_picture: dict[str, Any], receiver: Receiver
) -> None:
    with receiver(deliberate(40_000_000, pause_s=0.1)) as address:
        (shipment,) = run_head(**one_picture, connect=address).report["outputs"][0]["shipments"]
    assert shipment["decode_ns"] == 40_000_000
    assert shipment["decode_ns"] + shipment["tail_ns"] >= 50_000_000  # of 100: `received` may be read late, not so late
    assert parts(shipment) == shipment["end_to_end_ns"]


def test_more_decoding_than_there_was_time_for_is_refused(
    run_head: RunHead, one_picture: dict[str, Any], receiver: Receiver
) -> None:
    with receiver(deliberate(60_000_000_000, pause_s=0.0)) as address:
        outcome = run_head(**one_picture, connect=address)
    assert outcome.code == RunnerCode.FRAME_DAMAGED
    assert "60000000000 ns" in outcome.message


def test_decoding_before_received_was_read_leaves_the_tail_nothing(
    run_head: RunHead, one_picture: dict[str, Any], receiver: Receiver
) -> None:
    """A link of 50 ms lies within the transfer: so much may have been decoded, had `received` been read late."""
    with receiver(deliberate(50_000_000, pause_s=0.0)) as address:
        shaped = {"link_rate": 10**9, "link_rtt_ns": 50_000_000}
        (shipment,) = run_head(**one_picture, **shaped, connect=address).report["outputs"][0]["shipments"]
    assert 0 < shipment["decode_ns"] <= 50_000_000
    assert shipment["tail_ns"] == 0 or shipment["decode_ns"] == 50_000_000
    assert parts(shipment) == shipment["end_to_end_ns"]


def test_encoding_is_no_part_of_the_transfer(
    run_head: RunHead, one_picture: dict[str, Any], tmp_path: Path, receiver: Receiver
) -> None:
    """The checksum of 48 MB takes milliseconds wherever it is computed; what is shaped is the transfer alone."""
    large = tmp_path / "large"
    large.write_bytes(encode_payload(Frame({}, {"pictures": np.zeros((1, 3, 4096, 4096), np.uint8)})))
    take_large = lambda client: read_frame(client, max_payload_bytes=2**26)  # noqa: E731
    after = (send(message("received")), send(ANSWER), send(message("stored")))
    with receiver(after_hello(send(message("welcome")), take_large, *after)) as address:
        report = run_head(**{**one_picture, "pictures": large}, connect=address).report
    (shipment,) = report["outputs"][0]["shipments"]
    assert shipment["encode_ns"] > 200_000  # 250 GB/s are beyond any memory
    assert parts(shipment) == shipment["end_to_end_ns"]


def test_pictures_enter_the_head_as_torch_would_make_them(
    run_head: RunHead, heads: Any, shipping: dict[str, Any], receiver: Receiver
) -> None:
    obliging = ObligingReceiver()
    with receiver(obliging) as address:
        run_head(
            pte=heads.pte("pass_on"), reference=heads.reference("pass_on"), max_abs_err=0, **shipping, connect=address
        )
    for frame, picture in zip(obliging.frames, heads.pictures, strict=True):
        np.testing.assert_array_equal(
            frame.tensors["activation"], (torch.from_numpy(picture)[None].float() / 255).numpy()
        )


@pytest.mark.parametrize(
    "change",
    [
        {"link_rate": 1000},
        {"link_rtt_ns": 0},
        {"link_rate": 0, "link_rtt_ns": 0},
        {"link_rate": "inf", "link_rtt_ns": 0},
        {"link_rate": 1000, "link_rtt_ns": -1},
        {"link_rate": 1000, "link_rtt_ns": 10**12},
        {"write_output": "/nowhere"},
        {"cell": "c0ffee,facade"},
    ],
    ids=str,
)
def test_a_link_that_cannot_be_is_a_usage_error(
    run_head: RunHead, shipping: dict[str, Any], change: dict[str, Any]
) -> None:
    assert run_head(**{**shipping, **change}, connect="127.0.0.1:1").code == RunnerCode.USAGE


def test_a_shaped_link_is_part_of_the_transfer_alone(
    run_head: RunHead, convolution: dict[str, Any], shipping: dict[str, Any], receiver: Receiver
) -> None:
    rate, rtt_ns = 200_000, 20_000_000
    obliging = ObligingReceiver()
    with receiver(obliging) as address:
        options = {**convolution, **shipping, "link_rate": rate, "link_rtt_ns": rtt_ns}
        report = run_head(**options, connect=address).report
    for shipment in report["outputs"][0]["shipments"]:
        link_ns = rtt_ns + shipment["wire_bytes"] * 1_000_000_000 // rate
        assert shipment["transfer_ns"] >= link_ns
        assert link_ns <= parts(shipment) == shipment["end_to_end_ns"]
    assert [shipment["wire_bytes"] for shipment in report["outputs"][0]["shipments"]] == obliging.wire_bytes


def test_without_a_head_the_picture_itself_travels(
    run_head: RunHead, heads: Any, shipping: dict[str, Any], receiver: Receiver
) -> None:
    obliging = ObligingReceiver()
    with receiver(obliging) as address:
        report = run_head(**shipping, connect=address).report
    for frame, picture in zip(obliging.frames, heads.pictures, strict=True):
        np.testing.assert_array_equal(frame.tensors["activation"], picture[None])
    (output,) = report["outputs"]
    assert (output["verification"], output["dtype"], output["shape"]) == (None, "U8", [1, 3, 16, 16])
    assert (report["load_ns"], report["warmup_ns"], report["run_ns"]) == (0, [], [])
    assert [shipment["head_ns"] for shipment in output["shipments"]] == [0, 0, 0]


def test_a_wrong_token_is_refused_with_the_receivers_reason(
    run_head: RunHead, shipping: dict[str, Any], receiver: Receiver
) -> None:
    with receiver(ObligingReceiver(token="another")) as address:  # noqa: S106 - of a test
        outcome = run_head(**shipping, connect=address)
    assert outcome.code == RunnerCode.RECEIVER_REFUSED
    assert "another token" in outcome.message


def test_it_ships_when_it_was_told_to_wait_before(
    run_head: RunHead, heads: Any, shipping: dict[str, Any], receiver: Receiver
) -> None:
    obliging = ObligingReceiver(waits=3)
    with receiver(obliging) as address:
        report = run_head(**shipping, connect=address).report
    assert len(obliging.frames) == len(heads.pictures)
    assert [shipment["picture"] for shipment in report["outputs"][0]["shipments"]] == [0, 1, 2]


def test_no_token_is_a_usage_error(run_head: RunHead, shipping: dict[str, Any]) -> None:
    assert run_head(**shipping, connect="127.0.0.1:1", token="").code == RunnerCode.USAGE


def test_an_absent_receiver_is_unreachable(run_head: RunHead, shipping: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    outcome = run_head(**shipping, connect=address)
    assert outcome.code == RunnerCode.RECEIVER_UNREACHABLE
    assert address in outcome.message


@pytest.mark.parametrize("address", ["nowhere", ":80", "host:"])
def test_an_address_without_host_or_port_is_a_usage_error(
    run_head: RunHead, shipping: dict[str, Any], address: str
) -> None:
    assert run_head(**shipping, connect=address).code == RunnerCode.USAGE


def flipped(frame: Frame) -> bytes:
    payload = bytearray(encode_payload(frame))
    checksum = google_crc32c.value(bytes(payload))
    payload[-1] ^= 1
    return struct.pack("<QI", len(payload), checksum) + payload


MISBEHAVIOUR: dict[str, tuple[Callable[[socket.socket], object], RunnerCode]] = {
    "closes at once": (lambda _: None, RunnerCode.RECEIVER_UNREACHABLE),
    "closes after hello": (after_hello(), RunnerCode.RECEIVER_UNREACHABLE),
    "closes after an activation": (after_hello(send(message("welcome")), take), RunnerCode.RECEIVER_UNREACHABLE),
    "closes before storing": (
        after_hello(send(message("welcome")), take, send(message("received")), send(ANSWER)),
        RunnerCode.RECEIVER_UNREACHABLE,
    ),
    "closes within a frame": (
        after_hello(lambda client: client.sendall(struct.pack("<QI", 100, 0) + b"cut")),
        RunnerCode.RECEIVER_UNREACHABLE,
    ),
    "is a web server": (
        after_hello(lambda client: client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        RunnerCode.FRAME_DAMAGED,
    ),
    "claims 2^60 bytes": (
        after_hello(lambda client: client.sendall(struct.pack("<QI", 2**60, 0))),
        RunnerCode.FRAME_DAMAGED,
    ),
    "flips a bit": (
        after_hello(
            send(message("welcome")), take, send(message("received")), lambda client: client.sendall(flipped(ANSWER))
        ),
        RunnerCode.FRAME_DAMAGED,
    ),
    "answers too early": (after_hello(send(message("welcome")), take, send(ANSWER)), RunnerCode.FRAME_DAMAGED),
    "answers nothing": (
        after_hello(send(message("welcome")), take, send(message("received")), send(message("answer", decode_ns="0"))),
        RunnerCode.FRAME_DAMAGED,
    ),
    "does not tell how long decoding took": (
        after_hello(send(message("welcome")), take, send(message("received")), send(Frame({"kind": "answer"}, LOGITS))),
        RunnerCode.FRAME_DAMAGED,
    ),
    "refuses who waits": (
        after_hello(send(message("wait")), send(message("refused", reason="the run is ending"))),
        RunnerCode.RECEIVER_REFUSED,
    ),
    "hangs up on who waits": (after_hello(send(message("wait"))), RunnerCode.RECEIVER_UNREACHABLE),
    "lets an activation wait": (
        after_hello(send(message("welcome")), take, send(message("wait"))),
        RunnerCode.FRAME_DAMAGED,
    ),
    "refuses an activation": (
        after_hello(send(message("welcome")), take, send(message("refused", reason="disk full"))),
        RunnerCode.RECEIVER_REFUSED,
    ),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_a_receiver_that_misbehaves_is_told_from_others(
    run_head: RunHead, convolution: dict[str, Any], shipping: dict[str, Any], receiver: Receiver, name: str
) -> None:
    handler, code = MISBEHAVIOUR[name]
    with receiver(handler) as address:
        outcome = run_head(**convolution, **shipping, connect=address)
    assert outcome.code == code
    assert outcome.report is None


def test_a_refusal_is_heard_though_most_of_the_frame_was_never_read(
    run_head: RunHead, tmp_path: Path, shipping: dict[str, Any], receiver: Receiver
) -> None:
    """A picture of 48 MB: the refusal and the reset arrive while it is being sent."""

    def refuse_by_length(client: socket.socket) -> None:
        read_frame(client, max_payload_bytes=4096)
        write_frame(client, message("welcome"))
        try:
            read_frame(client, max_payload_bytes=4096)
        except FrameError as exc:
            write_frame(client, message("refused", reason=exc.message))

    large = tmp_path / "large"
    large.write_bytes(encode_payload(Frame({}, {"pictures": np.zeros((1, 3, 4096, 4096), np.uint8)})))
    with receiver(refuse_by_length) as address:
        outcome = run_head(**{**shipping, "pictures": large}, connect=address)
    assert outcome.code == RunnerCode.RECEIVER_REFUSED
    assert "4096 are allowed" in outcome.message


@pytest.mark.parametrize("shape", [(2, 3, 16, 8), (2, 3, 32, 32), (2, 4, 16, 16)], ids=str)
def test_pictures_that_the_head_cannot_take_are_an_input_mismatch(
    run_head: RunHead, convolution: dict[str, Any], shipping: dict[str, Any], tmp_path: Path, shape: tuple[int, ...]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.write_bytes(encode_payload(Frame({}, {"pictures": np.zeros(shape, np.uint8)})))
    outcome = run_head(**convolution, **{**shipping, "pictures": pictures}, connect="127.0.0.1:1")
    assert outcome.code == RunnerCode.INPUT_MISMATCH


# cores


def allowed_of(task: Path) -> set[int]:
    """The cores that a task of a running program may use."""
    listed = re.search(r"^Cpus_allowed:\s*([0-9a-f,]+)$", (task / "status").read_text(), re.MULTILINE)
    assert listed is not None
    mask = int(listed[1].replace(",", ""), 16)
    return {core for core in range(mask.bit_length()) if mask >> core & 1}


def mask_of(cores: set[int]) -> str:
    return f"{sum(1 << core for core in cores):x}"


def test_without_a_mask_the_cores_are_those_of_its_caller(run_head: RunHead, convolution: dict[str, Any]) -> None:
    assert run_head(**convolution).report["affinity"] == mask_of(os.sched_getaffinity(0))


@pytest.mark.parametrize("prefix", ["", "0x", "00"])
def test_a_mask_is_obeyed_and_reported(run_head: RunHead, convolution: dict[str, Any], prefix: str) -> None:
    core = max(os.sched_getaffinity(0))
    assert run_head(**convolution, affinity=prefix + mask_of({core})).report["affinity"] == mask_of({core})


def test_cores_that_are_not_there_are_left_out(run_head: RunHead, convolution: dict[str, Any]) -> None:
    usable = os.sched_getaffinity(0)
    assert run_head(**convolution, affinity="f" * 256).report["affinity"] == mask_of(usable)


def test_a_mask_without_a_usable_core_is_a_usage_error(run_head: RunHead, convolution: dict[str, Any]) -> None:
    outcome = run_head(**convolution, affinity=f"{1 << 1023:x}")
    assert outcome.code == RunnerCode.USAGE
    assert f"only those of {mask_of(os.sched_getaffinity(0))}" in outcome.message


def test_every_thread_keeps_to_the_mask(
    bundle: Bundle, convolution: dict[str, Any], shipping: dict[str, Any], receiver: Receiver
) -> None:
    core = min(os.sched_getaffinity(0))
    found: list[set[int]] = []

    def look(client: socket.socket) -> None:
        read_frame(client, max_payload_bytes=4096)
        found.extend(allowed_of(task) for task in Path(f"/proc/{process.pid}/task").iterdir())

    with receiver(look) as address:
        options = {**convolution, **shipping, "threads": 3, "warmup": 1, "iterations": 1, "affinity": mask_of({core})}
        command = [str(bundle.runner), "--connect", address]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            process.communicate(b"let-me-in\n", timeout=60)
    assert len(found) >= 3
    assert all(cores == {core} for cores in found)


# what it writes for other devices


def test_a_verified_output_is_written_as_a_reference(
    run_head: RunHead, heads: Any, convolution: dict[str, Any], tmp_path: Path
) -> None:
    written = tmp_path / "output"
    report = run_head(**convolution, write_output=written).report
    frame = decode_payload(written.read_bytes())
    assert dict(frame.metadata) == {}
    assert sorted(frame.tensors) == ["activation.0", "picture"]
    np.testing.assert_array_equal(frame.tensors["picture"], heads.pictures[0])
    errors = np.abs(frame.tensors["activation.0"] - heads.outputs["convolution"][0])
    assert errors.max() == pytest.approx(report["outputs"][0]["verification"]["max_abs_err"])
    again = run_head(pte=convolution["pte"], reference=written, max_abs_err=0)
    assert again.report["outputs"][0]["verification"]["max_abs_err"] == 0


def test_an_int8_output_is_written_as_it_is(run_head: RunHead, heads: Any, tmp_path: Path) -> None:
    options = {"pte": heads.pte("eight_bit"), "reference": heads.reference("eight_bit"), "zero_point": -128}
    run_head(**options, max_abs_err=2, write_output=tmp_path / "output")
    assert decode_payload((tmp_path / "output").read_bytes()).tensors["activation.0"].dtype == np.int8
    assert run_head(**{**options, "reference": tmp_path / "output"}, max_abs_err=0).code == RunnerCode.OK


def test_an_unverified_output_is_not_written(
    run_head: RunHead, heads: Any, convolution: dict[str, Any], tmp_path: Path
) -> None:
    options = {**convolution, "pte": heads.pte("other_weights")}
    assert run_head(**options, write_output=tmp_path / "output").code == RunnerCode.VERIFICATION_FAILED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/dev/full", "/nonexistent/output", "/"])
def test_an_output_that_cannot_be_written_is_named(run_head: RunHead, convolution: dict[str, Any], path: str) -> None:
    outcome = run_head(**convolution, write_output=path)
    assert outcome.code == RunnerCode.OUTPUT_UNWRITABLE
    assert f"{path}: " in outcome.message
    assert outcome.report is None


def test_an_output_that_does_not_fit_leaves_nothing_behind(
    bundle: Bundle, convolution: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "output").write_bytes(b"what was there")
    command = [bundle.runner, "--pte", convolution["pte"], "--reference", convolution["reference"]]
    command += ["--threads", "1", "--warmup", "0", "--iterations", "1", "--write-output", tmp_path / "output"]
    limited = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *map(str, command)]
    completed = subprocess.run(limited, capture_output=True, check=False)
    assert completed.returncode == RunnerCode.OUTPUT_UNWRITABLE
    assert completed.stderr.decode().splitlines() == [
        f"head_runner: {tmp_path}/output: File too large; free some space, or write elsewhere"
    ]
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"what was there"]


# what measuring costs


def test_the_clock_and_the_loop_itself_are_measured(
    run_head: RunHead, convolution: dict[str, Any], shipping: dict[str, Any], receiver: Receiver
) -> None:
    reports = [run_head(**convolution).report]
    with receiver(ObligingReceiver()) as address:
        reports.append(run_head(**shipping, connect=address).report)
    for report in reports:
        assert report["timer_resolution_ns"] > 0
        assert report["overhead_ns"] > 0


# power


@pytest.fixture
def battery(tmp_path: Path) -> Callable[[str, str], str]:
    """Write current and voltage as a battery's driver gives them; returns the option's value."""

    def write(current: str, voltage: str) -> str:
        folder = tmp_path / "usb:1"  # there are power supplies with such names
        folder.mkdir(exist_ok=True)
        (folder / "current_now").write_text(current)
        (folder / "voltage_now").write_text(voltage)
        return f"{folder}/current_now:{folder}/voltage_now"

    return write


def test_power_is_current_times_voltage_whatever_the_sign(
    run_head: RunHead, convolution: dict[str, Any], battery: Callable[[str, str], str]
) -> None:
    report = run_head(**convolution, iterations=3, power=battery("-500000\n", "4000000\n")).report
    assert report["power_mw"] == pytest.approx(2000)
    assert report["power_samples"] > 0
    assert report["power_reason"] is None
    assert 0 < report["energy_mj"] < report["power_mw"]  # a run takes less than a second
    assert len(report["run_ns"]) == 3


def test_nobody_asked_for_power(run_head: RunHead, convolution: dict[str, Any]) -> None:
    assert not {"power_mw", "energy_mj", "power_samples", "power_reason"} & run_head(**convolution).report.keys()


@pytest.mark.parametrize(
    ("current", "voltage", "reason"),
    [
        ("", "4000000\n", "current_now: holds no number"),
        ("500000\n", "unknown\n", "voltage_now: holds no number"),
        ("0\n", "4000000\n", "current_now: always 0"),
    ],
)
def test_a_battery_that_does_not_tell_gives_a_reason(
    run_head: RunHead,
    convolution: dict[str, Any],
    battery: Callable[[str, str], str],
    current: str,
    voltage: str,
    reason: str,
) -> None:
    outcome = run_head(**convolution, power=battery(current, voltage))
    assert outcome.code == RunnerCode.OK
    assert reason in outcome.report["power_reason"]
    assert "power_mw" not in outcome.report


@pytest.mark.parametrize("name", ["none", 'q"uote\\', "sl/ash"])
def test_a_device_without_a_battery_gives_a_reason(
    run_head: RunHead, convolution: dict[str, Any], tmp_path: Path, name: str
) -> None:
    report = run_head(**convolution, power=f"{tmp_path}/{name}:{tmp_path}/voltage_now").report
    assert report["power_reason"] == f"{tmp_path}/{name}: No such file or directory"


def test_without_a_head_there_is_no_power_to_measure(
    run_head: RunHead, shipping: dict[str, Any], receiver: Receiver, battery: Callable[[str, str], str]
) -> None:
    with receiver(ObligingReceiver()) as address:
        report = run_head(**shipping, connect=address, power=battery("500000", "4000000")).report
    assert report["power_reason"] == "no head runs here"
