"""The axes of a table: what tells its rows apart, declared once. Grouping, sorting, front, report and resume ask here.

A new axis is a field of `Cell`, a column of the same name, and one line in `AXES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.results.schema import Cell

Role = Literal["chart", "curve", "place"]


@dataclass(frozen=True)
class Axis:
    """One thing that rows can differ in.

    Attributes:
        name: of the column, and of the field of `Cell` (an attack is no part of a cell).
        role: rows that differ in it stand in charts of their own, as curves of their own, or along a curve.
        of_cells: whether cells differ in it, too.
        always_told: a legend tells it even where all that it shows agree.
    """

    name: str
    role: Role
    of_cells: bool = True
    always_told: bool = False


AXES = (
    Axis("model", "chart", always_told=True),
    Axis("weights", "chart"),
    Axis("input_size", "chart"),
    Axis("device", "chart", always_told=True),
    Axis("threads", "chart", always_told=True),
    Axis("affinity", "chart"),
    Axis("link", "chart"),
    Axis("precision", "curve", always_told=True),
    Axis("attack", "curve", of_cells=False),
    Axis("split_index", "place"),
)

Key = tuple[object, ...]


def names(*roles: Role) -> list[str]:
    """The columns of these roles, in order."""
    return [axis.name for axis in AXES if axis.role in roles]


def cell_key(cell: Cell) -> Key:
    """Where a cell stands on every axis of cells; cells are sorted by it."""
    return tuple(getattr(cell, axis.name) for axis in AXES if axis.of_cells)


def curve_key(cell: Cell) -> Key:
    """The same for all cells that differ in their place along one curve alone."""
    return tuple(getattr(cell, axis.name) for axis in AXES if axis.of_cells and axis.role != "place")
