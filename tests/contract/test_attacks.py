"""What every registered attack promises; a new one is tested without touching this file."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from analysis.attacks import ATTACKS, Attack, CrossFitted, Pairs, in_validation
from analysis.errors import AttackError
from analysis.metrics import floor_psnr_db, psnr_db
from tests.parts.smooth import mixing_head, smooth_pictures

SOURCES = 6
# Far too little to train anything in: what does not depend on time must hold at once.
TINY_BUDGET_S = 1e-3
# Enough for an attack that begins from nothing.
SHORT_BUDGET_S = 0.8


def silent_head(seen: Tensor) -> Tensor:
    """Tells nothing."""
    return 0 * mixing_head(seen)


def pairs(count: int = 48, *, seed: int = 0, noise: bool = False) -> Pairs:
    seen = smooth_pictures(count, seed)
    activations = mixing_head(seen)
    if noise:
        activations = torch.randn(activations.shape, generator=torch.Generator().manual_seed(seed + 100))
    return Pairs(seen, activations, tuple(f"photograph-{index % SOURCES}" for index in range(count)))


def channels_last(maps: Tensor) -> Tensor:
    """N x C x h x w -> N x h x w x C, as Swin has them."""
    return maps.permute(0, 2, 3, 1).contiguous()


def tokens(maps: Tensor) -> Tensor:
    """N x C x h x w -> N x (1 + h * w) x C, as ViT has them: a class token, and all others know their place."""
    places = maps.flatten(2).mT
    positions = 3 * torch.randn(places.shape[1:], generator=torch.Generator().manual_seed(5))
    return torch.cat([places.mean(1, keepdim=True), places + positions], dim=1)


@pytest.fixture(params=sorted(ATTACKS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def attack(name: str) -> Attack:
    return ATTACKS.load(name)()


@pytest.fixture
def fitted(attack: Attack) -> Attack:
    attack.fit(pairs(), head=mixing_head, budget_s=TINY_BUDGET_S)
    return attack


def test_it_says_what_it_is(name: str) -> None:
    kind = ATTACKS.load(name)
    assert kind.name == name
    assert kind.access in {"black-box", "white-box"}
    assert kind.knows
    assert kind.cost
    assert kind.fewest_sources >= 2
    assert kind.__doc__
    assert len(kind.__doc__.splitlines()[0]) > 20, "the first line of the docstring is what the report shows"


def test_it_does_not_skip_an_ordinary_split(attack: Attack) -> None:
    assert attack.skip((12, 8, 8), (16, 16)) is None


def test_it_gives_pictures_of_the_right_size_and_range(fitted: Attack) -> None:
    rebuilt = fitted.rebuild(pairs(5, seed=1).activations * 3)
    assert rebuilt.shape == (5, 3, 16, 16)
    assert rebuilt.dtype == torch.float32
    assert not rebuilt.requires_grad
    assert 0 <= rebuilt.min() <= rebuilt.max() <= 1


def test_its_answers_to_what_it_never_saw_are_on_the_range_already(fitted: Attack) -> None:
    answers = fitted.unclipped(pairs(5, seed=1).activations * 3)
    assert 0 <= answers.min() <= answers.max() <= 1


def test_it_rebuilds_pictures_that_a_head_with_an_inverse_shipped(attack: Attack) -> None:
    own, held_out = pairs(), pairs(8, seed=1)
    attack.fit(own, head=mixing_head, budget_s=SHORT_BUDGET_S)
    reached = psnr_db(held_out.pictures, attack.rebuild(held_out.activations)).mean()
    assert reached > floor_psnr_db(own.pictures, held_out.pictures).mean() + 10


@pytest.mark.parametrize("form", [channels_last, tokens])
def test_it_rebuilds_them_from_the_forms_that_transformers_ship(
    attack: Attack, form: Callable[[Tensor], Tensor]
) -> None:
    own, held_out = pairs(), pairs(8, seed=1)
    formed = Pairs(own.pictures, form(own.activations), own.sources)
    attack.fit(formed, head=lambda seen: form(mixing_head(seen)), budget_s=SHORT_BUDGET_S)
    reached = psnr_db(held_out.pictures, attack.rebuild(form(held_out.activations))).mean()
    assert reached > floor_psnr_db(own.pictures, held_out.pictures).mean() + 10


def test_it_finds_nothing_where_activations_are_noise(attack: Attack) -> None:
    own, held_out = pairs(noise=True), pairs(8, seed=1, noise=True)
    attack.fit(own, head=mixing_head, budget_s=SHORT_BUDGET_S)
    reached = psnr_db(held_out.pictures, attack.rebuild(held_out.activations)).mean()
    assert reached < floor_psnr_db(own.pictures, held_out.pictures).mean() + 0.5


@pytest.mark.parametrize(
    "shape", [(4, 8, 8), (8, 8, 4), (10, 6), (17, 6), (7, 16), (7,), (9, 1, 1), (3, 5, 7), (2, 2, 4, 3)]
)
def test_it_takes_every_form_of_activation(attack: Attack, shape: tuple[int, ...]) -> None:
    generator, shape_values = torch.Generator().manual_seed(3), math.prod(shape)
    own = Pairs(smooth_pictures(12, 0), torch.randn(12, *shape, generator=generator), tuple("abcdef" * 2))
    attack.fit(
        own, head=lambda seen: seen.flatten(1).repeat(1, 2)[:, :shape_values].view(-1, *shape), budget_s=TINY_BUDGET_S
    )
    assert attack.rebuild(own.activations[:2]).shape == (2, 3, 16, 16)


def test_constant_activations_give_the_mean_picture_colour(attack: Attack) -> None:
    own = pairs()
    silent = Pairs(own.pictures, torch.zeros_like(own.activations), own.sources)
    attack.fit(silent, head=silent_head, budget_s=TINY_BUDGET_S)
    reached = psnr_db(own.pictures, attack.rebuild(silent.activations)).mean()
    assert abs(reached - floor_psnr_db(own.pictures, own.pictures).mean()) < 0.5


def test_it_never_changes_what_it_is_given(attack: Attack) -> None:
    own, held_out = pairs(), pairs(4, seed=1).activations
    before = (own.pictures.clone(), own.activations.clone(), held_out.clone())
    attack.fit(own, head=mixing_head, budget_s=TINY_BUDGET_S)
    attack.rebuild(held_out)
    assert all(
        torch.equal(now, then) for now, then in zip((own.pictures, own.activations, held_out), before, strict=True)
    )


def test_the_same_pairs_give_the_same_pictures(name: str) -> None:
    held_out = pairs(4, seed=1).activations
    answers = []
    for seed in (0, 1):
        torch.manual_seed(seed)  # nobody else's random numbers may matter
        attack = ATTACKS.load(name)()
        attack.fit(pairs(), head=mixing_head, budget_s=TINY_BUDGET_S)
        answers += [attack.rebuild(held_out), attack.rebuild(held_out)]
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_a_picture_is_rebuilt_the_same_alone_and_among_others(fitted: Attack) -> None:
    held_out = pairs(20, seed=1).activations
    together = fitted.rebuild(held_out)
    alone = torch.cat([fitted.rebuild(one[None]) for one in held_out])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_it_can_be_fitted_again_on_another_split(fitted: Attack) -> None:
    vectors = Pairs(smooth_pictures(12, 0), torch.randn(12, 9), tuple("abcdef" * 2))
    fitted.fit(vectors, head=lambda seen: seen.flatten(1)[:, :9], budget_s=TINY_BUDGET_S)
    assert fitted.rebuild(vectors.activations[:1]).shape == (1, 3, 16, 16)


def test_no_activations_give_no_pictures(fitted: Attack) -> None:
    assert fitted.rebuild(torch.zeros(0, 12, 8, 8)).shape == (0, 3, 16, 16)


def fails_in_one_line(error: pytest.ExceptionInfo[AttackError]) -> bool:
    return str(error.value) != "" and "\n" not in str(error.value)


def test_rebuilding_before_fitting_is_an_error(attack: Attack) -> None:
    with pytest.raises(AttackError, match="before it was fitted") as error:
        attack.rebuild(torch.zeros(1, 12, 8, 8))
    assert fails_in_one_line(error)


@pytest.mark.parametrize("budget_s", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_that_is_no_time_is_an_error(attack: Attack, budget_s: float) -> None:
    with pytest.raises(AttackError, match="budget") as error:
        attack.fit(pairs(), head=mixing_head, budget_s=budget_s)
    assert fails_in_one_line(error)


def test_a_black_box_attack_gets_no_gradients(attack: Attack) -> None:
    asked = []

    def head(seen: Tensor) -> Tensor:
        asked.append(torch.is_grad_enabled())
        return mixing_head(seen)

    attack.fit(pairs(), head=head, budget_s=TINY_BUDGET_S)
    assert attack.access == "white-box" or not any(asked)


def test_too_few_photographs_are_an_error(attack: Attack) -> None:
    own = pairs()
    few = Pairs(own.pictures, own.activations, ("the only one",) * len(own))
    with pytest.raises(AttackError, match="photographs") as error:
        attack.fit(few, head=mixing_head)
    assert fails_in_one_line(error)


@pytest.mark.parametrize("shape", [(2, 12, 8, 9), (2, 8, 8, 12), (12, 8, 8), (2, 768)])
def test_activations_of_another_shape_are_an_error(fitted: Attack, shape: tuple[int, ...]) -> None:
    with pytest.raises(AttackError, match="fitted on float32 N x 12 x 8 x 8") as error:
        fitted.rebuild(torch.zeros(shape))
    assert fails_in_one_line(error)


def test_activations_of_another_type_are_an_error(fitted: Attack) -> None:
    with pytest.raises(AttackError, match="int8") as error:
        fitted.rebuild(torch.zeros(1, 12, 8, 8, dtype=torch.int8))
    assert fails_in_one_line(error)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_an_error(fitted: Attack, value: float) -> None:
    damaged = torch.zeros(2, 12, 8, 8)
    damaged[1, 3, 4, 5] = value
    with pytest.raises(AttackError, match="1 of 1536 values of the activations are NaN or infinite") as error:
        fitted.rebuild(damaged)
    assert fails_in_one_line(error)


def test_a_failed_fit_leaves_nothing_to_rebuild_with(fitted: Attack) -> None:
    own = pairs()
    with pytest.raises(AttackError):
        fitted.fit(Pairs(own.pictures, own.activations, ("one",) * len(own)), head=mixing_head)
    assert fitted.rebuild(own.activations[:1]).shape == (1, 3, 16, 16), "refused pairs do not undo an earlier fit"


# those that answer for the receiver's own pictures, too


@pytest.fixture(params=sorted(name for name in ATTACKS if issubclass(ATTACKS.load(name), CrossFitted)))
def cross_fitted(request: pytest.FixtureRequest) -> CrossFitted:
    attack = ATTACKS.load(str(request.param))()
    assert isinstance(attack, CrossFitted)
    return attack


def test_it_answers_out_of_fold_for_the_validation_split_at_least(cross_fitted: CrossFitted) -> None:
    own = pairs()
    cross_fitted.fit(own, head=mixing_head, budget_s=TINY_BUDGET_S)
    validated = own.where(in_validation(own.sources))
    assert set(validated.sources) <= set(cross_fitted.validation_pairs(own).sources)
    answers = cross_fitted.out_of_fold(validated)
    assert answers.shape == validated.pictures.shape
    assert 0 <= answers.min() <= answers.max() <= 1
    assert psnr_db(validated.pictures, answers).mean() > floor_psnr_db(own.pictures, validated.pictures).mean() + 10


def test_its_out_of_fold_answers_know_nothing_that_the_activation_does_not_tell(cross_fitted: CrossFitted) -> None:
    own = pairs(noise=True)
    cross_fitted.fit(own, head=mixing_head, budget_s=SHORT_BUDGET_S)
    validated = own.where(in_validation(own.sources))
    reached = psnr_db(validated.pictures, cross_fitted.out_of_fold(validated)).mean()
    assert reached < floor_psnr_db(own.pictures, validated.pictures).mean() + 0.5


def test_asking_out_of_fold_before_fitting_is_an_error(cross_fitted: CrossFitted) -> None:
    with pytest.raises(AttackError, match="before it was fitted"):
        cross_fitted.out_of_fold(pairs())
