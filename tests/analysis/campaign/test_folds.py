"""With several folds an attack is fitted for each, and no fit answers for a photograph that it learned from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.attacks import Attack, HeadFunction, Pairs
from analysis.attacks.base import Progress
from analysis.campaign.folds import FoldedTrial, mean_course, without
from analysis.judging import Judge
from analysis.metrics import floor_psnr_db
from harness.pictures import Fold, Pictures
from harness.pictures.fresh import OwnPhotographs
from harness.pictures.photographs import Photograph

SOURCES = ("a", "b", "c", "d") * 3
LEVELS = torch.tensor([0.1, 0.2, 0.3, 0.4] * 3)
OWN = Pairs(LEVELS[:, None, None, None].expand(-1, 3, 4, 4).contiguous(), LEVELS[:, None].clone(), SOURCES)
FOLDS = (Fold(frozenset("a"), slice(0, 2)), Fold(frozenset("cd"), slice(2, 3)))


class Told(Attack):
    """Answers with the mean of what it learned from, and tells what it was asked to tell."""

    name, access = "told", "black-box"
    knows, cost = "pictures", "nothing"
    says: tuple[tuple[bool | None, bool, str | None], ...] = ()
    fitted: list[Pairs]
    started: list[Attack | None]

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:  # noqa: ARG002
        self._own = own
        self._say = self.says[len(self.fitted)] if self.says else (None, False, None)
        self._cut_short = self._say[1]
        self.fitted.append(own)
        self.started.append(None)
        self._progress.append(Progress(0.0, float(len(self.fitted))))

    def _warm_fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Attack) -> None:
        self._fit(own, head, budget_s)
        self.started[-1] = start_from

    @property
    def converged(self) -> bool | None:
        return self._say[0]

    @property
    def chosen(self) -> str | None:
        return self._say[2]

    def _rebuild(self, activations: Tensor) -> Tensor:
        self._found = activations[:, :, None, None].expand(-1, 3, 4, 4)
        return self._own.pictures.mean(0, keepdim=True).expand(len(activations), -1, -1, -1)


@pytest.fixture(autouse=True)
def _told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Told, "fitted", [], raising=False)
    monkeypatch.setattr(Told, "started", [], raising=False)


def trial() -> FoldedTrial:
    return FoldedTrial(f"{__name__}:Told", (), FOLDS)


def test_each_fit_learns_without_its_fold_and_answers_for_it() -> None:
    folded = trial()
    folded.fit(OWN, head=lambda seen: seen.mean((2, 3)), budget_s=None)
    assert [set(own.sources) for own in Told.fitted] == [{"b", "c", "d"}, {"a", "b"}]
    assert folded.train_pictures == 6
    received = torch.tensor([[0.5], [0.6], [0.7]])
    rebuilt = folded.rebuild(received)
    torch.testing.assert_close(rebuilt[:, 0, 0, 0], torch.tensor([0.3, 0.3, 0.15]))
    assert folded.found is not None
    torch.testing.assert_close(folded.found[:, 0, 0, 0], received[:, 0])


def test_a_fold_goes_on_from_the_same_fold_at_the_split_before() -> None:
    before, folded = trial(), trial()
    before.fit(OWN, head=lambda seen: seen.mean((2, 3)), budget_s=None)
    folded.fit(OWN, head=lambda seen: seen.mean((2, 3)), budget_s=None, start_from=before)
    assert Told.started == [None, None, *(one.attack for one in before._trials)]


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (((True, False, "a"), (True, False, "a")), (True, False, "a")),
        (((True, False, "a"), (False, True, "b")), (False, True, "a and b")),
        (((True, False, None), (None, False, None)), (None, False, None)),
    ],
)
def test_what_fits_say_of_themselves_is_put_together(
    says: tuple[tuple[bool | None, bool, str | None], ...],
    expected: tuple[bool | None, bool, str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Told, "says", says)
    folded = trial()
    folded.fit(OWN, head=lambda seen: seen.mean((2, 3)), budget_s=None)
    learned = folded.learned()
    assert (learned.converged, learned.cut_short, learned.chosen) == expected
    assert learned.progress == ((0.0, 1.5),)


def test_a_course_is_the_mean_of_what_all_had_reached() -> None:
    assert mean_course([((0.0, 1.0), (2.0, 3.0)), ((1.0, 5.0), (3.0, 7.0))]) == ((1.0, 3.0), (2.0, 4.0), (3.0, 5.0))
    assert mean_course([((0.0, 1.0),)]) == ((0.0, 1.0),)
    assert mean_course([((0.0, 1.0),), ()]) == ()


def test_what_holds_nothing_out_takes_nothing_away() -> None:
    assert without(OWN, Fold()) is OWN
    assert without(OWN, Fold(frozenset("x"))) is OWN


def test_of_what_a_fold_holds_out_no_crops_are_drawn_either() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    photographs = OwnPhotographs.of([Photograph.of(source, pixels) for source in "abcdxy"], (4, 4))
    own = replace(OWN, photographs=photographs)
    for fold, left in (({"a", "x"}, "bcdy"), ({"x"}, "abcdy")):
        learned = without(own, Fold(frozenset(fold))).photographs
        assert learned is not None
        assert "".join(one.source for one in learned.photographs) == left


def test_the_floor_of_a_fold_is_what_its_own_training_pictures_reach(pictures: Pictures) -> None:
    source = pictures.train.sources[0]
    half = len(pictures.held_out) // 2
    folded = replace(pictures, folds=(Fold(pictures=slice(0, half)), Fold(frozenset({source}), slice(half, None))))
    own, original = pictures.train.as_float(), pictures.held_out.as_float()
    kept = torch.tensor([one != source for one in pictures.train.sources])
    assert 0 < int(kept.sum()) < len(own)
    expected = torch.cat([floor_psnr_db(own, original[:half]), floor_psnr_db(own[kept], original[half:])])
    assert Judge.of(folded).scores(original).floor_psnr_db == pytest.approx(expected.tolist(), abs=1e-4)
    single = Judge(own, original).scores(original).floor_psnr_db
    assert Judge.of(pictures).scores(original).floor_psnr_db == pytest.approx(single, abs=1e-4)
