"""The textbook attack: right where nothing stands in its way, in time, never led astray by what is no number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from analysis.attacks import HeadFunction, Pairs, whitebox
from analysis.attacks.whitebox import RESTARTS, STEPS, VARIATIONS, WhiteBox
from analysis.metrics import psnr_db
from tests.parts.clock import Clock
from tests.parts.smooth import mixing_head, smooth_pictures

NO_TIME_S = 1e-3


def pairs(count: int, seed: int, head: HeadFunction = mixing_head) -> Pairs:
    """Smooth pictures of 16x16 pixels behind a head."""
    seen = smooth_pictures(count, seed)
    return Pairs(seen, head(seen), tuple(f"photograph-{index % 6}" for index in range(count)))


OWN, HELD_OUT = pairs(12, 0), pairs(4, 1)


def test_it_rebuilds_what_a_head_with_an_inverse_shipped() -> None:
    attack = WhiteBox()
    attack.fit(OWN, head=mixing_head)
    assert psnr_db(HELD_OUT.pictures, attack.rebuild(HELD_OUT.activations)).min() > 30


def test_it_learns_nothing_but_a_weight_that_serves_its_own_pictures_best() -> None:
    noise = torch.randn(OWN.activations.shape, generator=torch.Generator().manual_seed(0))
    noisy = Pairs(OWN.pictures, OWN.activations + 0.2 * noise, OWN.sources)
    chosen = []
    for own in (OWN, noisy):
        attack = WhiteBox()
        attack.fit(own, head=mixing_head)
        chosen.append(attack._variation)
        reached, validation = [], own.first(4)  # of four photographs
        for variation in VARIATIONS:
            attack._variation = variation
            reached.append(psnr_db(validation.pictures, attack.rebuild(validation.activations)).mean())
        assert VARIATIONS.index(chosen[-1]) == int(torch.stack(reached).argmax())
    assert chosen[0] < chosen[1]


def test_without_time_it_answers_with_about_grey() -> None:
    attack = WhiteBox()
    attack.fit(OWN, head=mixing_head, budget_s=NO_TIME_S)
    assert (attack.rebuild(HELD_OUT.activations) - 0.5).abs().mean() < 0.15
    assert attack.cut_short
    assert attack.converged is False


def test_its_progress_is_that_of_the_answer_with_so_much_time_for_both_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, attack = Clock(monkeypatch, mixing_head), WhiteBox()
    attack.fit(OWN, head=clock)
    assert [step.seconds for step in attack.progress] == [RESTARTS * step for step in (*range(1, STEPS, 10), STEPS)]
    attack.rebuild(HELD_OUT.activations)
    assert not attack.cut_short
    own = OWN.round_robin(whitebox.CHOSEN_ON)
    reached = float(psnr_db(own.pictures, attack.rebuild(own.activations)).mean())
    assert attack.progress[-1].psnr_db == pytest.approx(reached, abs=0.05)
    assert attack.progress[0].psnr_db < reached - 3


def test_it_has_converged_where_its_last_steps_gain_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for steps in (10, 300):
        monkeypatch.setattr(whitebox, "STEPS", steps)
        attack = WhiteBox()
        attack.fit(OWN, head=mixing_head)
        found.append(attack.converged)
    assert found == [False, True]


def test_it_was_cut_short_where_the_received_pictures_take_longer_than_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    attack = WhiteBox()
    attack.fit(OWN, head=mixing_head, budget_s=1000.0)
    assert not attack.cut_short
    monkeypatch.setattr(attack, "_seconds", 1e-6)
    attack.rebuild(HELD_OUT.activations)
    assert attack.cut_short


def test_a_larger_budget_never_does_fewer_evaluations_and_both_starts_get_their_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = []
    monkeypatch.setattr(whitebox, "STEPS", 60)
    for budget_s in (1, 8, 40, 100, 10_000):
        clock = Clock(monkeypatch, mixing_head)
        attack = WhiteBox()
        attack.fit(OWN, head=clock, budget_s=budget_s)
        before = clock.asked
        attack.rebuild(HELD_OUT.activations)
        done.append(clock.asked - before)
        assert clock.asked <= budget_s + 2 * RESTARTS
    assert done == sorted(done)
    assert (done[0], done[-1]) == (RESTARTS, RESTARTS * 60)


def test_the_answer_is_of_whichever_start_came_closer(monkeypatch: pytest.MonkeyPatch) -> None:
    attack = WhiteBox()
    attack.fit(OWN, head=mixing_head, budget_s=NO_TIME_S)
    found = iter((0.2, 0.7))
    losses = iter((torch.tensor([1.0, 2, 3, math.nan]), torch.tensor([2.0, 1, math.nan, math.nan])))

    def descended(start: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        return torch.full_like(start, next(found)), next(losses)

    monkeypatch.setattr(attack, "_descend", descended)
    rebuilt = attack.rebuild(HELD_OUT.activations)[:, 0, 0, 0]
    torch.testing.assert_close(rebuilt, torch.tensor([0.2, 0.7, 0.2, 0.5]))


def test_a_head_that_gives_no_numbers_leaves_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whitebox, "STEPS", 3)
    attack = WhiteBox()
    attack.fit(OWN, head=lambda seen: mixing_head(seen) * math.nan)
    assert torch.equal(attack.rebuild(HELD_OUT.activations), torch.full_like(HELD_OUT.pictures, 0.5))
