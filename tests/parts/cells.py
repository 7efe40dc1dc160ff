"""Cells and rounds, made up: for tests of what is read out of them."""

from __future__ import annotations

from harness.results.schema import Cell, RoundRecord

_FACTS: dict[str, object] = {
    "model": "tiny",
    "weights": "random, seed 0",
    "weights_sha256": "00",
    "trained": False,
    "input_size": (8, 8),
    "op": "conv2d",
    "activation_shape": (1, 2),
    "device": "local",
    "backend": "xnnpack",
    "precision": "fp32",
    "codec": "fp32",
    "threads": 1,
    "affinity": "all",
    "link": "loopback",
    "head_params": 1,
    "activation_bytes": 8,
}


def tiny_cell(index: int, **changed: object) -> Cell:
    """The cell of one split."""
    own = {"hash": f"c{index}", "split_index": index, "split": f"layer{index}", "head_macs": index}
    return Cell.model_validate(_FACTS | own | changed)


def head_round(cell: str, **outcome: object) -> RoundRecord:
    """A round of a head, the first and a good one unless told otherwise."""
    return RoundRecord.model_validate({"work": cell, "cells": (cell,), "round": 0, "status": "ok"} | outcome)
