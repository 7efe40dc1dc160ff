"""How strong an attacker was, and so how far its figure can be trusted: the marks of a row."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.results.schema import LeakageRecord

# A search that leaves more of the activation unmatched than this did not find a picture that explains it.
FAILED_RESIDUAL = 0.4
# An attack this close to the floor recovered so little that a stronger one may well recover more.
NEAR_FLOOR_DB = 3.0
# What is tried where nothing stronger can be afforded.
_WEAK = {"linear"}


def search_failed(record: LeakageRecord) -> bool | None:
    """Whether the attack's search ended without a picture that has the received activation; None without a search."""
    return float(np.mean(record.search_residual)) > FAILED_RESIDUAL if record.search_residual else None


def above_floor_db(record: LeakageRecord) -> float:
    """How far the mean PSNR is above that of the mean picture."""
    return float(np.mean(record.psnr_db) - np.mean(record.floor_psnr_db))


def is_weakly_attacked(records: Iterable[LeakageRecord]) -> bool | None:
    """Whether a cell with these records met `linear` alone, and that stays near the floor; None without figures."""
    judged = [record for record in records if record.status == "ok"]
    if not judged:
        return None
    return {record.attack for record in judged} <= _WEAK and max(map(above_floor_db, judged)) <= NEAR_FLOOR_DB
