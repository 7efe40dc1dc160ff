"""Devices against what one would use by hand, and what measuring itself costs.

The devices are the tests' own: real sshd, scp and adb on loopback, behind connections whose rate is limited.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch import nn

from device_runner.bundle import build_bundle
from device_runner.devices import open_device
from device_runner.frames import Frame, encode_payload
from device_runner.link import LinkShape
from device_runner.report import Shipment
from device_runner.runner import Job, Shipping, run_program
from harness.measure.receiver import Receiver, Session
from harness.tails.answer import Answer
from tests.benchmarks.comparison import Result, in_pairs, judge
from tests.parts.adbd.phone import AdbServer, Phone, adb_server, phone
from tests.parts.sshd import Pi, raspberry_pi
from tests.parts.sshd.fixture import at_home

PAYLOAD_BYTES = 50_000_000
RATES = {"unlimited": 0.0, "40 MB/s": 40e6, "12 MB/s": 12e6}
PAIRS = {"unlimited": 9, "40 MB/s": 9, "12 MB/s": 5}
# At least 0.9 of the other's speed.
MOST_OF_ITS_TIME = round(1 / 0.9, 3)

LINKS = ("1mbit/10ms", "10mbit/10ms", "40mbit/5ms", "100mbit/2ms", "200mbit/1ms")
PICTURE = (3, 224, 224)  # 150 KB as uint8
PICTURE_BYTES = int(np.prod(PICTURE))
LINK_SECONDS = 5

HEAD_NS = 5e6
_LIMIT_S = 120.0

_DEPLOY = """
import sys, time
from device_runner.bundle import build_bundle
from device_runner.devices import open_device
began = time.perf_counter()
with open_device(sys.argv[1]) as device:
    device.deploy(build_bundle("arm64"))
    print(time.perf_counter() - began)
"""


def results(native: Path) -> Iterator[Result]:
    """Every comparison; those with a Raspberry Pi or a phone only for root, whom their namespaces ask for.

    Args:
        native: the folder with bare_loop.
    """
    yield from harness_cost(native)
    yield from (shaped_link(link) for link in LINKS)
    if os.geteuid() == 0:
        yield from over_ssh()
        yield from over_adb()
    else:
        logging.getLogger(__name__).warning("what is deployed over ssh and adb is left out: that needs root")


@dataclass(frozen=True)
class Rival:
    """What copies a file by hand.

    Attributes:
        connects: each copy connects anew; otherwise the device is attached before.
        copy: its command; "{file}" stands for the file.
        forget: the command that removes what it copied.
    """

    name: str
    connects: bool
    copy: list[str]
    forget: list[str]

    def seconds(self, file: Path) -> float:
        """How long one copy takes."""
        command = [word.format(file=file) for word in self.copy]
        took = _seconds(lambda: subprocess.run(command, check=True, capture_output=True))
        subprocess.run(self.forget, check=True, capture_output=True)
        return took


def over_ssh() -> Iterator[Result]:
    """A Raspberry Pi."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _payload() as payload,
        raspberry_pi(Path(folder)) as pi,
        pytest.MonkeyPatch.context() as patch,
    ):
        at_home(pi, patch)
        yield second_deployment("ssh", pi.address)
        for rate, bytes_per_second in RATES.items():
            with pi.behind(bytes_per_second=bytes_per_second) as front:
                address = pi.address_through(front.port) if bytes_per_second else pi.address
                scp = _scp(pi, front.port if bytes_per_second else pi.port)
                yield deployment("ssh", rate, address, scp, payload)


def over_adb() -> Iterator[Result]:
    """A phone."""
    with adb_server() as server, phone() as device, _payload() as payload, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield second_deployment("adb", device.address)
        for rate, bytes_per_second in RATES.items():
            device.change(bytes_per_second=bytes_per_second or None)
            yield deployment("adb", rate, device.address, _adb_push(server, device), payload)


def _scp(pi: Pi, port: int) -> Rival:
    return Rival(
        "scp",
        True,
        ["scp", *pi.openssh_options, "-P", str(port), "{file}", "pi@127.0.0.1:theirs"],
        ["ssh", *pi.openssh_options, "-p", str(port), "pi@127.0.0.1", "rm", "theirs"],
    )


def _adb_push(server: AdbServer, device: Phone) -> Rival:
    adb, there = ["adb", "-P", str(server.port), "-s", device.serial], "/data/local/tmp/theirs"
    return Rival("adb push", False, [*adb, "push", "{file}", there], [*adb, "shell", "rm", there])


def deployment(kind: str, rate: str, address: str, rival: Rival, payload: Path) -> Result:
    """Compare pushing a file with a rival's copy of it; both connect anew, or both find the device attached."""
    ours, theirs = in_pairs(
        lambda: _push_seconds(address, payload, connects=rival.connects),
        lambda: rival.seconds(payload),
        pairs=PAIRS[rate],
    )
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    name = f"50 MB, {kind}, {rate}: time / {rival.name}'s"
    goal = None if rate == "unlimited" else MOST_OF_ITS_TIME
    return judge(name, "ratio", goal, ratios, {"push_s": ours, "rival_s": theirs})


def _push_seconds(address: str, payload: Path, *, connects: bool) -> float:
    with open_device(address) as device:
        if not connects:
            device.call(["true"], timeout_s=_LIMIT_S)
        took = _seconds(lambda: device.push(payload))
        device.clean()
    return took


def second_deployment(kind: str, address: str) -> Result:
    """Time a new process, from its start to its end, that deploys what another one has deployed."""
    with open_device(address) as device:
        device.deploy(build_bundle("arm64"))
    connected: list[float] = []

    def again() -> None:
        done = subprocess.run([sys.executable, "-c", _DEPLOY, address], check=True, capture_output=True)
        connected.append(float(done.stdout))

    whole = [_seconds(again) for _ in range(7)]
    samples = {"process_s": whole, "connect_and_deploy_s": connected}
    return judge(f"second deployment, {kind}", "s", 1.0, whole, samples)


def shaped_link(text: str) -> Result:
    """Hold the rate of a shaped link against its nominal one, picture by picture."""
    shape = LinkShape.parse(text)
    count = int(np.clip(LINK_SECONDS * shape.rate_bytes_per_s / PICTURE_BYTES, 5, 40))
    shipments = _ship(shape, count)
    rates = [s.wire_bytes / (s.transfer_ns * 1e-9 - shape.rtt_s) for s in shipments]
    off = [100 * abs(rate / shape.rate_bytes_per_s - 1) for rate in rates]
    samples = {"transfer_ns": [float(s.transfer_ns) for s in shipments], "bytes_per_s": rates}
    return judge(f"link {text}: error of its rate", "%", 5.0, off, samples)


def _ship(shape: LinkShape, count: int) -> list[Shipment]:
    session = Session(
        cell="benchmark",
        round=0,
        max_payload_bytes=2**21,
        shape=(1, *PICTURE),
        dtype="uint8",
        pictures=count,
        answer=lambda _: Answer(np.zeros((1, 1000), np.float32), decode_ns=0),
        keep=lambda _, __: None,
    )
    pixels = np.random.default_rng(0).integers(0, 256, (count, *PICTURE), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder, Receiver() as receiver, receiver.expect(session):
        pictures = Path(folder) / "pictures.safetensors"
        pictures.write_bytes(encode_payload(Frame({}, {"pictures": pixels})))
        where = Shipping(str(pictures), f"127.0.0.1:{receiver.port}", receiver.token, (session.cell,), session.round)
        with open_device("local") as device:
            job = Job(shipping=where, link_shape=shape)
            report = run_program(device, device.deploy(build_bundle()), job, timeout_s=_LIMIT_S)
            return report.outputs[0].shipments


def harness_cost(native: Path) -> tuple[Result, Result, Result]:
    """What the harness adds to a head: a head that does nothing, and one so small that the difference shows."""
    size = 16
    picture = np.zeros((3, size, size), np.uint8)
    module = nn.Conv2d(3, 4, 3).eval()
    with tempfile.TemporaryDirectory() as folder, open_device("local") as device, torch.no_grad():
        program, reference = Path(folder) / "head.pte", Path(folder) / "reference.safetensors"
        example = torch.zeros(1, *picture.shape)
        program.write_bytes(_lower(module, example))
        expected = module(example).numpy()
        reference.write_bytes(encode_payload(Frame({}, {"picture": picture, "activation.0": expected})))
        runner = device.deploy(build_bundle())
        job = Job(program=str(program), reference=str(reference), max_abs_err=(1e-4,), warmup=1000, iterations=10_001)
        bare = [str(native / "bare_loop"), str(program), "1", "1000", "10001", *map(str, picture.shape)]
        empty_ns: list[float] = []

        def reported() -> float:
            report = run_program(device, runner, job, timeout_s=_LIMIT_S)
            assert report.overhead_ns is not None
            empty_ns.append(float(report.overhead_ns))
            return statistics.median(report.run_ns)

        def bare_loop() -> float:
            done = subprocess.run(bare, check=True, capture_output=True)
            return float(statistics.median(json.loads(done.stdout)["run_ns"]))

        ours, theirs = in_pairs(reported, bare_loop, pairs=15)
    extra_us = [(a - b) / 1e3 for a, b in zip(ours, theirs, strict=True)]
    empty = {"empty_head_ns": empty_ns}
    return (
        judge("harness's cost per head", "us", 0.02 * HEAD_NS / 1e3, [ns / 1e3 for ns in empty_ns], empty),
        judge("harness's cost of a 5 ms head", "%", 2.0, [100 * ns / HEAD_NS for ns in empty_ns], empty),
        judge("tiny head: runner - bare loop", "us", None, extra_us, {"runner_ns": ours, "bare_ns": theirs}),
    )


def _lower(module: nn.Module, example: torch.Tensor) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ExecuTorch's own, about its own code
        program = to_edge_transform_and_lower(
            torch.export.export(module, (example,)), partitioner=[XnnpackPartitioner()]
        )
        return bytes(program.to_executorch().buffer)


@contextmanager
def _payload() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "incompressible"
        path.write_bytes(os.urandom(PAYLOAD_BYTES))
        yield path


def _seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began
