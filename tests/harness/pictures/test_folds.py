"""Several folds hold out other photographs each, the first of them what a single one does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.errors import PictureError
from harness.pictures import Pictures, load_pictures
from harness.pictures.likeness import refuse_leaks
from harness.pictures.photographs import Photograph

SIZE = (16, 16)


def load(spec: str, folds: int) -> Pictures:
    return load_pictures(spec, size=SIZE, train_count=60, held_out_count=8, folds=folds)


def photograph(source: str, seed: int) -> Photograph:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Photograph.of(source, np.asarray(Image.fromarray(coarse).resize((40, 40))))


@pytest.fixture(scope="module")
def four() -> Pictures:
    return load("builtin", 4)


def test_the_first_fold_is_what_a_single_one_holds_out(four: Pictures) -> None:
    single = load("builtin", 1)
    assert torch.equal(four.held_out.pixels[four.folds[0].pictures], single.held_out.pixels)
    assert four.held_out.names[:8] == single.held_out.names
    assert four.folds[0].sources.isdisjoint(single.train.sources)
    (fold,) = single.folds
    assert single.held_out.sources[fold.pictures] == single.held_out.sources


def test_no_photograph_is_in_two_folds_and_every_picture_is_in_one(four: Pictures) -> None:
    assert [len(fold.sources) for fold in four.folds] == [4, 4, 4, 4]
    assert len(frozenset().union(*(fold.sources for fold in four.folds))) == 16
    assert len(four.held_out) == len(set(four.held_out.names)) == 32
    places = [place for fold in four.folds for place in range(32)[fold.pictures]]
    assert places == list(range(32))
    for fold in four.folds:
        assert set(four.held_out.sources[fold.pictures]) == fold.sources


def test_each_fold_learns_from_about_as_many_pictures_as_a_single_one(four: Pictures) -> None:
    for fold in four.folds:
        assert sum(source not in fold.sources for source in four.train.sources) >= 58
    assert four.photographs is not None
    assert {one.source for one in four.photographs.photographs} == set(four.train.sources)


def test_folds_are_told(four: Pictures) -> None:
    assert "32 held-out crops of 16 photographs in 4 folds" in four.description
    assert "fold" not in load("builtin", 1).description


def test_too_few_photographs_for_as_many_folds_is_one_line_with_the_most_that_are_possible(tmp_path: Path) -> None:
    for seed in range(6):
        coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((50, 50), Image.Resampling.BICUBIC).save(tmp_path / f"{seed}.png")
    with pytest.raises(
        PictureError, match="6 folds need 5 or more photographs beside the 2 of the first, not 4"
    ) as error:
        load(str(tmp_path), 6)
    assert "--folds 5" in error.value.remedy
    assert len(load(str(tmp_path), 5).folds) == 5


def test_a_copy_in_another_fold_is_refused() -> None:
    refuse_leaks([photograph("a", 0)], [photograph("b", 1)], [photograph("c", 2)])
    with pytest.raises(PictureError, match="the held-out photograph c is also learned from, as b"):
        refuse_leaks([photograph("a", 0)], [photograph("b", 1)], [photograph("c", 1)])
