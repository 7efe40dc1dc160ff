"""The fastest engine is taken, and those that cannot be used say why."""

from __future__ import annotations

import pytest
import torch

from device_runner.registry import Registry
from harness.codecs import Uint8
from harness.networks.splits import Network
from harness.results.schema import ChosenEngine
from harness.tails import Engine, choice
from harness.tails.process import TailProcess, TailRequest


def chosen_among(names: tuple[str, ...], network: Network, monkeypatch: pytest.MonkeyPatch) -> ChosenEngine:
    targets = {name: name for name in map(own, names)}
    monkeypatch.setattr(choice, "ENGINES", Registry[Engine]("tail engine", "harness.tails.base:Engine", targets))
    with TailProcess(threads=1) as process:
        return choice.fastest(process, TailRequest(network, network.points[0], Uint8(), torch.rand(1, 3, 32, 32)))


def own(name: str) -> str:
    return f"tests.parts.engines:{name}"


def test_the_engine_with_the_least_median_is_chosen(plain: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = chosen_among(("Slow", "Sound"), plain, monkeypatch)
    assert chosen.engine == own("Sound")
    assert chosen.times_ms[own("Slow")] > 20 > chosen.times_ms[own("Sound")]


def test_engines_that_cannot_take_the_network_are_left_out(plain: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = chosen_among(("Slow", "Refuses"), plain, monkeypatch)
    assert (chosen.engine, set(chosen.times_ms)) == (own("Slow"), {own("Slow")})
    assert "OutOfMemoryError" in chosen.unavailable[own("Refuses")]


def test_where_no_engine_can_compute_it_pytorch_is_to_say_why(plain: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = chosen_among(("Refuses",), plain, monkeypatch)
    assert (chosen.engine, chosen.times_ms) == ("torch", {})
    assert "OutOfMemoryError" in chosen.unavailable[own("Refuses")]
