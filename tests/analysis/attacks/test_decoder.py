"""The trained decoder: never worse than what it starts from, better where there is something to learn."""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from analysis.attacks import HeadFunction, Pairs, augmentation, decoder, in_validation
from analysis.attacks.augmentation import Augmentation
from analysis.attacks.decoder import Decoder
from analysis.attacks.linear import Linear
from analysis.metrics import psnr_db
from harness.pictures.fresh import OwnPhotographs
from harness.pictures.photographs import Photograph

HOURS = 7200.0


def head(seen: Tensor) -> Tensor:
    """The fourth power of what it sees: not to be undone linearly."""
    return F.pixel_unshuffle(seen, 2).pow(4)


def pairs(count: int, seed: int) -> Pairs:
    """Smooth pictures behind that head."""
    coarse = torch.rand(count, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    seen = F.interpolate(coarse, size=(8, 8), mode="bicubic", align_corners=False).clamp(0, 1)
    return Pairs(seen, head(seen), tuple(f"photograph-{index % 8}" for index in range(count)))


def rebuilt(attack: Linear | Decoder, *, budget_s: float, own: int = 96, start_from: Decoder | None = None) -> Tensor:
    attack.fit(pairs(own, 0), head=head, budget_s=budget_s, start_from=start_from)
    return attack.rebuild(pairs(16, 1).activations)


def test_without_time_it_answers_as_the_linear_decoder_does() -> None:
    assert torch.equal(rebuilt(Decoder(), budget_s=1e-3), rebuilt(Linear(), budget_s=1e-3))


def test_with_time_it_beats_the_linear_decoder_on_unseen_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "MOST_STEPS", 250)
    original = pairs(16, 1).pictures
    linear = psnr_db(original, rebuilt(Linear(), budget_s=HOURS, own=800)).mean()
    assert psnr_db(original, rebuilt(Decoder(), budget_s=HOURS, own=800)).mean() > linear + 1


def test_as_many_steps_give_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "MOST_STEPS", 20)
    monkeypatch.setattr(decoder, "_STEPS_BETWEEN_CHECKPOINTS", 5)
    answers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        answers.append(rebuilt(Decoder(), budget_s=HOURS))
    assert torch.equal(*answers)


@pytest.mark.parametrize(
    ("grid", "input_size", "stages"),
    [
        ((64, 64), (64, 64), [(64, 64)]),
        ((32, 32), (64, 64), [(32, 32)]),
        ((8, 8), (64, 64), [(16, 16), (32, 32)]),
        ((147, 147), (299, 299), [(150, 150)]),
        ((1, 1), (64, 64), [(2, 2), (4, 4), (8, 8), (16, 16), (32, 32)]),
    ],
)
def test_stages_double_from_the_grid_to_half_the_picture(
    grid: tuple[int, int], input_size: tuple[int, int], stages: list[tuple[int, int]]
) -> None:
    assert decoder._stages(grid, input_size) == stages


# what it learns from, and what it is judged by


def test_it_learns_from_queries_and_never_sees_photographs_that_it_is_validated_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = []

    class Watched(Augmentation):
        def __init__(self, head: HeadFunction, own: Pairs) -> None:
            given.append(own.pictures)
            super().__init__(head, own)

    monkeypatch.setattr(decoder, "Augmentation", Watched)
    monkeypatch.setattr(decoder, "MOST_STEPS", 2)
    asked = []

    def watched_head(seen: Tensor) -> Tensor:
        asked.append(len(seen))
        return head(seen)

    own = pairs(96, 0)
    Decoder().fit(own, head=watched_head, budget_s=HOURS)
    kept = in_validation(own.sources)
    assert torch.equal(given[0], own.pictures[~kept])
    assert asked == [decoder.BATCH] * 2


def test_it_crops_no_photograph_that_it_is_validated_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each photograph has a brightness of its own, which the head would see."""
    monkeypatch.setattr(decoder, "MOST_STEPS", 6)
    monkeypatch.setattr(augmentation, "_recoloured", lambda pictures: pictures)
    levels = {f"photograph-{index}": 20 + 20 * index for index in range(9)}
    photographs = OwnPhotographs(
        tuple(Photograph.of(source, np.full((20, 30, 3), level, np.uint8)) for source, level in levels.items()), (8, 8)
    )
    own = replace(pairs(96, 0), photographs=photographs)
    seen = set()

    def watched_head(given: Tensor) -> Tensor:
        seen.update((given.mean((1, 2, 3)) * 255).round().int().tolist())
        return head(given)

    Decoder().fit(own, head=watched_head, budget_s=HOURS)
    validated = set(own.where(in_validation(own.sources)).sources)
    assert len(validated) == 2
    assert seen == {level for source, level in levels.items() if source not in validated}, "the ninth has no picture"


def test_what_it_answers_out_of_fold_it_did_not_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    own, attack = pairs(96, 0), Decoder()
    attack.fit(own, head=head, budget_s=1e-3)
    linear = Linear()
    linear.fit(own, head=head)
    assert len(attack.validation_pairs(own)) == len(own), "it has learned nothing, so it knows none of them"
    torch.testing.assert_close(attack.out_of_fold(own), linear.out_of_fold(own))
    monkeypatch.setattr(decoder, "_train", lambda _, network, *__: network)
    attack.fit(own, head=head)
    assert attack.validation_pairs(own).sources == own.where(in_validation(own.sources)).sources


def test_its_out_of_fold_answers_are_what_its_progress_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "MOST_STEPS", 200)
    own, attack = pairs(400, 0), Decoder()
    attack.fit(own, head=head, budget_s=HOURS)
    assert len(attack.progress) == 5
    judged = attack.validation_pairs(own).round_robin(decoder.MOST_VALIDATION_PICTURES)
    reached = float(psnr_db(judged.pictures, attack.out_of_fold(judged)).mean())
    assert reached == pytest.approx(attack.progress[-1].psnr_db, abs=0.01)
    assert reached > attack.progress[0].psnr_db


def test_its_progress_never_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "MOST_STEPS", 40)
    monkeypatch.setattr(decoder, "_STEPS_BETWEEN_CHECKPOINTS", 2)
    monkeypatch.setattr(decoder, "LEARNING_RATE", 0.1)  # so that it goes astray at times
    attack = Decoder()
    attack.fit(pairs(96, 0), head=head, budget_s=HOURS)
    reached = [step.psnr_db for step in attack.progress]
    assert len(reached) == 21
    assert reached == sorted(reached)
    assert [step.seconds for step in attack.progress] == sorted(step.seconds for step in attack.progress)


# its warm start


def corrector(channels: int, side: int, seed: int) -> decoder._Corrector:
    """A network for maps of so many channels and places a side, of pictures of 32x32 pixels; no weight is zero."""
    torch.manual_seed(seed)
    network = decoder._Corrector(channels, (side, side), (32, 32))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network


def same(one: torch.nn.Module, other: torch.nn.Module) -> list[bool]:
    """Whether each parameter of one is that of the other."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return [mine.shape == theirs.shape and torch.equal(mine, theirs) for mine, theirs in pairs]


def test_the_neighbours_weights_are_taken_over_where_shapes_fit() -> None:
    mine, theirs = corrector(20, 8, 0), corrector(30, 8, 1)
    theirs_before = copy.deepcopy(theirs)
    mine.warm_start(theirs)
    assert same(mine.enter, theirs.enter) == [False] + [True] * 9, "all but the weights of 20 channels in place of 30"
    assert not mine.enter.get_parameter("0.weight").any(), "they say nothing at first"
    assert all(same(mine.stages, theirs.stages))
    assert all(same(mine.leave, theirs.leave))
    assert all(same(theirs, theirs_before))


@pytest.mark.parametrize("sides", [(2, 8), (8, 2)])
def test_stages_are_matched_from_the_pictures_side(sides: tuple[int, int]) -> None:
    mine, theirs = corrector(20, sides[0], 0), corrector(20, sides[1], 1)
    before = copy.deepcopy(mine)
    assert {len(mine.stages), len(theirs.stages)} == {1, 3}
    mine.warm_start(theirs)
    assert all(same(mine.leave, theirs.leave))
    assert all(same(mine.stages[-1], theirs.stages[-1]))
    for now, then in zip(mine.stages[:-1], before.stages[:-1], strict=True):
        assert same(now, then) == [False] + [True] * 5, "all but its first weights, which are zero"


def test_after_its_neighbour_it_is_soon_as_good_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "MOST_STEPS", 200)
    neighbour, cold, warm = Decoder(), Decoder(), Decoder()
    own = pairs(400, 0)
    neighbour.fit(own, head=head, budget_s=HOURS)
    monkeypatch.setattr(decoder, "MOST_STEPS", 50)
    cold.fit(own, head=head, budget_s=HOURS)
    warm.fit(own, head=head, budget_s=HOURS, start_from=neighbour)
    gained = [attack.progress[-1].psnr_db - attack.progress[0].psnr_db for attack in (neighbour, cold, warm)]
    assert gained[2] > gained[1] + 0.3
    assert gained[2] > 0.8 * gained[0]


def test_with_a_neighbour_and_no_time_it_still_answers_as_the_linear_decoder_does() -> None:
    neighbour, attack = Decoder(), Decoder()
    neighbour.fit(pairs(96, 0), head=head, budget_s=1e-3)
    for parameter in neighbour._network.parameters():
        torch.nn.init.normal_(parameter)
    warm = rebuilt(attack, budget_s=1e-3, start_from=neighbour)
    assert torch.equal(warm, rebuilt(Linear(), budget_s=1e-3))


@pytest.mark.parametrize(
    ("neighbour", "budget_s", "expected"),
    [
        (None, None, decoder.DEFAULT_BUDGET_S),
        (Decoder, None, decoder.WARM_BUDGET_S),
        (Linear, None, decoder.DEFAULT_BUDGET_S),
        (None, 5.0, 5.0),
        (Decoder, 100.0, 100.0),
    ],
)
def test_its_own_choice_of_a_budget_is_shorter_after_its_neighbour(
    neighbour: type[Decoder | Linear] | None,
    budget_s: float | None,
    expected: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, attack = pairs(24, 0), Decoder()
    start_from = neighbour() if neighbour else None
    if start_from:
        start_from.fit(own, head=head, budget_s=1e-3)
    deadlines = []

    def untrained(first: decoder._Corrector, *given: object) -> decoder._Corrector:
        deadlines.append(given[3])
        return first

    monkeypatch.setattr(decoder, "_train", untrained)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    attack.fit(own, head=head, budget_s=budget_s, start_from=start_from)
    assert deadlines == [1000 + expected]


@pytest.mark.parametrize(
    ("budget_s", "expected"),
    [(decoder.DEFAULT_BUDGET_S - 1, False), (1e-3, True), (None, False)],
    ids=["ended itself", "by its budget", "no budget"],
)
def test_it_was_cut_short_where_a_budget_below_its_own_choice_ended_its_training(
    budget_s: float | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "MOST_STEPS", 2)
    attack = Decoder()
    attack.fit(pairs(24, 0), head=head, budget_s=budget_s)
    assert attack.cut_short is expected


def test_a_budget_above_its_own_choice_does_not_cut_it_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "DEFAULT_BUDGET_S", 1e-3)
    attack = Decoder()
    attack.fit(pairs(24, 0), head=head, budget_s=2e-3)
    assert not attack.cut_short
