"""The search from a decoder's answer: better than that answer, honest about its validation, within its budget."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from analysis.attacks import HeadFunction, Pairs, decoder, in_validation, spectral
from analysis.attacks.augmentation import Augmentation
from analysis.attacks.blend import Blend
from analysis.attacks.decoder import Decoder, _Corrector
from analysis.attacks.linear import Linear
from analysis.attacks.matching import feature_residual
from analysis.attacks.spectral import BLENDED_ON, EVALUATIONS, Refine, Spectral, budget_for, evaluations_for
from analysis.metrics import psnr_db
from tests.parts.clock import Clock
from tests.parts.smooth import smooth_pictures

# Too little time to search or to train.
NO_TIME_S = 1e-3


def convolutions() -> nn.Sequential:
    """Two random convolutions of stride 2, each with ReLU: not to be undone linearly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
        for layer in (first, second):
            nn.init.kaiming_normal_(layer.weight)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU()).requires_grad_(False)


HEAD = convolutions()


def pairs(count: int, seed: int, head: HeadFunction = HEAD) -> Pairs:
    """Smooth pictures of 16x16 pixels behind a head."""
    seen = smooth_pictures(count, seed)
    return Pairs(seen, head(seen), tuple(f"photograph-{index % 8}" for index in range(count)))


OWN, HELD_OUT = pairs(48, 0), pairs(8, 1)


@pytest.fixture(scope="module")
def fitted() -> Spectral:
    attack = Spectral()
    attack.fit(OWN, head=HEAD)
    return attack


@pytest.fixture
def blends(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Tensor], Tensor]]:
    """What blends are learned from, in order: the answers, and the pictures that they are compared with."""
    seen: list[tuple[list[Tensor], Tensor]] = []
    fit = Blend.fit

    def watched(answers: list[Tensor], pictures: Tensor, *rest: Any) -> Blend:
        seen.append((answers, pictures))
        return fit(answers, pictures, *rest)

    monkeypatch.setattr(Blend, "fit", watched)
    return seen


# how good it is


def test_it_beats_the_linear_decoder_by_more_than_3_db(fitted: Spectral) -> None:
    linear = psnr_db(HELD_OUT.pictures, fitted.start.rebuild(HELD_OUT.activations))
    reached = psnr_db(HELD_OUT.pictures, fitted.rebuild(HELD_OUT.activations))
    assert reached.mean() > linear.mean() + 3
    assert (reached > linear).all()


def test_what_it_reached_on_validation_pictures_is_about_what_it_reaches_on_unseen_ones(fitted: Spectral) -> None:
    reached = float(psnr_db(HELD_OUT.pictures, fitted.rebuild(HELD_OUT.activations)).mean())
    assert abs(reached - fitted.progress[-1].psnr_db) < 2


def test_its_progress_is_told_as_it_goes(fitted: Spectral) -> None:
    seconds = [step.seconds for step in fitted.progress]
    assert 1 < len(seconds) <= 1 + EVALUATIONS // 10
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    assert fitted.progress[-1].psnr_db > fitted.progress[0].psnr_db + 3


def test_without_time_it_is_no_worse_than_what_it_starts_from() -> None:
    linear, attack = Linear(), Spectral()
    linear.fit(OWN, head=HEAD)
    attack.fit(OWN, head=HEAD, budget_s=NO_TIME_S)
    before, after = (psnr_db(HELD_OUT.pictures, one.rebuild(HELD_OUT.activations)).mean() for one in (linear, attack))
    assert after > before - 0.1


# what it judges itself by


def test_its_validation_pictures_are_the_receivers_own_as_if_they_were_unknown(
    blends: list[tuple[list[Tensor], Tensor]],
) -> None:
    attack = Spectral()
    attack.fit(OWN, head=HEAD)
    chosen = OWN.round_robin(BLENDED_ON)
    out_of_fold, remembered = attack.start.out_of_fold(chosen), attack.start.rebuild(chosen.activations)
    assert len(blends) == len(attack.progress)
    for (start, _), pictures in blends:
        count = len(pictures)
        assert torch.equal(pictures, chosen.pictures[:count])
        torch.testing.assert_close(start, out_of_fold[:count])
        assert not torch.allclose(start, remembered[:count], atol=1e-3)


def test_refine_judges_itself_by_photographs_that_its_decoder_does_not_learn_from(
    blends: list[tuple[list[Tensor], Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = []

    class Watched(Augmentation):
        def __init__(self, head: HeadFunction, own: Pairs) -> None:
            learned.append(own.pictures)
            super().__init__(head, own)

    monkeypatch.setattr(decoder, "Augmentation", Watched)
    monkeypatch.setattr(decoder, "_train", lambda _, network, *__: network)
    Refine().fit(OWN, head=HEAD, budget_s=NO_TIME_S)
    kept = OWN.where(in_validation(OWN.sources)).pictures
    assert len(learned) == 1
    assert len(learned[0]) + len(kept) == len(OWN)
    for pictures in (pictures for _, pictures in blends):
        assert all((kept == picture).flatten(1).all(1).any() for picture in pictures)
        assert not any((learned[0] == picture).flatten(1).all(1).any() for picture in pictures)


def test_its_out_of_fold_answer_is_a_search_from_its_starts_out_of_fold_answer(fitted: Spectral) -> None:
    known = OWN.first(6)
    answers = fitted.out_of_fold(known)
    assert 0 <= answers.min() <= answers.max() <= 1
    assert not torch.equal(answers, fitted.rebuild(known.activations))
    assert psnr_db(known.pictures, answers).mean() > psnr_db(known.pictures, fitted.start.out_of_fold(known)).mean() + 3


# its budget


def test_a_larger_budget_never_does_fewer_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    cut_short: list[bool] = []
    monkeypatch.setattr(spectral, "MOST_EVALUATIONS", 100)
    monkeypatch.setattr(spectral, "EVALUATIONS", 100)
    monkeypatch.setattr(spectral, "_WORTH_DB", -100.0)  # it always pays
    for budget_s in (1, 50, 80, 120, 400):
        clock = Clock(monkeypatch, HEAD)
        attack = Spectral()
        attack.fit(OWN, head=clock, budget_s=budget_s)
        assert clock.asked <= budget_s + 3, "at most the first evaluation of each search may come too late"
        cut_short.append(attack.cut_short)
        before = clock.asked
        attack.rebuild(HELD_OUT.activations)
        done.append(clock.asked - before)
    assert done == sorted(done)
    assert done[0] == 1
    assert 1 < done[3] < done[-1] == 100
    assert cut_short == [True, True, True, True, False]


def test_a_budget_for_more_pictures_is_smaller_so_that_all_takes_as_long() -> None:
    assert budget_for(10.0, 16) == pytest.approx(10.0)
    assert budget_for(10.0, 32) < 10.0 < budget_for(10.0, 2)
    assert evaluations_for(32) - evaluations_for(16) == 16 * EVALUATIONS


def test_without_a_budget_a_picture_takes_as_many_evaluations_on_every_machine(
    fitted: Spectral, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, HEAD)
    monkeypatch.setattr(fitted, "_head", clock)
    fitted.rebuild(HELD_OUT.activations)
    assert clock.asked == fitted._evaluations <= EVALUATIONS


def test_without_a_budget_the_search_ends_where_no_more_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "_WORTH_DB", 100.0)
    attack = Spectral()
    attack.fit(OWN, head=HEAD)
    assert len(attack.progress) == 1 + spectral._CHECKPOINTS_TO_GAIN_IN
    assert not attack.cut_short


def test_a_budget_that_lasts_until_no_more_pays_does_not_cut_the_search_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "_WORTH_DB", 100.0)
    attack = Spectral()
    attack.fit(OWN, head=Clock(monkeypatch, HEAD), budget_s=140.0)
    assert attack._evaluations < EVALUATIONS
    assert not attack.cut_short


def test_a_search_whose_start_was_cut_short_was_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Linear, "cut_short", True)
    attack = Spectral()
    attack.fit(OWN, head=HEAD)
    assert attack.cut_short


def test_what_it_found_is_closer_to_the_received_activation_than_the_mix(fitted: Spectral) -> None:
    rebuilt = fitted.rebuild(HELD_OUT.activations)
    assert fitted.found is not None
    of_found, of_mix = (feature_residual(HEAD, one, HELD_OUT.activations) for one in (fitted.found, rebuilt))
    assert of_found.mean() < of_mix.mean()


def test_refine_leaves_a_quarter_of_its_budget_to_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    class Watched(Linear):
        def fit(self, own: Pairs, *, budget_s: float | None = None, **others: Any) -> None:
            given.append(budget_s)
            super().fit(own, **others)

    monkeypatch.setattr(Refine, "begins_at", Watched)
    for limit in ("EVALUATIONS", "MOST_EVALUATIONS"):
        monkeypatch.setattr(spectral, limit, 1)
    for budget_s in (8.0, None):
        Refine().fit(OWN, head=HEAD, budget_s=budget_s)
    assert given == [6.0, None]


# its warm start


def test_refine_hands_its_neighbours_decoder_to_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    inherited = []
    monkeypatch.setattr(_Corrector, "warm_start", lambda _, other: inherited.append(other))
    one, other = Refine(), Refine()
    one.fit(OWN, head=HEAD, budget_s=NO_TIME_S)
    other.fit(OWN, head=HEAD, budget_s=NO_TIME_S, start_from=one)
    assert isinstance(other.start, Decoder)
    assert isinstance(one.start, Decoder)
    assert inherited == [one.start._network]
    kept = [held for holder in (other, other.start) for held in vars(holder).values()]
    assert not any(held is one or held is one.start for held in kept), "what is not needed any more is not kept alive"


def test_an_attack_of_another_kind_is_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    inherited: list[object] = []
    monkeypatch.setattr(_Corrector, "warm_start", lambda _, other: inherited.append(other))
    attack, other = Refine(), Spectral()
    other.fit(OWN, head=HEAD, budget_s=NO_TIME_S)
    attack.fit(OWN, head=HEAD, budget_s=NO_TIME_S, start_from=other)
    assert not inherited


def test_each_search_asks_for_as_many_photographs_as_what_it_begins_at() -> None:
    for kind in (Spectral, Refine):
        assert kind.fewest_sources >= kind.begins_at.fewest_sources
