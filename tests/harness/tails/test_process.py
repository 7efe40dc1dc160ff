"""What goes wrong in an engine takes nothing with it: it is one tail's reason, and another engine takes its place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
import torch

from harness.codecs import Fp32
from harness.errors import TailError
from harness.networks.cutting import capture
from harness.networks.splits import Network, SplitPoint
from harness.tails.process import TailProcess, TailRequest

PICTURE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def process() -> Iterator[TailProcess]:
    with TailProcess(threads=1) as started:
        yield started


def own(name: str) -> str:
    return f"tests.parts.engines:{name}"


def request(network: Network, point: SplitPoint) -> TailRequest:
    return TailRequest(network, point, Fp32(), PICTURE)


def activation(network: Network, point: SplitPoint) -> np.ndarray:
    return capture(network.graph(1), PICTURE, {point.node: 0})[0].numpy()


def answers(process: TailProcess, engine: str, network: Network, point: SplitPoint) -> tuple[str, str]:
    """The engine that answered rightly in the end, and why it is not the one asked for."""
    with process.loaded(engine, [request(network, point)]) as (tail,):
        logits = tail.answer(activation(network, point)).logits
        expected = network.graph(1)(PICTURE).detach().numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
        return tail.engine, tail.reason


def test_an_engine_of_the_user_s_own_answers(process: TailProcess, plain: Network) -> None:
    assert answers(process, own("Sound"), plain, plain.points[1]) == (own("Sound"), "")


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        ("Refuses", "OutOfMemoryError: CUDA out of memory"),
        ("Wrong", "its logits are 1.0e-01 off PyTorch's"),
        ("Missing", "has no 'Missing'"),
    ],
)
def test_a_tail_that_an_engine_cannot_take_runs_on_pytorch_and_says_why(
    process: TailProcess, plain: Network, engine: str, why: str
) -> None:
    used, reason = answers(process, own(engine), plain, plain.points[1])
    assert used == "torch"
    assert reason.startswith(own(engine))
    assert why in reason


def test_a_tail_that_was_not_lowered_runs_on_pytorch(process: TailProcess, plain: Network) -> None:
    without = TailRequest(plain, plain.points[1], Fp32(), PICTURE, failure="split 3 cannot be lowered: no operator")
    with process.loaded("executorch", [without]) as (tail,):
        assert tail.engine == "torch"
        assert tail.reason == "executorch: RuntimeError: split 3 cannot be lowered: no operator"


def test_an_engine_that_dies_while_it_loads_leaves_the_other_tails_ready(plain: Network) -> None:
    with TailProcess(threads=1) as process:
        engine, points = own("DiesWhileLoading"), [plain.points[1], plain.points[-1]]
        with process.loaded(engine, [request(plain, point) for point in points]) as tails:
            for tail, point in zip(tails, points, strict=True):
                tail.answer(activation(plain, point))
            assert [tail.engine for tail in tails] == [engine, "torch"]
            assert f"status {-signal.SIGSEGV}" in tails[1].reason


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        ("GivesNaN", "its logits hold NaN"),
        ("Raises", "RuntimeError: CUDA error: device-side assert triggered"),
        ("Dies", f"its process ended (status {-signal.SIGSEGV})"),
    ],
)
def test_an_answer_that_fails_is_one_error_and_the_next_tail_is_answered(plain: Network, engine: str, why: str) -> None:
    point = plain.points[1]
    with TailProcess(threads=1) as process:
        with process.loaded(own(engine), [request(plain, point)]) as (tail,), pytest.raises(TailError) as caught:
            tail.answer(activation(plain, point))
        assert why in str(caught.value)
        assert f"split {point.index} ({point.name})" in str(caught.value)
        assert answers(process, "torch", plain, point) == ("torch", "")


def test_the_process_ends_with_its_harness() -> None:
    code = (
        "import os\n"
        "from harness.tails.process import TailProcess\n"
        "process = TailProcess(threads=1)\n"
        "process.start()\n"
        "print(process._connected.process.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as harness:
        assert harness.stdout is not None
        child = psutil.Process(int(harness.stdout.readline()))
        os.kill(harness.pid, signal.SIGKILL)
        child.wait(timeout=60)


def test_an_activation_larger_than_the_shared_memory_is_refused(
    process: TailProcess, plain: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.tails.process.BUFFER_BYTES", 16)
    point = plain.points[1]
    with process.loaded("torch", [request(plain, point)]) as (tail,), pytest.raises(TailError, match="is too large"):
        tail.answer(activation(plain, point))
