"""What was tried beside linear is told with its splits and its time, and what was not with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.report.effort import efforts
from harness.results.schema import AUTO, Cell, LeakageRecord, RunConfig, RunFile

FIGURES = {
    "psnr_db": (20.0,),
    "ssim": (0.5,),
    "floor_psnr_db": (12.0,),
    "oracle_psnr_db": (13.0,),
    "agreement": (True,),
}
REASON = "the total of 60 s was not enough: --attack-total 10m"


def run_file(*, total_s: float | None = 60.0, precisions: tuple[str, ...] = ("fp32",)) -> RunFile:
    texts = dict.fromkeys(("weights", "weights_sha256", "split", "op", "device", "affinity", "link"), "")
    numbers = dict.fromkeys(("head_params", "head_macs", "activation_bytes"), 0)
    shared = texts | numbers | {"model": "m", "trained": True, "input_size": (8, 8), "activation_shape": (1,)}
    shared |= {"backend": "xnnpack", "codec": "fp32", "threads": 1}
    cells = [
        Cell.model_validate(shared | {"hash": f"{precision}{i}", "split_index": i, "precision": precision})
        for precision in precisions
        for i in range(6)
    ]
    config: dict[str, Any] = {
        "models": ("m",),
        "split": "all",
        "devices": ("local",),
        "precisions": precisions,
        "input_size": None,
    }
    config |= {"attacks": ("linear",), "attack_total_s": total_s, "pictures": "builtin", "weights": "auto", "seed": 0}
    file: dict[str, Any] = {
        "run_id": "r",
        "created": "",
        "environment": {},
        "pictures": "",
        "pictures_sha256": "",
        "held_out": ("a",),
    }
    file |= {"held_out_sources": ("a",), "notices": (), "devices": (), "cells": cells}
    return RunFile.model_validate(file | {"config": RunConfig.model_validate(config)})


def kept(*records: Mapping[str, object]) -> dict[tuple[str, str], LeakageRecord]:
    made = [LeakageRecord.model_validate({"status": "ok"} | dict(record)) for record in records]
    return {record.key: record for record in made}


def test_it_names_splits_time_and_reasons() -> None:
    leakage = kept(
        *({"cell": f"fp32{i}", "attack": "linear", **FIGURES} for i in range(6)),
        *({"cell": f"fp32{i}", "attack": "spectral", "spent_s": 10.2, **FIGURES} for i in (3, 4)),
        *({"cell": f"fp32{i}", "attack": AUTO, "status": "skipped", "reason": REASON} for i in (1, 2)),
    )
    (effort,) = efforts(run_file(), leakage)
    assert str(effort) == (
        f"m fp32: spectral was tried at split 3-4; nothing stronger than linear at 1-2 ({REASON}); "
        "nothing stronger than linear at 5 (not tried yet: bench run --resume); 20 s of the total of 60 s went into it"
    )


def test_each_precision_tells_its_own_part_of_the_total() -> None:
    leakage = kept(
        *({"cell": f"{p}1", "attack": "linear", **FIGURES} for p in ("fp32", "int8")),
        {"cell": "int81", "attack": "spectral", "spent_s": 7.0, **FIGURES},
    )
    fp32, int8 = efforts(run_file(precisions=("fp32", "int8")), leakage)
    assert str(fp32).startswith("m fp32: nothing stronger than linear at 1 (not tried yet")
    assert str(int8).endswith("spectral was tried at split 1; 7 s of the total of 60 s went into it")


def test_there_is_nothing_to_tell_of_attacks_chosen_by_name_or_not_yet_made() -> None:
    tried = kept({"cell": "fp321", "attack": "linear", **FIGURES})
    assert efforts(run_file(total_s=None), tried) == []
    assert efforts(run_file(), {}) == []
    assert efforts(run_file(), kept({"cell": "fp321", "attack": "linear", "status": "failed", "reason": "x"})) == []
