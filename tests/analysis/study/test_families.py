"""The controlled families: equal in all but one thing, and cut where they say."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from analysis.study.families import CLASSES, DEPTHS, FAMILIES, Member, Structure
from harness.networks.splits import Network, SplitPoint

# How far parameters and MACs of a head may be from those of the reference.
TOLERANCE = 0.05


def pictures(count: int) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@cache
def points(structure: Structure, cuts: tuple[str, ...]) -> tuple[SplitPoint, ...]:
    """Where a network is cut; families share their reference, and export takes a second."""
    member = Member("any", "any", structure, cuts)
    network = Network(member.model(member.build(0), "random, seed 0"))
    named = {alias: point for point in network.points for alias in (point.name, *point.aliases)}
    return tuple(named[cut] for cut in cuts)


def convolutions(network: nn.Module) -> list[Tensor]:
    return [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]


EVERY = [member for family in FAMILIES.values() for member in family]
# Their export takes seconds, and shows little that the shallower ones' does not.
CASES = [
    pytest.param(
        member,
        id=f"{member.family}-{member.name}",
        marks=[pytest.mark.slow] * (member.structure.convolutions[0] > 4),
    )
    for member in EVERY
]


def test_the_families_are_those_of_the_study() -> None:
    assert {name: tuple(member.name for member in family) for name, family in FAMILIES.items()} == {
        "skip": ("plain", "residual", "dense"),
        "branches": ("one", "inception"),
        "depth": tuple(f"{body}_{depth}" for body in ("plain", "residual") for depth in DEPTHS),
        "pooling": ("stride", "max"),
        "norm": ("with", "without"),
        "activation": ("relu", "gelu"),
    }
    assert all(member.family == name for name, family in FAMILIES.items() for member in family)


def test_what_differs_within_a_family_is_one_thing() -> None:
    for family in FAMILIES.values():
        reference = asdict(family[0].structure)
        for member in family[1:]:
            differing = {key for key, value in asdict(member.structure).items() if value != reference[key]}
            assert len(differing) == 1 or (member.family == "depth" and differing == {"body", "convolutions"})


@pytest.mark.parametrize("member", CASES)
def test_cuts_are_split_points_with_the_shapes_of_the_reference(member: Member) -> None:
    reference = FAMILIES[member.family][0]
    found, expected = (points(v.structure, v.cuts) for v in (member, reference))
    assert len(member.cuts) == len(reference.cuts) >= 2
    assert all(point.in_all for point in found)
    assert [p.activation_shape for p in found] == [p.activation_shape for p in expected]
    assert [p.index for p in found] == sorted(p.index for p in found)


@pytest.mark.parametrize("member", [case for case in CASES if "depth" not in str(case.id)])
def test_heads_cost_what_the_reference_costs(member: Member) -> None:
    reference = FAMILIES[member.family][0]
    for found, expected in zip(
        points(member.structure, member.cuts), points(reference.structure, reference.cuts), strict=True
    ):
        assert found.head_params == pytest.approx(expected.head_params, rel=TOLERANCE)
        assert found.head_macs == pytest.approx(expected.head_macs, rel=TOLERANCE)


@pytest.mark.parametrize("member", EVERY, ids=lambda member: f"{member.family}-{member.name}")
def test_it_takes_pictures_to_logits(member: Member) -> None:
    network = member.build(0)
    assert not any(module.training for module in network.modules())
    with torch.no_grad():
        logits = network(pictures(2))
    assert logits.shape == (2, CLASSES)
    assert torch.isfinite(logits).all()


def test_weights_come_from_the_seed_alone() -> None:
    member = FAMILIES["skip"][0]
    torch.manual_seed(5)
    first, following = member.build(3), torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(following, torch.rand(1)), "nobody else's random numbers change"
    again, other = member.build(3).state_dict(), member.build(4).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.state_dict().items())
    assert not torch.equal(other["network.stem.0.weight"], again["network.stem.0.weight"])


@pytest.mark.parametrize(
    ("family", "name"), [("skip", "residual"), ("pooling", "max"), ("norm", "without"), ("activation", "gelu")]
)
def test_one_seed_gives_the_same_convolutions_to_variants_that_have_the_same(family: str, name: str) -> None:
    reference, member = FAMILIES[family][0], next(v for v in FAMILIES[family] if v.name == name)
    pairs = zip(convolutions(reference.build(1)), convolutions(member.build(1)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_random_weights_make_up_for_what_a_relu_takes_away() -> None:
    """He initialisation: a variance of 2 / inputs."""
    for weight in convolutions(FAMILIES["norm"][1].build(0)):
        assert float(weight.detach().square().mean()) == pytest.approx(2 / weight[0].numel(), rel=0.15)


def test_depth_counts_the_convolutions_of_the_first_stage() -> None:
    for member in FAMILIES["depth"]:
        stages = [len(convolutions(member.build(0).network.get_submodule(cut))) for cut in member.cuts]
        assert stages == [1 + int(member.name.split("_")[1]), 3]


def test_a_residual_block_passes_on_what_it_adds_nothing_to() -> None:
    body = FAMILIES["skip"][1].build(0).network.get_submodule("stage1.1")
    for weight in convolutions(body):
        nn.init.zeros_(weight)
    given = torch.rand(1, 32, 16, 16)
    assert torch.equal(body(given), given)


def test_a_dense_body_hands_its_input_and_all_it_made_to_each_convolution() -> None:
    first, second, last = convolutions(FAMILIES["skip"][2].build(0).network.get_submodule("stage1.1"))
    assert first.shape[1] == 32
    assert second.shape[1] == 32 + len(first)
    assert last.shape == (32, 32 + len(first) + len(second), 1, 1)


def test_an_inception_module_has_kernels_of_three_sizes() -> None:
    module = FAMILIES["branches"][1].build(0).network.get_submodule("stage1.1.0")
    assert [weight.shape[-1] for weight in convolutions(module)] == [1, 1, 3, 1, 5, 1]


def test_untrained_networks_are_calibrated_on_the_pictures_and_say_what_they_are() -> None:
    member = FAMILIES["skip"][0]
    given = pictures(32)
    model = member.untrained(7, given)
    stem = model.module.network.get_submodule("stem")
    with torch.no_grad():
        normed = nn.Sequential(stem.get_submodule("0"), stem.get_submodule("1"))((given - 0.5) / 0.25)
    torch.testing.assert_close(normed.mean((0, 2, 3)), torch.zeros(32), atol=1e-4, rtol=0)
    assert (model.name, model.weights, model.trained) == ("skip/plain", "random, seed 7", False)
    assert Network(model).weights_sha256 != Network(member.model(member.build(7), "not calibrated")).weights_sha256


def test_a_variant_can_do_without_batch_norm_or_relu() -> None:
    kinds = {
        member.name: {type(module) for module in member.build(0).modules()}
        for family in ("norm", "activation")
        for member in FAMILIES[family]
    }
    assert nn.BatchNorm2d in kinds["with"] - kinds["without"]
    assert nn.ReLU in kinds["relu"] - kinds["gelu"]
    assert nn.GELU in kinds["gelu"] - kinds["relu"]
