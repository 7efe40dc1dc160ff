"""Effects are paired by seed, and a verdict needs enough photographs, seeds and decibels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from analysis.study.cells import NETWORKS, network_of
from analysis.study.families import DEPTHS
from analysis.study.records import StudyRecord
from analysis.study.verdicts import (
    CLAIMS,
    CONTRASTS,
    DEPTH_PLAIN,
    RESIDUAL,
    Effect,
    PerSeed,
    Says,
    Word,
    decide,
    effects,
    verdicts,
)

RecordMaker = Callable[..., StudyRecord]
ENOUGH_PHOTOGRAPHS = 32


def effect(per_seed: Sequence[float]) -> Effect:
    of_seeds = PerSeed(dict(enumerate(per_seed)))
    return Effect(RESIDUAL, "untrained", "linear", of_seeds, of_seeds, {}, 8.0, {}, len(per_seed))


def of_residual(found: Sequence[Effect]) -> Effect:
    return next(one for one in found if one.contrast == RESIDUAL)


def seeds(record: RecordMaker, differences: Sequence[float]) -> list[StudyRecord]:
    """Plain and residual at two cuts; seeds differ by far more than structures do."""
    return [
        record(network, 20 + 3 * seed - 4 * cut + added, seed=seed, cut=cut)
        for (seed, difference), cut in product(enumerate(differences), (0, 1))
        for network, added in (("skip/plain", 0.0), ("skip/residual", difference))
    ]


def test_an_effect_is_the_difference_within_each_seed(record: RecordMaker) -> None:
    found = of_residual(effects(seeds(record, [1.0, 2.0, 3.0])))
    assert found.psnr_db.values == pytest.approx({0: 1.0, 1: 2.0, 2: 3.0})
    assert found.psnr_db_per_cut == pytest.approx({0: 2.0, 1: 2.0})
    assert found.psnr_db.mean == pytest.approx(2)


def test_the_interval_is_students_t_over_seeds() -> None:
    low, high = effect([1.0, 2.0, 3.0, 4.0, 5.0]).psnr_db.interval
    reach = 2.776445 * math.sqrt(2.5 / 5)
    assert (low, high) == pytest.approx((3 - reach, 3 + reach), abs=1e-5)


def test_one_seed_has_an_endless_interval() -> None:
    assert effect([3.0]).psnr_db.interval == (-np.inf, np.inf)


def test_effect_and_standard_error_are_those_of_a_mixed_model_with_an_intercept_per_seed() -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame([(seed, cut) for seed in range(8) for cut in (0, 1)], columns=["seed", "cut"])
    rows["difference"] = 1.5 + rng.normal(0, 1.5, 8)[rows["seed"]] + rng.normal(0, 0.5, len(rows))
    model = smf.mixedlm("difference ~ 1", rows, groups="seed").fit()
    ours = effect(rows.groupby("seed")["difference"].mean().tolist())
    assert ours.psnr_db.mean == pytest.approx(model.params["Intercept"])
    reach = (ours.psnr_db.interval[1] - ours.psnr_db.interval[0]) / 2
    assert reach / 2.364624 == pytest.approx(model.bse["Intercept"], rel=1e-3)  # t of 7 degrees of freedom


def test_a_seed_that_lacks_one_of_the_networks_is_left_out(record: RecordMaker) -> None:
    found = seeds(record, [1.0, 2.0, 3.0])
    whole = [r for r in found if not (r.cell.specimen.seed == 1 and r.cell.specimen.network == "skip/residual")]
    assert of_residual(effects(whole)).psnr_db.values == pytest.approx({0: 1.0, 2: 3.0})


def test_a_network_that_was_not_fitted_well_enough_is_not_compared(record: RecordMaker) -> None:
    fitted = [
        record(network, psnr, seed=seed, state="fitted", reached=seed != 1 or network == "skip/plain")
        for seed in range(3)
        for network, psnr in (("skip/plain", 20.0), ("skip/residual", 22.0))
    ]
    assert of_residual(effects(fitted)).psnr_db.values == pytest.approx({0: 2.0, 2: 2.0})


def test_the_effect_on_the_ssim_is_paired_like_the_psnrs(record: RecordMaker) -> None:
    found = [
        record(network, 5.0, seed=seed).model_copy(update={"ssim": (similar,) * 4})
        for seed in range(2)
        for network, similar in (("skip/plain", 0.2), ("skip/residual", 0.3 + 0.1 * seed))
    ]
    one = of_residual(effects(found))
    assert one.ssim.values == pytest.approx({0: 0.1, 1: 0.2})
    assert set(one.psnr_db.values.values()) == {0.0}  # both are worse than the mean picture


def test_attacks_and_states_are_never_mixed(record: RecordMaker) -> None:
    mixed = [record("skip/plain", attack="linear"), record("skip/residual", attack="spectral")]
    mixed += [record("skip/residual", state="fitted", reached=True)]
    assert effects(mixed) == []


def test_cells_whose_attack_did_not_converge_are_counted(record: RecordMaker) -> None:
    found = [record("skip/plain", seed=s, converged=True) for s in range(3)]
    found += [record("skip/residual", seed=s, converged=s == 0) for s in range(3)]
    found += [record("skip/residual", seed=9, converged=False)]  # not compared: it has no partner
    assert of_residual(effects(found)).unconverged == {"skip/plain": 0, "skip/residual": 2}


def test_an_attack_without_progress_is_not_called_unconverged(record: RecordMaker) -> None:
    found = [record("skip/plain"), record("skip/residual")]
    assert sum(of_residual(effects(found)).unconverged.values()) == 0


def test_every_contrast_weighs_known_networks_and_sums_to_zero() -> None:
    for contrast in CONTRASTS:
        assert {network for network, _ in contrast.weights} <= set(NETWORKS)
        assert sum(weight for _, weight in contrast.weights) == pytest.approx(0)
    assert {claim.contrast for claim in CLAIMS} <= set(CONTRASTS)


def test_the_effect_of_depth_is_the_fall_of_a_line_from_the_shallowest_to_the_deepest(record: RecordMaker) -> None:
    found = [record(network_of("depth", f"plain_{depth}"), 30 - 1.5 * math.log2(depth)) for depth in DEPTHS]
    (one,) = [e for e in effects(found) if e.contrast == DEPTH_PLAIN]
    assert one.psnr_db.mean == pytest.approx(-1.5 * math.log2(DEPTHS[-1] / DEPTHS[0]))


CLEARLY_LOWER, CLEARLY_HIGHER = [-2.0, -2.1, -1.9, -2.2, -1.8], [2.0, 2.1, 1.9, 2.2, 1.8]
TINY = [-0.2, -0.21, -0.19, -0.2, -0.2]
WIDE = [-2.0, 2.0, -1.0, 1.5, -0.5]


@pytest.mark.parametrize(
    ("says", "per_seed", "word", "reason"),
    [
        ("lowers", CLEARLY_LOWER, "confirmed", ""),
        ("lowers", CLEARLY_HIGHER, "refuted", ""),
        ("raises", CLEARLY_HIGHER, "confirmed", ""),
        ("raises", CLEARLY_LOWER, "refuted", ""),
        ("does not lower", CLEARLY_HIGHER, "confirmed", ""),
        ("does not lower", CLEARLY_LOWER, "refuted", ""),
        ("does not lower", TINY, "confirmed", ""),
        ("does not lower", WIDE, "undecided", "the interval holds 0"),
        ("lowers", TINY, "undecided", "smaller than 0.5 dB"),
        ("lowers", WIDE, "undecided", "the interval holds 0"),
        ("lowers", CLEARLY_LOWER[:4], "undecided", "fewer than 5 seeds"),
    ],
)
def test_a_verdict_says(says: Says, per_seed: list[float], word: Word, reason: str) -> None:
    assert decide(says, effect(per_seed), ENOUGH_PHOTOGRAPHS) == (word, reason)


def test_an_attack_that_recovers_nothing_decides_nothing() -> None:
    nothing = replace(effect(CLEARLY_LOWER), above_floor_db=0.3)
    every: tuple[Says, ...] = ("lowers", "raises", "does not lower")
    for says in every:
        assert decide(says, nothing, ENOUGH_PHOTOGRAPHS) == ("undecided", "the attack recovers nothing")


def test_answers_worse_than_the_mean_picture_are_counted_as_the_mean_picture(record: RecordMaker) -> None:
    found = of_residual(effects([record("skip/plain", 6.0), record("skip/residual", 15.0)]))
    assert found.psnr_db.mean == pytest.approx(15 - 12)
    assert found.above_floor_db == pytest.approx(3)
    assert of_residual(effects([record("skip/plain", 6.0), record("skip/residual", 9.0)])).psnr_db.mean == 0


def test_with_few_photographs_every_verdict_is_undecided() -> None:
    stated = verdicts([replace(effect(CLEARLY_LOWER), contrast=contrast) for contrast in CONTRASTS], 19)
    assert len(stated) == len(CLAIMS)
    assert {(one.word, one.reason) for one in stated} == {("undecided", "fewer than 20 photographs")}


def test_a_verdict_stands_where_either_half_of_the_seeds_says_the_same() -> None:
    stated = verdicts([effect([*CLEARLY_LOWER, *CLEARLY_LOWER])], ENOUGH_PHOTOGRAPHS)
    assert [(one.word, one.halves) for one in stated] == [
        ("confirmed", ("confirmed", "confirmed")),
        ("refuted", ("refuted", "refuted")),
    ]


def test_six_seeds_are_enough_for_halves_and_five_are_not() -> None:
    for per_seed, halves in ((CLEARLY_LOWER, ()), ([*CLEARLY_LOWER, -2.0], ("confirmed", "confirmed"))):
        assert verdicts([effect(per_seed)], ENOUGH_PHOTOGRAPHS)[0].halves == halves


def test_a_verdict_that_one_half_of_the_seeds_does_not_give_is_undecided() -> None:
    torn = effect([*CLEARLY_LOWER, -5.0, 0.5, -4.0, 0.2, -0.3])
    assert decide("lowers", torn, ENOUGH_PHOTOGRAPHS)[0] == "confirmed"
    (stated, _) = verdicts([torn], ENOUGH_PHOTOGRAPHS)
    assert (stated.word, stated.halves) == ("undecided", ("confirmed", "undecided"))
    assert "half" in stated.reason
