"""What a picture's way consists of explains how long it took, between the real runner and the real receiver."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from device_runner.bundle import build_bundle
from device_runner.devices import open_device
from device_runner.frames import Frame, encode_payload
from device_runner.report import Shipment
from device_runner.runner import Job, Shipping, run_program
from harness.measure.receiver import Receiver, Session
from harness.tails.answer import Answer, AnyArray

PICTURES = 3
DECODE_S, TAIL_S = 0.010, 0.030


def answer(received: AnyArray) -> Answer:
    """Take 10 ms to decode and 30 ms to finish the network."""
    start = time.perf_counter_ns()
    time.sleep(DECODE_S)
    decode_ns = time.perf_counter_ns() - start
    time.sleep(TAIL_S)
    return Answer(received.reshape(1, -1)[:, :10].astype(np.float32), decode_ns)


def ship(side: int, folder: Path) -> list[Shipment]:
    """Let pictures of this size travel themselves, as they do at split 0."""
    pixels = np.random.default_rng(0).integers(0, 256, (PICTURES, 3, side, side), dtype=np.uint8)
    pictures = folder / "pictures.safetensors"
    pictures.write_bytes(encode_payload(Frame({}, {"pictures": pixels})))
    shape = (1, 3, side, side)
    kept: dict[int, bytes] = {}
    session = Session("c0ffee", 0, pixels[0].nbytes + 400, shape, "uint8", PICTURES, answer, kept.__setitem__)
    with Receiver() as receiver, receiver.expect(session), open_device("local") as device:
        where = Shipping(str(pictures), f"127.0.0.1:{receiver.port}", receiver.token, ("c0ffee",), 0)
        report = run_program(device, device.deploy(build_bundle()), Job(shipping=where), timeout_s=60)
    assert sorted(kept) == list(range(PICTURES))
    return report.outputs[0].shipments


@pytest.mark.parametrize("side", [32, 2048], ids=["3 kB", "13 MB"])
def test_the_parts_explain_every_pictures_end_to_end(tmp_path: Path, side: int) -> None:
    for shipment in ship(side, tmp_path):
        told = (shipment.head_ns, shipment.encode_ns, shipment.decode_ns, shipment.end_to_end_ns)
        head_ns, encode_ns, decode_ns, end_to_end_ns = (ns for ns in told if ns is not None)
        parts_ns = head_ns + encode_ns + shipment.transfer_ns + decode_ns + shipment.tail_ns
        assert parts_ns == pytest.approx(end_to_end_ns, rel=0.02)
        assert encode_ns > 0
        assert decode_ns + shipment.tail_ns + shipment.transfer_ns >= (DECODE_S + TAIL_S) * 1e9
        # A busy device reads `received` late: decoding that had ended by then lies within the transfer.
        assert shipment.tail_ns == 0 or decode_ns >= DECODE_S * 1e9
