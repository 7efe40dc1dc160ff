"""Every photograph is held out once, and never while an attack learns from it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.study.photographs import FOLDS, Photographs, gather
from harness.errors import PictureError

SIZE = (32, 32)


def paint(folder: Path, count: int) -> Path:
    """Smooth pictures, no two of them alike."""
    folder.mkdir()
    rng = np.random.default_rng(len(folder.name))
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        coarse.resize((48, 48), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


def test_each_source_is_held_out_in_exactly_one_fold(photographs: Photographs) -> None:
    folds = [photographs.fold(index, SIZE) for index in range(FOLDS)]
    held_out = Counter(source for fold in folds for source in set(fold.held_out.sources))
    assert held_out == dict.fromkeys(photographs.sources, 1)


def test_no_source_is_learned_from_and_judged_in_one_fold(photographs: Photographs) -> None:
    for index in range(FOLDS):
        fold = photographs.fold(index, SIZE)
        assert not set(fold.train.sources) & set(fold.held_out.sources)
        assert set(fold.train.sources) | set(fold.held_out.sources) == set(photographs.sources)


def test_the_same_photographs_give_the_same_pictures(photographs: Photographs) -> None:
    again = gather(["builtin"])
    assert again.sha256 == photographs.sha256
    one, other = photographs.fold(1, SIZE), again.fold(1, SIZE)
    assert one.sha256 == other.sha256
    assert torch.equal(one.train.pixels, other.train.pixels)


def test_several_collections_are_taken_together(tmp_path: Path, photographs: Photographs) -> None:
    both = gather(["builtin", str(paint(tmp_path / "more", 5))])
    assert len(both.sources) == len(photographs.sources) + 5
    assert both.sha256 != photographs.sha256


def test_files_of_one_name_in_two_folders_are_two_photographs(tmp_path: Path) -> None:
    found = gather([str(paint(tmp_path / "one", 4)), str(paint(tmp_path / "another", 4))])
    assert len(found.sources) == 8


def test_copies_count_once(tmp_path: Path) -> None:
    folder = paint(tmp_path / "one", 8)
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    assert len(gather([str(folder)]).sources) == 8


def test_too_few_photographs_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="7 photographs are too few") as error:
        gather([str(paint(tmp_path / "few", 7))])
    assert "\n" not in str(error.value)
