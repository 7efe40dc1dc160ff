"""Plans fit their time, and a cell's key covers all that decides its figures."""

from __future__ import annotations

import pytest

from analysis.study import cells
from analysis.study.cells import (
    ATTACKS,
    BEST_NETWORKS,
    FOLDS_PER_SEED,
    NETWORKS,
    QUICK_ZOO,
    ZOO,
    Plan,
    Specimen,
    StudyCell,
    estimated_seconds,
    full_plan,
    grouped,
    network_of,
    quick_plan,
)
from analysis.study.families import FAMILIES
from analysis.study.photographs import FOLDS
from harness.networks.models import model_names

CELL = StudyCell(
    specimen=Specimen(kind="family", network="skip/plain", state="untrained", seed=0, fold=0), cut=0, attack="linear"
)
CORES = 2


def test_every_variant_is_measured_and_equal_structures_once() -> None:
    for family, members in FAMILIES.items():
        for member in members:
            assert NETWORKS[network_of(family, member.name)].structure == member.structure
    structures = [member.structure for member in NETWORKS.values()]
    assert all(structures.count(structure) == 1 for structure in structures)


@pytest.mark.parametrize(("plan", "hours"), [(full_plan(), 6.0), (quick_plan(), 0.25)])
def test_a_plan_fits_its_time_on_two_cores(plan: Plan, hours: float) -> None:
    assert estimated_seconds(plan.cells) / CORES / 3600 < hours


@pytest.mark.parametrize("plan", [full_plan(), quick_plan()])
def test_no_cell_is_planned_twice(plan: Plan) -> None:
    assert len(set(plan.cells)) == len(plan.cells)


def test_the_full_plan_attacks_every_network_of_the_families_alike() -> None:
    attacked = [cell for cell in full_plan().cells if cell.specimen.kind == "family" and cell.attack != "best"]
    per_specimen = grouped(attacked)
    assert len(per_specimen) == len(NETWORKS) * 10 * FOLDS_PER_SEED * 2
    for specimen, own in per_specimen.items():
        cuts = range(len(NETWORKS[specimen.network].cuts))
        assert {(cell.cut, cell.attack) for cell in own} == {(cut, attack) for cut in cuts for attack in ATTACKS}


def test_either_half_of_the_seeds_sees_every_fold() -> None:
    seen = {(cell.specimen.seed, cell.specimen.fold) for cell in full_plan().cells if cell.specimen.kind == "family"}
    for half in (range(5), range(5, 10)):
        assert {fold for seed, fold in seen if seed in half} == set(range(FOLDS))


def test_networks_of_one_seed_are_judged_on_the_same_photographs() -> None:
    folds: dict[tuple[str, str, int], set[int]] = {}
    for specimen in grouped([cell for cell in full_plan().cells if cell.specimen.kind == "family"]):
        folds.setdefault((specimen.network, specimen.state, specimen.seed), set()).add(specimen.fold)
    for (_, _, seed), own in folds.items():
        assert len(own) == FOLDS_PER_SEED
        assert own == folds["skip/plain", "untrained", seed]


def test_named_networks_exist() -> None:
    assert set(BEST_NETWORKS) <= set(NETWORKS)
    assert set(QUICK_ZOO) < set(ZOO) <= set(model_names())


def test_quick_cells_are_among_those_of_the_full_plan() -> None:
    assert set(quick_plan().cells) < set(full_plan().cells)


@pytest.mark.parametrize(
    "other",
    [
        CELL.model_copy(update={"cut": 1}),
        CELL.model_copy(update={"attack": "spectral"}),
        *(
            CELL.model_copy(update={"specimen": CELL.specimen.model_copy(update=change)})
            for change in ({"seed": 1}, {"fold": 1}, {"state": "fitted"}, {"network": "skip/dense"}, {"kind": "zoo"})
        ),
    ],
)
def test_another_cell_has_another_key(other: StudyCell) -> None:
    assert other.key("photographs") != CELL.key("photographs")


def test_other_photographs_give_another_key() -> None:
    assert CELL.key("photographs") == CELL.key("photographs") != CELL.key("others")


@pytest.mark.parametrize(
    ("edited", "same"),
    [
        ('"""Another text."""\n\n\ndef f(x):\n    # why\n    return x + 1\n', True),
        ('"""Text."""\ndef f(x):\n    """Docstring."""\n    return x + 1\n', True),
        ('"""Text."""\ndef f(x):\n    return x + 2\n', False),
    ],
)
def test_words_about_the_code_do_not_change_a_key_but_the_code_does(edited: str, same: bool) -> None:
    source = '"""Text."""\ndef f(x):\n    return x + 1\n'
    assert (cells._without_words(edited) == cells._without_words(source)) == same
