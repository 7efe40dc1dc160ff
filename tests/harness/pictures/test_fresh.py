"""Fresh crops: of every photograph, at its own detail, the same for the same seed, and of none that was left out."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from harness.errors import PictureError
from harness.pictures import fresh, load_pictures
from harness.pictures.decode import LeftOutKind, Unusable
from harness.pictures.fresh import OwnPhotographs
from harness.pictures.photographs import FilePixels, Photograph

SIZE = (16, 16)


def flat(level: int, sides: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.full((*sides, 3), level, np.uint8)


def own(*levels: int) -> OwnPhotographs:
    """Photographs in memory, each of one grey that its source names."""
    return OwnPhotographs.of([Photograph.of(str(level), flat(level)) for level in levels], SIZE)


def elsewhere(*levels: int) -> OwnPhotographs:
    """The same, items of a dataset that are read when they are needed."""
    items = (Photograph(str(level), partial(flat, level), (40, 60), *_LOOKS) for level in levels)
    return OwnPhotographs.of(items, SIZE)


def on_disk(folder: Path, *levels: int) -> OwnPhotographs:
    """The same in files, none in memory."""
    photographs = []
    for level in levels:
        Image.fromarray(flat(level)).save(folder / f"{level}.png")
        photographs.append(Photograph(str(level), FilePixels(folder / f"{level}.png", 32), (32, 48), *_LOOKS))
    return OwnPhotographs.of(photographs, SIZE)


_LOOKS = (np.zeros((16, 16, 3), np.uint8), np.zeros((32, 32, 3), np.uint8))


def drawn(photographs: OwnPhotographs, *counts: int) -> list[Tensor]:
    with closing(photographs.crops()) as crops:
        return [crops.draw(count) for count in counts]


def levels(pictures: Tensor) -> list[int]:
    """The grey of each picture, which must be flat."""
    assert torch.equal(pictures.amax((1, 2, 3)), pictures.amin((1, 2, 3)))
    return (pictures[:, 0, 0, 0] * 255).round().int().tolist()


@pytest.fixture(autouse=True)
def _same_seed() -> None:
    torch.manual_seed(0)


def test_it_gives_as_many_pictures_as_asked_for_in_range() -> None:
    for count, pictures in zip((1, 16, 40), drawn(own(10, 20), 1, 16, 40), strict=True):
        assert pictures.shape == (count, 3, *SIZE)
        assert pictures.dtype == torch.float32
        assert 0 <= pictures.min() <= pictures.max() <= 1


def test_sources_are_drawn_from_alike_however_many_photographs_they_have() -> None:
    film = [Photograph.of("film", flat(level)) for level in range(100, 120)]
    (pictures,) = drawn(OwnPhotographs.of([*film, Photograph.of("one", flat(7))], SIZE), 400)
    seen = levels(pictures)
    assert 150 < seen.count(7) < 250
    assert len(set(seen)) == 21


def test_nothing_is_drawn_of_sources_that_are_left_out() -> None:
    for photographs in (own(10, 20, 30), elsewhere(10, 20, 30)):
        pictures = torch.cat(drawn(photographs.without({"20"}), *[8] * 12))
        assert set(levels(pictures)) == {10, 30}


def test_what_is_held_out_is_never_drawn(tmp_path: Path) -> None:
    for level in range(10, 210, 20):
        coarse = np.random.default_rng(level).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        coarse[..., 0] = level  # red is the same everywhere
        Image.fromarray(coarse).resize((64, 64)).save(tmp_path / f"{level}.png")
    pictures = load_pictures(str(tmp_path), size=SIZE, train_count=8, held_out_count=2)
    assert pictures.photographs is not None
    sources = {photograph.source for photograph in pictures.photographs.photographs}
    assert sources.isdisjoint(pictures.held_out.sources)
    assert len(sources) == 8
    (crops,) = drawn(pictures.photographs, 200)
    assert {f"{level}.png" for level in levels(crops[:, :1])} == sources


def test_the_same_seed_gives_the_same_crops_however_many_processes_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = on_disk(tmp_path, *range(10, 250, 20))
    seen = []
    for processes in (1, 2):
        torch.manual_seed(0)
        monkeypatch.setattr(fresh, "processes_for", lambda _, count=processes: count)
        seen.append(levels(torch.cat(drawn(photographs, *[4] * 20))))
    assert seen[0] == seen[1]


def test_another_seed_gives_other_crops() -> None:
    photographs = own(*range(10, 250, 20))
    assert not torch.equal(drawn(photographs, 16)[0], drawn(photographs, 16)[0])


def test_all_are_drawn_from_though_memory_has_room_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "WINDOW_BYTES", 3 * flat(0).nbytes)
    with closing(elsewhere(*range(10, 250, 20)).crops()) as crops:
        together: set[int] = set()
        for _ in range(40):
            seen = set(levels(crops.draw(30)))
            assert len(seen) <= 3
            together |= seen
    assert together == set(range(10, 250, 20))


def test_crops_show_the_photographs_own_detail() -> None:
    """Stripes of 2 pixels: a crop of a whole photograph blurs them, a close one resolves them."""
    stripes = flat(0, (256, 256))
    stripes[:, ::4] = stripes[:, 1::4] = 255
    (pictures,) = drawn(OwnPhotographs.of([Photograph.of("stripes", stripes)], (64, 64)), 60)
    contrast = pictures.std((1, 2, 3))
    assert contrast.max() > 0.4, "in a crop of 64 pixels they are as sharp as they were"
    assert contrast.min() < 0.1


def test_crops_lie_anywhere_and_half_of_them_are_mirrored() -> None:
    ramp = np.broadcast_to(np.arange(250, dtype=np.uint8)[None, :, None], (100, 250, 3)).copy()
    (pictures,) = drawn(OwnPhotographs.of([Photograph.of("ramp", ramp)], SIZE), 200)
    rises = pictures[:, 0, 0, -1] > pictures[:, 0, 0, 0]
    assert 60 < int(rises.sum()) < 140
    middles = pictures.mean((1, 2, 3)) * 255
    assert middles.min() < 50
    assert middles.max() > 200


# what can be read no more


def no_item(level: int) -> np.ndarray:
    raise Unusable(LeftOutKind.DAMAGED, f"no {level} in it")


def test_photographs_that_can_be_read_no_more_fail_alone_and_are_named(tmp_path: Path) -> None:
    notes: list[str] = []
    photographs = replace(on_disk(tmp_path, 10, 20, 30, 40, 50), note=notes.append)
    (tmp_path / "20.png").unlink()
    (tmp_path / "30.png").write_bytes(b"none")
    Image.fromarray(flat(40, (60, 40))).save(tmp_path / "40.png")
    assert set(levels(torch.cat(drawn(photographs, *[8] * 12)))) == {10, 50}
    assert sorted(notes) == [
        "no more crops of 20: unreadable file or folder (No such file or directory)",
        "no more crops of 30: damaged picture (no picture inside)",
        "no more crops of 40: it has changed since it was read first",
    ]


def test_without_any_photograph_left_it_says_so() -> None:
    lost = (Photograph(str(level), partial(no_item, level), (40, 60), *_LOOKS) for level in range(20))
    notes: list[str] = []
    with pytest.raises(PictureError, match="no photograph can be read any more"):
        drawn(OwnPhotographs.of(lost, SIZE, notes.append), 1)
    assert len(notes) == 20
    assert "no more crops of 7: damaged picture (no 7 in it)" in notes


def test_items_of_a_dataset_are_read_one_at_a_time() -> None:
    """Its code may know no threads."""
    busy = threading.Lock()

    def item(level: int) -> np.ndarray:
        assert busy.acquire(blocking=False)
        time.sleep(0.002)
        busy.release()
        return flat(level)

    items = (Photograph(str(level), partial(item, level), (40, 60), *_LOOKS) for level in range(40))
    assert len(set(levels(torch.cat(drawn(OwnPhotographs.of(items, SIZE), *[20] * 50))))) == 40
