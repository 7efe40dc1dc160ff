"""The trained decoder: never worse than what it starts from, better where there is something to learn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from analysis.attacks import Pairs, decoder
from analysis.attacks.decoder import Decoder
from analysis.attacks.linear import Linear
from analysis.metrics import psnr_db

HOURS = 7200.0


def head(seen: Tensor) -> Tensor:
    """The fourth power of what it sees: not to be undone linearly."""
    return F.pixel_unshuffle(seen, 2).pow(4)


def pairs(count: int, seed: int) -> Pairs:
    """Smooth pictures behind that head."""
    coarse = torch.rand(count, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    seen = F.interpolate(coarse, size=(8, 8), mode="bicubic", align_corners=False).clamp(0, 1)
    return Pairs(seen, head(seen), tuple(f"photograph-{index % 8}" for index in range(count)))


def rebuilt(attack: Linear | Decoder, *, budget_s: float, own: int = 96) -> Tensor:
    attack.fit(pairs(own, 0), head=head, budget_s=budget_s)
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
    monkeypatch.setattr(decoder, "_STEPS_BETWEEN_JUDGEMENTS", 5)
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
