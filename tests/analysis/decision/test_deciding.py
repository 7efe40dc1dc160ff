"""A stronger attack is worth most where the weak one's verdict turns, on the front, and then at every second split."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.decision.deciding import by_worth

FLOOR_DB = 12.0


def table(
    psnr_db: Sequence[float | None],
    times_ms: Sequence[float | None],
    *,
    first: int = 1,
    attack: str = "linear",
    device: str = "local",
    precision: str = "fp32",
) -> pd.DataFrame:
    rows = pd.DataFrame({"psnr_db": psnr_db, "end_to_end_p50_ms": times_ms}, dtype="float64")
    rows = rows.assign(split_index=range(first, first + len(rows)), floor_psnr_db=FLOOR_DB, attack=attack)
    return rows.assign(model="m", input_size="8x8", precision=precision, device=device, threads=1)


# On the front are 6, 7 and 8: what is later is slower, and leaks less. 5 is the first within 3 dB of the floor.
PSNR_DB = [40.0, 30.0, 22.0, 17.0, 14.5, 13.0, 12.8, 12.0]
TIMES_MS = [9.0, 8.0, 7.0, 6.0, 5.0, 3.0, 4.0, 4.5]


def order(summary: pd.DataFrame) -> list[tuple[int, int]]:
    return [(place.tier, place.split_index) for place in by_worth(summary, "linear")]


def test_deciding_splits_come_first_and_among_equals_those_where_the_verdict_turns() -> None:
    found = order(table(PSNR_DB, TIMES_MS))
    assert [split for tier, split in found if tier == 0] == [5, 6, 7, 8]
    assert [split for tier, split in found if tier == 1] == [4, 2]
    assert [split for tier, split in found if tier == 2] == [3, 1]
    assert [tier for tier, _ in found] == sorted(tier for tier, _ in found)


def test_a_split_decides_where_it_is_on_the_front_of_any_device() -> None:
    elsewhere = table(PSNR_DB, [3.0, *TIMES_MS[1:]], device="phone")
    both = pd.concat([table(PSNR_DB, TIMES_MS), elsewhere.assign(end_to_end_p50_ms=[1.0, *TIMES_MS[1:]])])
    assert (0, 1) in order(both.reset_index(drop=True))
    assert len(order(both.reset_index(drop=True))) == len(PSNR_DB)


def test_what_has_no_figure_no_time_or_a_stronger_attacker_already_moves_nothing() -> None:
    plain = order(table(PSNR_DB, TIMES_MS))
    stronger = table([60.0, 12.0], [1.0, 1.0], first=3, attack="spectral")
    assert order(pd.concat([table(PSNR_DB, TIMES_MS), stronger]).reset_index(drop=True)) == plain
    reference = table([60.0], [0.5], first=0)
    assert order(pd.concat([reference, table(PSNR_DB, TIMES_MS)]).reset_index(drop=True)) == plain
    without = [split for _, split in order(table([None, *PSNR_DB[1:]], TIMES_MS))]
    assert sorted(without) == [2, 3, 4, 5, 6, 7, 8]
    untimed = order(table(PSNR_DB, [None] * len(PSNR_DB)))
    assert [split for tier, split in untimed if tier == 0] == [5]


def test_where_nothing_comes_near_the_floor_the_front_decides_alone() -> None:
    far = [value + 20 for value in PSNR_DB]
    assert {split for tier, split in order(table(far, TIMES_MS)) if tier == 0} == {6, 7, 8}


def test_each_precision_has_its_own_and_they_take_turns() -> None:
    both = pd.concat([table(PSNR_DB, TIMES_MS), table(PSNR_DB, TIMES_MS, precision="int8")]).reset_index(drop=True)
    found = by_worth(both, "linear")
    assert [(place.precision, place.split_index) for place in found[:2]] == [("fp32", 5), ("int8", 5)]
    assert sum(place.tier == 0 for place in found) == 8
