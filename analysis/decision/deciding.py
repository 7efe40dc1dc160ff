"""Which splits decide: where a stronger attack than `linear` would change what one concludes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from analysis.decision.front import on_front
from analysis.marks import NEAR_FLOOR_DB


@dataclass(frozen=True)
class Candidate:
    """A split of a network in one precision, that a stronger attack may be worth it at.

    Attributes:
        tier: 0 where it decides, 1 for every second one of the others, 2 for the rest.
        from_verdict_db: how far its PSNR is from where a split counts as near the floor.
    """

    model: str
    precision: str
    split_index: int
    tier: int
    from_verdict_db: float


def by_worth(summary: pd.DataFrame, attack: str) -> list[Candidate]:
    """Every split that was attacked, the one where a stronger attack is worth most first.

    A split decides where it is on the front of time and leakage on any device, or is the first at which the attack
    comes near the floor. Within a tier, those come first whose PSNR is nearest to where that verdict turns: far
    above it a split leaks whoever attacks, far below it little is to be gained.

    Args:
        summary: the tidy table.
        attack: that all splits had, so that they can be compared.
    """
    rows = summary[(summary["attack"] == attack) & (summary["split_index"] > 0)]
    rows = rows.dropna(subset=["psnr_db", "floor_psnr_db"])
    rows = rows.assign(
        front=on_front(rows) & rows["end_to_end_p50_ms"].notna(), above_db=rows["psnr_db"] - rows["floor_psnr_db"]
    )
    splits = rows.groupby(["model", "precision", "split_index"], sort=False)[["front", "above_db"]].max().reset_index()
    found = [
        one
        for (model, precision), part in splits.groupby(["model", "precision"], sort=False)
        for one in _candidates(str(model), str(precision), part.sort_values("split_index"))
    ]
    return sorted(found, key=lambda one: (one.tier, one.from_verdict_db))


def _candidates(model: str, precision: str, splits: pd.DataFrame) -> Iterator[Candidate]:
    near = splits.loc[splits["above_db"] <= NEAR_FLOOR_DB, "split_index"]
    first = near.iloc[0] if len(near) else None
    others = 0
    for index, front, above_db in splits[["split_index", "front", "above_db"]].itertuples(index=False):
        decides = bool(front) or index == first
        others += not decides
        tier = 0 if decides else 1 + others % 2
        yield Candidate(model, precision, int(index), tier, abs(float(above_db) - NEAR_FLOOR_DB))
