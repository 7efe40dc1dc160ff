"""Head and tail are the network, at every split point; and split points are where a deployed head can end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from device_runner.errors import UsageError
from device_runner.frames import Frame, decode_payload, encode_payload
from harness.errors import ModelError, SplitError
from harness.networks.cutting import capture, extract_head
from harness.networks.models import load_model, model_names
from harness.networks.splits import Network, SplitPoint

# Name, side of the picture, and which of the finest splits are tried: every n-th.
FAMILIES = [
    *(("efficientnet_lite0", 64, 1), ("resnet18", 32, 1), ("squeezenet1_0", 32, 1), ("vgg11", 32, 2)),
    *(("mobilenet_v2", 32, 3), ("mobilenet_v3_small", 32, 3), ("densenet121", 32, 3), ("googlenet", 32, 3)),
    *(("shufflenet_v2_x0_5", 32, 6), ("convnext_tiny", 32, 4), ("swin_t", 32, 5), ("vit_b_16", 32, 5)),
]
# The smallest first: most networks take any of these, some only their own size.
SIDES = (64, 128, 224, 256)

Lively = Callable[[str, int], Network]


@pytest.fixture(autouse=True)
def _attention_as_written() -> Iterator[None]:
    """PyTorch's eager attention has a shortcut (one fused kernel, last digits differ) that no exported graph takes."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def check_splits(network: Network, points: tuple[SplitPoint, ...]) -> None:
    """Assert for each point that head and tail are the network, before and after a frame, and nothing is changed."""
    side = network.model.input_size
    picture = torch.rand(1, 3, *side, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits = network.model.module(picture)
        scale = float(logits.abs().max())
        assert scale > 0.01, "a wrong tail would not show"
        for point in points:
            activation = network.head(point)(picture)
            before = activation.clone()
            assert tuple(activation.shape) == point.activation_shape, point
            tail = network.tail(point)
            assert torch.equal(tail(activation), logits), point
            assert torch.equal(activation, before), point
            payload = encode_payload(Frame({}, {"activation": activation.numpy()}))
            arrived = torch.from_numpy(decode_payload(payload).tensors["activation"].copy())
            assert float((tail(arrived) - logits).abs().max()) <= 1e-5 * max(1.0, scale), point


@pytest.mark.parametrize(("name", "side", "step"), FAMILIES)
def test_head_and_tail_are_the_network(lively: Lively, name: str, side: int, step: int) -> None:
    network = lively(name, side)
    check_splits(network, (*network.points[::step], network.points[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("name", model_names())
def test_head_and_tail_are_the_network_in_every_model(lively: Lively, name: str) -> None:
    own = load_model(name, weights="random").input_size[0] if name.startswith("vit_") else 0
    for side in (*SIDES, own):
        try:
            network = lively.__wrapped__(name, side)  # type: ignore[attr-defined]  # 83 networks are too many to keep
            break
        except (ModelError, SplitError) as exc:
            last = exc
    else:
        raise AssertionError(f"{name} can be split at no size") from last
    check_splits(network, (*network.points[::5], *network.points[-2:]))


@pytest.mark.parametrize(("name", "side", "step"), FAMILIES)
def test_numbers_are_places_and_names_are_unique(lively: Lively, name: str, side: int, step: int) -> None:
    del step
    points = lively(name, side).points
    assert [point.index for point in points] == list(range(len(points)))
    assert len({point.name for point in points}) == len(points)
    assert points[0].name == points[0].op == "picture"
    assert points[0].activation_bytes == 3 * side * side


@pytest.mark.parametrize(("name", "side", "step"), FAMILIES)
def test_head_and_tail_share_all_parameters_and_macs(lively: Lively, name: str, side: int, step: int) -> None:
    del step
    points = lively(name, side).points
    assert len({point.head_macs + point.tail_macs for point in points}) == 1
    assert len({point.head_params + point.tail_params for point in points}) == 1
    assert (points[0].head_macs, points[-1].tail_macs) == (points[0].head_params, points[-1].tail_params) == (0, 0)
    assert [p.head_macs for p in points] == sorted(p.head_macs for p in points)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "squeezenet1_0"])
def test_no_two_splits_of_all_ship_the_same_numbers(lively: Lively, name: str) -> None:
    network = lively(name, 64)  # large enough that no pooling at the end finds a single pixel
    points = network.all_points[1:]
    nodes = {point.node: point.index for point in points}
    values = capture(network.graph(1), torch.rand(1, 3, 64, 64), nodes)
    flat = {np.sort(value.numpy(), axis=None).tobytes() for value in values.values()}
    assert len(flat) == len(points)


@pytest.mark.parametrize(("name", "side", "step"), FAMILIES)
def test_all_holds_picture_and_logits_and_no_split_inside_a_kernel(
    lively: Lively, name: str, side: int, step: int
) -> None:
    del step
    network = lively(name, side)
    assert network.all_points[0] == network.points[0]
    assert network.all_points[-1] == network.points[-1]
    targets = {node.name: str(node.target) for node in network.graph(1).graph.nodes}
    users = {node.name: [user.name for user in node.users] for node in network.graph(1).graph.nodes}
    for point in network.all_points[1:-1]:
        assert not any(kind in targets[point.node] for kind in ("view", "permute", "dropout", "pad.", "clone")), point
        behind = [targets[user] for user in users[point.node]]
        assert not (len(behind) == 1 and any(k in behind[0] for k in ("batch_norm", "relu", "hardtanh"))), point


@pytest.mark.parametrize(
    ("name", "side", "inside", "outside"),
    [
        ("resnet18", 32, ["relu", "maxpool", "layer1.0", "layer1", "layer4"], ["conv1", "bn1"]),
        ("vgg11", 32, ["features.1", "features.2", "classifier.1"], ["features.0", "classifier.0", "classifier.3"]),
        ("mobilenet_v2", 32, ["features.0", "features.0.2", "features.3"], ["features.0.0", "features.0.1"]),
    ],
)
def test_known_splits_are_in_all_or_not(
    lively: Lively, name: str, side: int, inside: list[str], outside: list[str]
) -> None:
    network = lively(name, side)
    for path in inside:
        assert network.select(path)[0].in_all, path
    for path in outside:
        assert not network.select(path)[0].in_all, path


def test_efficientnet_lite0_has_33_heads_in_all(lively: Lively) -> None:
    assert len([point for point in lively("efficientnet_lite0", 64).all_points if point.index]) == 33


def test_a_split_knows_its_activation(lively: Lively) -> None:
    (point,) = lively("resnet18", 32).select("layer1")
    assert point.activation_shape == (1, 64, 8, 8)
    assert point.activation_bytes == 4 * 64 * 8 * 8


def test_the_call_of_a_module_that_is_used_twice_has_a_name_of_its_own(lively: Lively) -> None:
    network = lively("resnet18", 32)
    assert network.select("layer1.0.relu@1") == network.select("layer1.0")


# naming splits


def test_numbers_ranges_and_paths_name_splits(plain: Network) -> None:
    points = plain.points
    assert plain.select("finest") == points
    assert plain.select("all") == plain.all_points
    assert plain.select("3") == (points[3],)
    assert plain.select("1-3") == points[1:4]
    assert plain.select("3, 0,2-3") == (points[0], points[2], points[3])


def test_a_split_is_found_by_any_path_that_ends_in_it(lively: Lively) -> None:
    network = lively("resnet18", 32)
    (layer,) = network.select("layer1")
    for alias in layer.aliases:
        assert network.select(alias) == (layer,)
    assert "layer1.1" in layer.aliases


@pytest.mark.parametrize("spec", ["99", "3-99", "5-2", "0,99"])
def test_a_number_out_of_range_is_told_the_range(plain: Network, spec: str) -> None:
    with pytest.raises(UsageError, match=f"0 to {len(plain.points) - 1}"):
        plain.select(spec)


def test_an_unknown_path_gets_near_names(lively: Lively) -> None:
    with pytest.raises(UsageError, match="did you mean layer1"):
        lively("resnet18", 32).select("laier1")


@pytest.mark.parametrize("spec", ["", ",", "1,,2", "-1"])
def test_half_a_spec_is_a_usage_error(plain: Network, spec: str) -> None:
    with pytest.raises(UsageError, match="has no split"):
        plain.select(spec)


# networks that make it hard


@pytest.mark.parametrize("factory", ["InPlace", "Strided"])
def test_no_tail_changes_what_it_is_handed(lively: Lively, factory: str) -> None:
    network = lively(f"tiny_networks:{factory}", 16)
    assert len(network.points) > 4
    check_splits(network, network.points)


def test_a_picture_that_is_used_again_leaves_no_split_between(lively: Lively) -> None:
    network = lively("tiny_networks:KeepsInput", 16)
    assert [point.op for point in network.points] == ["picture", "sub", "mul", "add"]
    assert network.all_points == (network.points[0], network.points[-1])
    check_splits(network, network.points)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("Branching", r"cannot be exported by torch.export: it branches on the values of tensors \(tiny_networks.py"),
        ("TwoOutputs", "gives a tuple of 2"),
        ("IgnoresPicture", "does not depend on the picture"),
    ],
)
def test_a_network_that_cannot_be_split_gets_one_line(factory: str, said: str) -> None:
    with pytest.raises((ModelError, SplitError), match=said) as caught:
        Network(load_model(f"tiny_networks:{factory}", weights="random", input_size=(16, 16)))
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) == 1


# graphs


def test_node_names_do_not_depend_on_the_batch_size(plain: Network) -> None:
    names = [[node.name for node in plain.graph(batch).graph.nodes] for batch in (1, 5)]
    assert names[0] == names[1]


def test_activations_of_many_splits_are_those_of_their_heads(plain: Network) -> None:
    pictures = torch.randint(256, (5, 3, 32, 32)) / 255  # as it travels at split 0
    batches = list(plain.activations(pictures, plain.points, batch=2))
    assert [len(batch[0]) for batch in batches] == [2, 2, 1]
    for point in plain.points:
        together = torch.cat([batch[point.index] for batch in batches])
        alone = torch.cat([plain.head(point)(picture[None]) for picture in pictures])
        assert torch.allclose(together, alone, atol=1e-4), point


def test_a_head_can_have_many_ends(plain: Network) -> None:
    ends = [point.node for point in plain.points[1:4]]
    picture = torch.rand(1, 3, 32, 32)
    for value, end in zip(extract_head(plain.graph(1), *ends)(picture), ends, strict=True):
        assert torch.equal(value, extract_head(plain.graph(1), end)(picture))
