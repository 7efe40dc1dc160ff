"""Fitting on pictures whose photograph is plain to see, and on such as tell nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from analysis.study import fitting
from analysis.study.families import CLASSES, FAMILIES
from analysis.study.fitting import Fitted, fit
from harness.errors import PictureError
from harness.networks.models import PictureModel

NAMES = ("sea", "wood", "sky")
# Of the colour, beside the noise's 1: what makes the task easy.
STRENGTH = 0.1


def coloured(count: int = 48) -> tuple[Tensor, list[str]]:
    """Noise of one colour a photograph: 32x32 pixels on [0, 1], photographs taking turns."""
    noise = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    colours = torch.eye(3)[torch.arange(count) % 3] * STRENGTH
    return (noise + colours[:, :, None, None]) / (1 + STRENGTH), [NAMES[index % 3] for index in range(count)]


def network(family: str = "skip") -> PictureModel:
    return FAMILIES[family][0].build(0)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit(network(), *coloured(), seed=0, target=0.9, most_steps=60)


def test_it_ends_at_the_first_judgement_that_finds_the_target_reached(fitted: Fitted) -> None:
    assert fitted.reached
    assert fitted.accuracy >= 0.9
    assert fitted.steps < 60
    before = fitted.steps - fitting.STEPS_BETWEEN_JUDGEMENTS
    assert before > 0, "the task is too easy for this test"
    earlier = fit(network(), *coloured(), seed=0, target=0.9, most_steps=before)
    assert (earlier.steps, earlier.reached) == (before, False)


def test_the_accuracy_is_that_of_the_network_it_gives(fitted: Fitted) -> None:
    pictures, sources = coloured()
    aside = [index for index in range(len(sources)) if index // 3 % 4 == 3]
    with torch.no_grad():
        named = fitted.network(pictures[aside]).argmax(1)
    right = [sorted(NAMES)[int(index)] == sources[place] for index, place in zip(named, aside, strict=True)]
    assert fitted.accuracy == pytest.approx(sum(right) / len(right))


def test_crops_kept_aside_are_not_fitted_to() -> None:
    """Photographs that cannot be told apart are not told apart on crops kept aside, however long one fits."""
    pictures = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    result = fit(
        network(), pictures, [NAMES[index // 2 % 2] for index in range(64)], seed=0, target=0.95, most_steps=60
    )
    assert not result.reached
    assert result.steps == 60


def test_the_same_arguments_give_the_same_weights(fitted: Fitted) -> None:
    torch.manual_seed(9)  # nobody else's random numbers may matter
    again = fit(network(), *coloured(), seed=0, target=0.9, most_steps=60)
    other = fit(network(), *coloured(), seed=1, target=0.9, most_steps=60)
    weights = [result.network.state_dict()["network.stem.0.weight"] for result in (fitted, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_network_it_is_given_stays_as_it_is() -> None:
    given = network()
    before = {key: value.clone() for key, value in given.state_dict().items()}
    following = torch.random.get_rng_state()
    fit(given, *coloured(), seed=0, target=2.0, most_steps=3)
    assert all(torch.equal(value, before[key]) for key, value in given.state_dict().items())
    assert torch.equal(following, torch.random.get_rng_state())


def test_a_fitted_network_is_ready_for_use(fitted: Fitted) -> None:
    assert not any(module.training for module in fitted.network.modules())
    pictures, _ = coloured(6)
    with torch.no_grad():
        together = fitted.network(pictures)
        alone = torch.cat([fitted.network(picture[None]) for picture in pictures])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_no_steps_leave_the_weights_alone() -> None:
    result = fit(network(), *coloured(), seed=0, target=2.0, most_steps=0)
    assert (result.steps, result.reached) == (0, False)
    assert torch.equal(result.network.network.stem[0].weight, network().network.stem[0].weight)  # type: ignore[index,union-attr]


def test_where_photographs_are_more_than_logits_the_first_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "CLASSES", 2)
    pictures, sources = coloured()
    two = [index for index, source in enumerate(sources) if source != "wood"]
    chosen = fit(network(), pictures, sources, seed=0, target=2.0, most_steps=2)
    same = fit(network(), pictures[two], [sources[index] for index in two], seed=0, target=2.0, most_steps=2)
    assert torch.equal(
        chosen.network.state_dict()["network.stem.0.weight"], same.network.state_dict()["network.stem.0.weight"]
    )


@pytest.mark.parametrize("sources", [["sea"] * 12, ["sea"] * 9 + ["wood"] * 3, []])
def test_too_few_crops_to_tell_apart_are_an_error(sources: list[str]) -> None:
    pictures = torch.zeros(len(sources), 3, 32, 32)
    with pytest.raises(PictureError, match="have 4 crops or more") as error:
        fit(network(), pictures, sources, seed=0, target=0.9, most_steps=1)
    assert "\n" not in str(error.value)


def test_there_are_logits_for_all_built_in_photographs() -> None:
    assert CLASSES >= 17
