"""The best attack is chosen by the receiver's own pictures that nobody learned from."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from analysis.attacks import Attack, CrossFitted, HeadFunction, Pairs, Progress, best, in_validation
from analysis.attacks.best import Best
from analysis.errors import AttackError
from tests.parts import attacks

SOURCES = tuple(f"photograph-{index % 8}" for index in range(32))
PICTURES = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
OWN = Pairs(PICTURES, PICTURES.flatten(1), SOURCES)


class Stub(CrossFitted):
    """Answers its own pictures with a known error, and received ones with a shade that is its signature."""

    name, access = "stub", "white-box"
    knows, cost = "everything", "nothing"
    made: ClassVar[list[Stub]] = []

    def __init__(self, name: str, start: str) -> None:
        super().__init__()
        self.name = name  # type: ignore[misc]
        self.error, self.shade = 1.0, 0.0
        self.budget_was_short = self.searches = False
        self.asked: list[Pairs] = []
        self.given: list[tuple[float | None, Attack | None]] = []
        self.start = Stub(start, "") if start else self
        self.made.append(self)

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        del own, head
        self.given.append((budget_s, None))
        self._learn()

    def _warm_fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Stub) -> None:
        del own, head
        self.given.append((budget_s, start_from))
        self._learn()

    def _learn(self) -> None:
        self._progress = [Progress(1.0, self.shade)]
        self._cut_short = self.budget_was_short
        if self.start is not self:
            self.start.fit(OWN, head=torch.flatten)

    def _out_of_fold(self, own: Pairs) -> Tensor:
        self.asked.append(own)
        return own.pictures + self.error

    def _rebuild(self, activations: Tensor) -> Tensor:
        answers = torch.full((len(activations), 3, 8, 8), self.shade)
        self._found = 2 * answers if self.searches else None
        return answers


NAMES = ("linear", "spectral", "decoder", "refine")
SetErrors = Callable[..., list[Stub]]


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> SetErrors:
    """Put stubs in the candidates' place; give each one's error, in the order of NAMES."""

    def place(*errors: float) -> list[Stub]:
        monkeypatch.setattr(Stub, "made", [])
        spectral, refine = Stub("spectral", "linear"), Stub("refine", "decoder")
        candidates = [spectral.start, spectral, refine.start, refine]
        for candidate, error, shade in zip(candidates, errors, (0.2, 0.4, 0.6, 0.8), strict=True):
            candidate.error, candidate.shade = error, shade
        monkeypatch.setattr(best, "Spectral", lambda: spectral)
        monkeypatch.setattr(best, "Refine", lambda: refine)
        return candidates

    return place


def fitted(*, budget_s: float | None = None, start_from: Attack | None = None) -> Best:
    attack = Best()
    attack.fit(OWN, head=torch.flatten, budget_s=budget_s, start_from=start_from)
    return attack


@pytest.mark.parametrize("winner", range(4))
def test_it_answers_as_the_candidate_does_that_was_best_on_validation_pictures(winner: int, stubs: SetErrors) -> None:
    candidates = stubs(*(0.01 if index == winner else 0.1 for index in range(4)))
    attack = fitted()
    assert attack.chosen == NAMES[winner]
    assert attack.progress == candidates[winner].progress
    assert torch.equal(attack.rebuild(OWN.activations[:2]), candidates[winner].rebuild(OWN.activations[:2]))


def test_of_equals_the_simplest_is_chosen(stubs: SetErrors) -> None:
    stubs(0.1, 0.1, 0.1, 0.1)
    assert fitted().chosen == "linear"


def test_candidates_are_compared_on_the_same_pictures_of_the_validation_split(stubs: SetErrors) -> None:
    candidates = stubs(0.1, 0.2, 0.3, 0.4)
    fitted()
    validated = {source for source, is_in in zip(SOURCES, in_validation(SOURCES).tolist(), strict=True) if is_in}
    for candidate in candidates:
        (judged,) = candidate.asked
        assert set(judged.sources) == validated
        assert torch.equal(judged.pictures, candidates[0].asked[0].pictures)


def test_pictures_are_judged_one_by_one_and_then_averaged_in_db(stubs: SetErrors) -> None:
    """A mean over squared errors would choose otherwise: one picture decides there."""
    candidates = stubs(0.1, 1, 1, 1)

    def mostly_exact(own: Pairs) -> Tensor:
        answers = own.pictures + 0.001
        answers[0] = 1 - answers[0].round()
        return answers

    candidates[3]._out_of_fold = mostly_exact  # type: ignore[method-assign]
    assert fitted().chosen == "refine"


@pytest.mark.parametrize(("budget_s", "expected"), [(100.0, (20.0, 80.0)), (None, (None, None))])
def test_the_budget_is_divided(
    budget_s: float | None, expected: tuple[float | None, float | None], stubs: SetErrors
) -> None:
    _, spectral, _, refine = stubs(1, 1, 1, 1)
    fitted(budget_s=budget_s)
    assert (spectral.given[0][0], refine.given[0][0]) == expected


def test_its_neighbours_decoder_goes_on_from_split_to_split_whoever_was_chosen(stubs: SetErrors) -> None:
    _, _, _, before = stubs(0.01, 1, 1, 1)
    first = fitted()
    _, _, _, now = stubs(1, 1, 0.01, 1)
    fitted(start_from=first)
    assert before.given[0][1] is None
    assert now.given[0][1] is before


def test_an_attack_of_another_kind_is_no_start(stubs: SetErrors) -> None:
    _, _, _, refine = stubs(1, 1, 1, 1)
    fitted(start_from=Stub("another", ""))
    assert refine.given[0][1] is None


# users' attacks

RIVAL, UNFIT, EVASIVE, VANDAL = (f"tests.parts.attacks:{name}" for name in ("Rival", "Unfit", "Evasive", "Vandal"))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float | None, Attack | None]]:
    """What the rival was given each time: budget and start."""
    monkeypatch.setattr(attacks.Rival, "given", [])
    return attacks.Rival.given


@pytest.mark.parametrize(("error", "chosen"), [(0.001, "rival"), (0.05, "spectral")])
def test_of_the_runs_attacks_a_users_own_takes_part(
    error: float, chosen: str, stubs: SetErrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubs(0.1, 0.01, 0.1, 0.1)
    monkeypatch.setattr(attacks.Rival, "error", error)
    attack = Best.among(["linear", "best", "tests.parts.attacks:Mean", RIVAL])
    attack.fit(OWN, head=torch.flatten)
    assert attack.chosen == chosen
    if chosen == "rival":
        assert attack.progress == (Progress(1.0, 50.0),)
        assert torch.equal(attack.rebuild(OWN.activations[:2]), torch.zeros(2, 3, 8, 8))


def test_an_attack_that_gives_no_out_of_fold_answers_and_a_built_in_one_are_not_added(stubs: SetErrors) -> None:
    candidates = stubs(1, 1, 1, 1)
    Best.among(["decoder_shifted", "linear", "tests.parts.attacks:Mean"]).fit(OWN, head=torch.flatten, budget_s=100.0)
    assert (candidates[1].given[0][0], candidates[3].given[0][0]) == (20.0, 80.0), "nothing of the budget is for them"


def test_a_users_attack_gets_as_much_of_the_budget_as_the_built_in_ones_together(
    stubs: SetErrors, given: list[tuple[float | None, Attack | None]]
) -> None:
    _, spectral, _, refine = stubs(1, 1, 1, 1)
    Best([RIVAL]).fit(OWN, head=torch.flatten, budget_s=100.0)
    assert (spectral.given[0][0], refine.given[0][0], given) == (10.0, 40.0, [(50.0, None)])


def test_a_users_attack_goes_on_from_split_to_split_too(
    stubs: SetErrors, given: list[tuple[float | None, Attack | None]]
) -> None:
    first, second = Best([RIVAL]), Best([RIVAL])
    stubs(1, 1, 1, 1)
    first.fit(OWN, head=torch.flatten)
    stubs(1, 1, 1, 1)
    second.fit(OWN, head=torch.flatten, start_from=first)
    assert [start and start.name for _, start in given] == [None, "rival"]


def test_a_users_attack_that_cannot_learn_is_no_candidate(stubs: SetErrors) -> None:
    stubs(0.01, 0.1, 0.1, 0.1)
    attack = Best([UNFIT, RIVAL])
    attack.fit(OWN, head=torch.flatten)
    assert attack.chosen == "rival"


def test_a_users_attack_without_out_of_fold_answers_is_told_with_its_place(stubs: SetErrors) -> None:
    stubs(1, 1, 1, 1)
    with pytest.raises(AttackError, match=rf"^{EVASIVE} gave no out-of-fold answers: KeyError: .*\(attacks\.py:\d+\)$"):
        Best([EVASIVE]).fit(OWN, head=torch.flatten)


def test_a_users_attack_that_changes_its_pairs_changes_them_for_nobody_else(
    stubs: SetErrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubs(1, 1, 1, 1)
    before = PICTURES.clone()
    monkeypatch.setattr(attacks.Rival, "error", 0.001)
    attack = Best([VANDAL, RIVAL])
    attack.fit(OWN, head=torch.flatten)
    assert torch.equal(OWN.pictures, before)
    assert attack.chosen == "rival"


@pytest.mark.parametrize("short", [None, *range(4)])
def test_it_was_cut_short_where_any_candidate_was_whoever_was_chosen(short: int | None, stubs: SetErrors) -> None:
    candidates = stubs(0.01, 0.1, 0.1, 0.1)
    for index, candidate in enumerate(candidates):
        candidate.budget_was_short = index == short
    assert fitted().cut_short is (short is not None)


def test_what_it_found_is_what_the_chosen_attack_found(stubs: SetErrors) -> None:
    candidates = stubs(0.1, 0.01, 0.1, 0.1)
    candidates[1].searches = True
    attack = fitted()
    rebuilt = attack.rebuild(OWN.activations[:2])
    assert attack.found is not None
    assert torch.equal(attack.found, 2 * rebuilt)
