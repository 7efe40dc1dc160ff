"""Every registered attack computes where its pairs are, and answers there as it does on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from analysis import metrics
from analysis.attacks import ATTACKS, Pairs, decoder, spectral, whitebox
from analysis.metrics import psnr_db
from tests.elsewhere.processor import elsewhere
from tests.parts.smooth import mixing_head, smooth_pictures

STEPS = 3
AGREES_DB = 0.1


HERE = [
    "elsewhere",
    "elsewhere without float64",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.mps.is_available() else []),
]


@pytest.fixture(params=HERE)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    if request.param.startswith("elsewhere"):
        float64 = request.param == "elsewhere"
        monkeypatch.setattr(metrics, "_WITHOUT_FLOAT64", set() if float64 else {"elsewhere"})
        with elsewhere(float64=float64) as there:
            yield there
    else:
        yield torch.device(request.param, 0)


def pairs(count: int, seed: int) -> Pairs:
    seen = smooth_pictures(count, seed)
    return Pairs(seen, mixing_head(seen), tuple(f"photograph-{index % 6}" for index in range(count)))


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_it_computes_where_its_pairs_are_and_answers_as_on_the_cpu(
    name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "MOST_STEPS", STEPS)  # steps, not seconds, for both alike
    monkeypatch.setattr(spectral, "EVALUATIONS", 10 * STEPS)
    monkeypatch.setattr(whitebox, "STEPS", 10 * STEPS)
    own, held_out = pairs(24, 0), pairs(4, 1)
    attack = ATTACKS.load(name)()
    attack.fit(own, head=mixing_head)
    expected = psnr_db(held_out.pictures, attack.rebuild(held_out.activations))
    there = ATTACKS.load(name)()
    there.fit(own.to(device), head=mixing_head)
    rebuilt = there.rebuild(held_out.activations.to(device))
    assert rebuilt.device == device
    reached = psnr_db(held_out.pictures, rebuilt.cpu())
    assert abs(float(reached.mean() - expected.mean())) < AGREES_DB
