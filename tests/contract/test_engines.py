"""What every tail engine promises: PyTorch's logits at every split, whatever the activation travelled as."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from harness.codecs import Codec, Fp32, Int8, Uint8
from harness.export.exporter import ExportSettings, export
from harness.export.manifest import Exported
from harness.export.program import Program
from harness.export.tail_parts import tail_parts
from harness.networks.cutting import capture
from harness.networks.models import load_model
from harness.networks.splits import Network, SplitPoint
from harness.tails import ENGINES
from harness.tails.process import LoadedTail, TailProcess, TailRequest

SIDE = 32
AVAILABLE = [name for name in ENGINES if not ENGINES.load(name).unavailable()]
Made = dict[Program, Path]


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(3)
    model = load_model(
        "tests.e2e.tiny_network:deeper",
        weights="random",
        input_size=(SIDE, SIDE),
        calibration=lambda size: torch.rand(32, 3, *size),
    )
    return Network(model)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (1, 3, SIDE, SIDE), np.uint8)


@pytest.fixture(scope="module")
def programs(network: Network, pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Made:
    settings = ExportSettings("fp32", torch.from_numpy(pixels[0]), "", tmp_path_factory.mktemp("exported"))
    wanted = list(dict.fromkeys(part for point in network.points for part in tail_parts(network, point)))
    made = dict(export(network, wanted, settings, lambda: network))
    assert not [str(one) for one in made.values() if not isinstance(one, Exported)]
    return {part: one.program for part, one in made.items() if isinstance(one, Exported) and one.program}


@pytest.fixture(scope="module")
def process() -> Iterator[TailProcess]:
    with TailProcess(threads=2) as started:
        yield started


def request(network: Network, point: SplitPoint, codec: Codec, pixels: np.ndarray, made: Made) -> TailRequest:
    programs = tuple(made[part] for part in tail_parts(network, point))
    return TailRequest(network, point, codec, torch.from_numpy(pixels).float() / 255, programs)


def activation(network: Network, point: SplitPoint, pixels: np.ndarray) -> torch.Tensor:
    picture = torch.from_numpy(pixels).float() / 255
    return capture(network.graph(1), picture, {point.node: 0})[0] if point.index else picture


def assert_answers(tail: LoadedTail, received: np.ndarray, network: Network, value: torch.Tensor) -> None:
    before = received.copy()
    for _ in range(2):
        answer = tail.answer(received)
        with torch.no_grad():
            expected = network.tail(tail.request.point)(value)
        np.testing.assert_allclose(answer.logits, expected.numpy(), rtol=1e-4, atol=1e-5)
        assert answer.logits.dtype == np.float32
        assert answer.decode_ns > 0
    np.testing.assert_array_equal(received, before)


@pytest.mark.parametrize("engine", AVAILABLE)
def test_every_tail_gives_pytorch_s_logits(
    engine: str, network: Network, pixels: np.ndarray, programs: Made, process: TailProcess
) -> None:
    requests = [request(network, p, Fp32() if p.index else Uint8(), pixels, programs) for p in network.points]
    with process.loaded(engine, requests) as tails:
        for tail, point in zip(tails, network.points, strict=True):
            assert (tail.engine, tail.reason) == (engine, "")
            value = activation(network, point, pixels)
            assert_answers(tail, value.numpy() if point.index else pixels, network, value)


@pytest.mark.parametrize("engine", AVAILABLE)
def test_quantised_activations_are_read_before_the_tail(
    engine: str, network: Network, pixels: np.ndarray, programs: Made, process: TailProcess
) -> None:
    point = network.all_points[3]
    value = activation(network, point, pixels)
    codec = Int8(scale=float(value.max()) / 255, zero_point=-128)
    steps = (value / codec.scale + codec.zero_point).round().clamp(-128, 127).to(torch.int8)
    with process.loaded(engine, [request(network, point, codec, pixels, programs)]) as (tail,):
        assert_answers(tail, steps.numpy(), network, codec.decode(steps))


def test_executorch_s_threads_do_not_share_a_core(
    network: Network, pixels: np.ndarray, programs: Made, process: TailProcess
) -> None:
    with process.loaded("executorch", [request(network, network.points[0], Uint8(), pixels, programs)]):
        assert process._connected is not None
        threads = psutil.Process(process._connected.process.pid).threads()
    cores = [os.sched_getaffinity(thread.id) for thread in threads]
    alone = [next(iter(allowed)) for allowed in cores if len(allowed) == 1]
    here = len(os.sched_getaffinity(0))
    assert len(alone) == len(set(alone)) == (process.threads if process.threads <= here else 0)


@pytest.mark.parametrize("engine", sorted(set(ENGINES) - set(AVAILABLE)))
def test_an_engine_that_is_not_here_says_why(engine: str) -> None:
    assert "sees no" in ENGINES.load(engine).unavailable()
