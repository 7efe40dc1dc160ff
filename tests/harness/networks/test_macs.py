"""Multiply-accumulates are those that others count."""

from __future__ import annotations

import pytest
import torchvision

from harness.networks.models import load_model
from harness.networks.splits import Network


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16"])
def test_macs_and_parameters_are_those_that_torchvision_publishes(name: str) -> None:
    published = torchvision.models.get_model_weights(name).DEFAULT.meta
    whole = Network(load_model(name, weights="random")).points[-1]
    assert whole.head_macs / 1e9 == pytest.approx(published["_ops"], abs=0.001)
    assert whole.head_params == published["num_params"]


def test_every_layer_of_a_small_network_counts(plain: Network) -> None:
    first = 8 * 16 * 16 * (3 * 3 * 3)
    second = 8 * 8 * 8 * (8 * 3 * 3)
    last = 32 * 10
    assert plain.points[-1].head_macs == first + second + last
    by_op = {point.op: point.head_macs for point in plain.points}
    assert by_op["hardtanh"] == first
    assert by_op["relu"] == first + second
