"""What a factory gives becomes a network that can be measured, or one line that says what to do about it."""

from __future__ import annotations

import importlib
import random
import re
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.errors import ModelError, SplitError
from harness.networks.cutting import extract_head
from harness.networks.models import Model, load_model
from harness.networks.splits import Network

SIZE = (32, 32)


def load(factory: str, seed: int = 0) -> Model:
    return load_model(f"brought_networks:{factory}", weights="random", seed=seed, input_size=SIZE)


@pytest.mark.parametrize(
    ("factory", "said", "remedy"),
    [
        ("needs_a_package", r"ModuleNotFoundError: .*nobody_has' \(brought_networks\.py:\d+\)", "install a_package"),
        ("reads_a_file", r"FileNotFoundError: .*best\.pt' \(brought_networks\.py:\d+\)", "where bench was started"),
        ("reads_a_key", r"KeyError: 'backbone' \(brought_networks\.py:\d+\)", "mend that line"),
        ("parses_arguments", r"SystemExit: it ended with status 2 \(brought_networks\.py:\d+\)", "mend that line"),
        ("recurses", r"RecursionError: .* \(brought_networks\.py:\d+\)", "mend that line"),
        ("raises_its_own", r"OfItsOwn: out of \\x1b\[31msorts \(brought_networks\.py:\d+\)", "mend that line"),
        ("needs_arguments", "missing 1 required positional argument: 'width'", "without arguments"),
        ("double_by_default", "its weights are float64, pictures are float32", r"network\.float\(\)"),
        ("half", "its weights are float16, pictures are float32", r"network\.float\(\)"),
        ("on_meta", "on the meta device: '0.weight'", "fill it"),
        ("scripted", "is scripted at '0'", "before torch.jit.script"),
        ("for_28_pixels", "does not take 32x32 pictures", "--input-size"),
        ("Masked", "needs an argument `mask`", "takes the pictures and nothing else"),
        ("GivesADict", r"gives a dict \(out, aux\)", "returns its logits alone"),
        ("GivesADataclass", r"gives a Output \(logits, loss\)", "returns its logits alone"),
        ("GivesClasses", "gives int64 numbers", "before argmax"),
    ],
)
def test_what_cannot_be_measured_is_one_line_with_a_remedy_that_fits(factory: str, said: str, remedy: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        load(factory)
    assert re.search(remedy, caught.value.remedy), caught.value.remedy
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isprintable()


def test_ctrl_c_in_a_factory_is_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt):
        load("interrupted")


def test_what_a_factory_does_to_the_process_is_undone() -> None:
    def state() -> tuple[object, ...]:
        return (
            *(torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(), torch.get_num_threads()),
            *(torch.are_deterministic_algorithms_enabled(), random.random(), float(np.random.rand()), Path.cwd()),
            *(list(sys.argv), list(warnings.filters), signal.getsignal(signal.SIGTERM)),
        )

    random.seed(1)
    np.random.seed(1)
    before = state()
    random.seed(1)
    np.random.seed(1)
    for factory in ("messes", "double_by_default", "on_meta"):
        try:
            load(factory)
        except ModelError:
            continue
    assert state() == before


@pytest.mark.parametrize(
    "factory",
    [
        *("Casts", "BfloatScalar", "channels_last", "lazy", "parallel", "compiled", "inferred", "Complex", "LooksOn"),
        *("ChangesThePicture", "SharesAWeight", "CountsForItself", "HalfInside", "pruned", "weight_normed"),
        *("spectral_normed", "parametrized"),
    ],
)
def test_what_is_usual_is_split_and_its_parts_are_the_network(factory: str) -> None:
    model = load(factory)
    network = Network(model)
    picture = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = model.module(picture.clone())
        for point in network.points:
            head = extract_head(network.graph(1), point.node)  # also where its activation could not be shipped
            found = network.tail(point)(head(picture.clone()))
            assert torch.allclose(found, expected, atol=1e-5), point
    assert len(network.weights_sha256) == 64
    assert not list(
        network.graph(1).graph.find_nodes(op="call_function", target=torch.ops.aten._assert_tensor_metadata)
    )


@pytest.mark.parametrize("factory", ["parallel", "compiled"])
def test_a_wrapped_network_is_the_network(factory: str) -> None:
    alone = load_model("brought_networks:classifier", weights="random", input_size=SIZE)
    assert Network(load(factory)).weights_sha256 == Network(alone).weights_sha256


def test_lazy_layers_are_made_from_the_seed_alone() -> None:
    hashes = [Network(load("lazy", seed)).weights_sha256 for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("factory", ["pruned", "weight_normed", "spectral_normed", "parametrized"])
def test_computed_weights_become_plain_ones_with_the_same_numbers(factory: str) -> None:
    brought = getattr(importlib.import_module("brought_networks"), factory)().eval()
    picture = torch.rand(1, 3, *SIZE)
    model = load(factory)
    with torch.no_grad():
        assert torch.allclose(model.module(picture), brought(picture), atol=1e-6)
    names = {name for name, _ in model.module.named_parameters()}
    assert names == {f"network.{i}.{kind}" for i in (0, 2, 6) for kind in ("weight", "bias")}
    convolutions = [n for n in Network(model).graph(1).graph.nodes if "conv2d" in str(n.target)]
    assert all(n.args[1].op == "get_attr" for n in convolutions)


def test_activations_of_two_bytes_are_counted_as_such() -> None:
    points = Network(load("HalfInside")).points
    assert {point.dtype for point in points} == {"uint8", "float16", "float32"}
    for point in points:
        sides = torch.Size(point.activation_shape).numel()
        assert point.activation_bytes == sides * {"uint8": 1, "float16": 2, "float32": 4}[point.dtype]


def test_a_weight_that_two_layers_share_counts_once() -> None:
    model = load("SharesAWeight")
    own = sum(parameter.numel() for parameter in model.module.parameters())
    assert {point.head_params + point.tail_params for point in Network(model).points} == {own}


def test_shapes_that_depend_on_values_are_refused() -> None:
    model = load("ChoosesShapes")
    with pytest.raises(SplitError, match="depend on the values of tensors"):
        Network(model)


def test_statistics_that_a_factorys_network_has_learned_stay() -> None:
    def calibration(size: tuple[int, int]) -> torch.Tensor:
        return torch.rand(8, 3, *size)

    name = "brought_networks:with_learned_statistics"
    model = load_model(name, weights="auto", input_size=SIZE, calibration=calibration)
    statistics = model.module.network.get_submodule("1").get_buffer("running_var")
    assert statistics.tolist() == [9.0] * 4
    assert model.trained
    assert model.weights == "as the factory gives them"


def test_what_a_factory_prints_does_not_go_into_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    load("prints")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "shapes as expected\n")
