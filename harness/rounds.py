"""The order in which the work of a round is measured."""

from __future__ import annotations

import random
from collections.abc import Iterable


def round_order(names: Iterable[str], round_: int, seed: int) -> list[str]:
    """The order of one round, shuffled, so that heat and drift favour none; the same seed gives the same order."""
    order = sorted(names)
    random.Random(f"{seed}/{round_}").shuffle(order)  # noqa: S311 - an order, not a secret
    return order
