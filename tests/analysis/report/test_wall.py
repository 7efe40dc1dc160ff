"""The wall shows the pictures that say most, and what is missing is missing."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from PIL import Image

from analysis.report.rows import charts
from analysis.report.wall import build_wall, choose_pictures


class RunFolder(Protocol):
    path: Path
    summary: pd.DataFrame
    pictures: pd.DataFrame


def leakage(psnr: dict[str, float]) -> pd.DataFrame:
    rows = [{"cell": "c", "attack": "a", "picture": name, "source": name[0], "psnr_db": v} for name, v in psnr.items()]
    return pd.DataFrame(rows)


def test_best_and_worst_are_always_shown_and_sources_differ() -> None:
    psnr = {"a1": 30.0, "a2": 29, "a3": 28, "a4": 27, "b1": 26, "c1": 25, "a5": 24, "d1": 23}
    assert choose_pictures(leakage(psnr), sorted(psnr), 4) == ["a1", "b1", "c1", "d1"]
    assert choose_pictures(leakage(psnr), sorted(psnr), 2) == ["a1", "d1"]
    assert choose_pictures(leakage(psnr), sorted(psnr), 1) == ["a1"]


def test_with_one_source_pictures_are_spread_over_the_ranks() -> None:
    psnr = {f"a{place}": 40.0 - place for place in range(11)}
    assert choose_pictures(leakage(psnr), sorted(psnr), 3) == ["a0", "a5", "a10"]


def test_pictures_without_leakage_or_file_are_no_trouble() -> None:
    names = [f"n{place}" for place in range(9)]
    assert choose_pictures(leakage({"gone": 3.0}), names, 3) == ["n0", "n4", "n8"]
    assert choose_pictures(leakage({"gone": 3.0}), [], 3) == []


def test_every_attacked_split_has_a_row_of_small_pictures(run_folder: RunFolder) -> None:
    (chart,) = charts(run_folder.summary)
    wall = build_wall(run_folder.path, chart, run_folder.pictures)
    assert [number for number, _, _ in wall.splits] == list(range(1, 33))
    assert wall.curves == ["fp32, linear", "int8, linear"]
    assert [len(strips) for number, _, strips in wall.splits if number in (6, 7, 20)] == [2, 1, 1]
    tile = wall.splits[0][2][0].tiles[0]
    assert tile is not None
    assert tile.alt.endswith("fp32, linear: 42.9 dB")
    with Image.open(io.BytesIO(base64.b64decode(tile.uri.partition(",")[2]))) as picture:
        assert (picture.format, max(picture.size)) == ("WEBP", 96)


def test_the_wall_shows_what_the_independent_judge_says(run_folder: RunFolder) -> None:
    (chart,) = charts(run_folder.summary.assign(judge="efficientnet_lite1", judge_top1=0.25, judge_similarity=0.613))
    pictures = run_folder.pictures
    seen = pictures["picture"].str.startswith("chelsea").astype("boolean")
    wall = build_wall(run_folder.path, chart, pictures.assign(judge_top1=seen, judge_similarity=0.817))
    (_, _, (strip, _)) = wall.splits[0]
    assert strip.summary.endswith("; efficientnet_lite1: alike 0.61, 25% recognised")
    captions = [tile.caption.partition(" dB, ")[2] for tile in strip.tiles if tile]
    names = [tile.caption for tile in wall.originals]
    assert captions == ["0.82 ✓" if name.startswith("chelsea") else "0.82" for name in names]


def test_large_pictures_are_scaled_to_128(
    make_rows: Callable[..., list[dict[str, Any]]], make_table: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    (tmp_path / "pictures" / "held_out").mkdir(parents=True)
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "pictures" / "held_out" / "large.png")
    (chart,) = charts(make_table(make_rows(splits=2)))
    (tile,) = build_wall(tmp_path, chart, leakage({"large": 1.0})).originals
    with Image.open(io.BytesIO(base64.b64decode(tile.uri.partition(",")[2]))) as picture:
        assert picture.size == (128, 85)


def test_a_missing_reconstruction_leaves_a_gap(run_folder: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder.path / "pictures" / "held_out", folder / "pictures" / "held_out")
    (chart,) = charts(run_folder.summary)
    cell = chart.curves[0].rows[3].text("cell")
    shutil.copytree(run_folder.path / "pictures" / cell, folder / "pictures" / cell)
    for lost in (folder / "pictures" / cell / "linear").glob("chelsea*"):
        lost.unlink()
    ((number, _, (strip,)),) = build_wall(folder, chart, run_folder.pictures).splits
    assert number == 3
    assert {tile is None for tile in strip.tiles} == {True, False}
