"""The advice names where the leakage falls off, by whom, and what of the study applies; it promises nothing untried."""

from __future__ import annotations

import pandas as pd

from analysis.decision.advice import advice
from analysis.decision.published import PublishedEffect
from harness.results.schema import StructureCounts

FLOOR_DB = 12.0
PLAIN = StructureCounts(convolutions=1, residual=0, dense=0, inception=0, max_pooling=0)


def rows(*attacked: tuple[int, str, float], weakly: bool = False) -> pd.DataFrame:
    table = pd.DataFrame(attacked, columns=["split_index", "attack", "psnr_db"])
    table["split"] = [f"layer{index}" for index in table["split_index"]]
    near = table["psnr_db"] <= FLOOR_DB + 3
    table["weakly_attacked"] = near if weakly else False
    return table.assign(model="net", precision="fp32", trained=True, floor_psnr_db=FLOOR_DB)


def effect(contrast: str, attack: str = "spectral", networks: str = "fitted") -> PublishedEffect:
    figures = {"psnr_db": 3.1, "low_db": 2.8, "high_db": 3.3}
    return PublishedEffect.model_validate(
        {"contrast": contrast, "networks": networks, "attack": attack, **figures},
    )


def test_the_leakage_falls_off_where_the_strongest_attack_comes_near_the_floor_and_stays_there() -> None:
    table = rows(
        (1, "linear", 30.0), (2, "linear", 14.0), (3, "linear", 14.0), (3, "spectral", 18.0), (4, "linear", 13)
    )
    (sentence,) = advice(table, {}, [])
    assert "falls off at split 4 (layer4)" in sentence
    assert "spectral still reached 18.0 dB at split 3 (layer3)" in sentence
    assert "tried there: linear" in sentence


def test_where_linear_alone_was_tried_it_says_that_a_stronger_attack_may_recover_more() -> None:
    (sentence,) = advice(rows((1, "linear", 30.0), (2, "linear", 13.0), weakly=True), {}, [])
    assert "only linear was tried there" in sentence


def test_a_network_whose_leakage_never_falls_off_is_said_to_leak_to_the_last() -> None:
    (sentence,) = advice(rows((1, "linear", 30.0), (2, "linear", 20.0)), {}, [])
    assert "does not fall off" in sentence


def test_a_network_of_which_nothing_was_recovered_is_not_called_private() -> None:
    (sentence,) = advice(rows((1, "linear", 13.0), weakly=True), {}, [])
    assert "may recover more" in sentence


def test_the_study_s_effects_are_quoted_for_what_the_network_has_and_for_nothing_else() -> None:
    table = rows((1, "linear", 30.0))
    structure = PLAIN.model_copy(update={"residual": 9})
    contrasts = ("residual against plain", "max pooling against stride")
    _, sentence = advice(table, {"net": structure}, [effect(contrast) for contrast in contrasts])
    assert "skip connections (9 here): +3.1 dB [+2.8, +3.3]" in sentence
    assert "by spectral" in sentence
    assert "pooling" not in sentence
    (_,) = advice(table, {"net": PLAIN}, [effect(contrast) for contrast in contrasts])


def test_effects_of_untrained_networks_are_not_quoted_for_trained_ones() -> None:
    structure = {"net": PLAIN.model_copy(update={"max_pooling": 1})}
    known = [effect("max pooling against stride", networks="untrained")]
    assert len(advice(rows((1, "linear", 30.0)), structure, known)) == 1
    assert len(advice(rows((1, "linear", 30.0)).assign(trained=False), structure, known)) == 2


def test_a_run_that_was_not_attacked_gets_no_advice() -> None:
    assert advice(rows((0, "linear", 60.0)), {"net": PLAIN}, []) == []
