"""The comparison resumes where it was stopped, and says of it what is so."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.benchmarks.attacks import chart, measure
from tests.benchmarks.attacks.compare import compare
from tests.benchmarks.attacks.measure import Plan, outcomes, quantised
from tests.benchmarks.attacks.outcome import Outcome
from tests.benchmarks.attacks.summary import advantages, markdown, table


def outcome(attack: str, split_index: int, *psnr_db: float, weights_sha256: str = "w") -> Outcome:
    count = len(psnr_db)
    return Outcome(
        network="net",
        weights="random, seed 0",
        weights_sha256=weights_sha256,
        pictures_sha256="p",
        split_index=split_index,
        split=f"layer{split_index}",
        activation_shape=(8, 4, 4),
        attack=attack,
        budget_s=1.0,
        fit_cpu_s=0.5,
        rebuild_cpu_s=0.25,
        sources=tuple("abcdefgh"[:count]),
        psnr_db=psnr_db,
        ssim=(0.5,) * count,
        residual=(0.1,) * count,
        floor_psnr_db=(10.0,) * count,
    )


OUTCOMES = [
    *(outcome("spectral", index, 20.0 + index, 22.0 + index) for index in (1, 2, 3)),
    *(outcome("rmle", index, 15.0, 18.0) for index in (1, 2, 3)),
    outcome("inverse_network", 2, 16.0, 19.0),
    outcome("inverse_network", 3, 24.0, 24.5),
]


def test_an_advantage_is_over_the_peer_that_is_best_at_each_split() -> None:
    (ahead,) = advantages(OUTCOMES)
    assert (ahead.network, ahead.attack) == ("net", "spectral")
    assert ahead.by_split_db == pytest.approx((5.5, 5.5, -0.25))
    assert ahead.worst_db == pytest.approx(-0.25)
    assert ahead.worst_split == "layer3"


def test_its_mean_is_over_the_middle_third_of_the_splits_and_its_interval_over_photographs() -> None:
    (ahead,) = advantages(OUTCOMES)
    assert ahead.middle_db == pytest.approx(5.5)
    assert ahead.interval_db == pytest.approx((5.0, 6.0))


def test_an_attack_without_a_peer_beside_it_has_no_advantage() -> None:
    assert advantages([outcome("spectral", 1, 20.0)]) == []


def test_the_table_has_one_row_a_split_and_a_gap_where_an_attack_was_not_tried() -> None:
    rows = table(OUTCOMES)
    assert list(rows["split_index"]) == [1, 2, 3]
    assert list(rows["spectral_psnr_db"]) == [22.0, 23.0, 24.0]
    assert list(rows["spectral_cpu_s"]) == [0.8] * 3
    assert pd.isna(rows["inverse_network_psnr_db"][0])


def test_the_chart_draws_every_attack_and_tells_its_bits_apart() -> None:
    names = [
        f"{name}{bits}" for name in ("linear", "spectral", "decoder", "rmle") for bits in ("", ", 8 bit", ", 4 bit")
    ]
    (panel,) = chart.draw([outcome(name, index, 20.0) for name in names for index in (1, 2)], 1.0).axes
    *lines, _ = panel.get_lines()
    assert [line.get_label() for line in lines] == names
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(names)
    assert len({line.get_color() for line in lines}) == 4


def test_the_summary_gives_figures_with_their_conditions() -> None:
    text = markdown(OUTCOMES, 1.0)
    assert "2 held-out pictures of 2 photographs" in text
    assert "| net | spectral | +5.50 | +5.00 to +6.00 | -0.25 | layer3 |" in text
    assert "nan" not in text


class Counted(measure._Split):
    """Counts how often attacks are tried."""

    judged: list[str]

    def attack(self, name: str, bits: int | None, budget_s: float) -> Outcome | None:
        Counted.judged.append(f"{self.point.index} {name}")
        return super().attack(name, bits, budget_s)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    Counted.judged = []
    monkeypatch.setattr(measure, "_Split", Counted)
    return Counted


def test_what_was_measured_is_not_measured_again(tmp_path: Path, counted: type[Counted]) -> None:
    plan = Plan(("squeezenet1_1",), "1,3", ("inverse_network", "transposed_decoder"), 0.1, tmp_path)
    told: list[str] = []
    first = compare(plan, told.append)
    assert len(first) == len(told) == len(counted.judged) == 4
    (lost,) = tmp_path.glob("budget-0.1s/squeezenet1_1/003-inverse_network.json")
    lost.unlink()
    counted.judged.clear()
    again = compare(plan, told.append)
    assert counted.judged == ["3 inverse_network"]
    assert [(o.split_index, o.attack) for o in again] == [(o.split_index, o.attack) for o in first]
    assert {path.name for path in tmp_path.glob("budget-0.1s/attacks.*")} == {
        "attacks.csv",
        "attacks.md",
        "attacks.png",
    }


def test_outcomes_of_other_weights_are_measured_again(tmp_path: Path, counted: type[Counted]) -> None:
    plan = Plan(("squeezenet1_1",), "3", ("inverse_network",), 0.1, tmp_path)
    (found,) = outcomes(plan)
    plan.kept.keep(found.model_copy(update={"weights_sha256": "others"}))
    list(outcomes(plan))
    assert counted.judged == ["3 inverse_network"] * 2


def test_quantised_activations_have_as_many_levels_and_keep_their_ends_and_gradients() -> None:
    activations = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    coarse = quantised(activations, 4)
    for found, given in zip(coarse, activations, strict=True):
        assert len(found.unique()) <= 16
        assert found.min() == given.min()
        torch.testing.assert_close(found.max(), given.max())
        assert (found - given).abs().max() <= (given.max() - given.min()) / 30 + 1e-6
    (gradient,) = torch.autograd.grad(coarse.sum(), activations)
    assert torch.equal(gradient, torch.ones_like(gradient))
    assert quantised(activations, None) is activations
