"""A row is marked where its attacker was weak or its search failed, and nowhere else."""

from __future__ import annotations

import pytest

from analysis.marks import FAILED_RESIDUAL, is_weakly_attacked, search_failed
from harness.results.schema import LeakageRecord


def record(attack: str = "linear", psnr_db: float = 14.0, **known: object) -> LeakageRecord:
    """An attack on two pictures whose floor is 12 dB."""
    figures = {"psnr_db": (psnr_db - 1, psnr_db + 1), "ssim": (0.5, 0.5), "floor_psnr_db": (11.0, 13.0)}
    others = {"oracle_psnr_db": (13.0, 13.0), "agreement": (True, False)}
    return LeakageRecord.model_validate({"cell": "c", "attack": attack, "status": "ok"} | figures | others | known)


SKIPPED = LeakageRecord(cell="c", attack="decoder", status="skipped", reason="no time left")


@pytest.mark.parametrize(
    ("search", "expected"),
    [((), None), ((0.1, 0.12), False), ((FAILED_RESIDUAL, FAILED_RESIDUAL), False), ((0.1, 0.8), True)],
)
def test_a_search_failed_where_its_own_residual_says_so_whatever_the_answers_is(
    search: tuple[float, ...], expected: bool | None
) -> None:
    assert search_failed(record("spectral", search_residual=search, residual=(0.9, 0.9))) is expected


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        ([], None),
        ([SKIPPED], None),
        ([record()], True),
        ([record(psnr_db=15.0)], True),
        ([record(psnr_db=15.1)], False),
        ([record(), SKIPPED], True),
        ([record(), record("spectral", 13.0)], False),
        ([record("whitebox", 12.0)], False),
    ],
)
def test_a_cell_is_weakly_attacked_where_linear_alone_was_tried_and_stays_near_the_floor(
    tried: list[LeakageRecord], expected: bool | None
) -> None:
    assert is_weakly_attacked(tried) is expected
