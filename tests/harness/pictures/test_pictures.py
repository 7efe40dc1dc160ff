"""Photographs load right from whatever file they are in, and no source photograph is on both sides."""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from device_runner.errors import UsageError
from harness.errors import PictureError
from harness.pictures import LeftOut, Pictures, PictureSet, collect, load_pictures
from harness.pictures.crops import training_crops
from harness.pictures.decode import LeftOutKind
from harness.pictures.likeness import Copies, refuse_leaks
from harness.pictures.photographs import Photograph, open_photograph
from harness.pictures.sources import Wanted


def scene(seed: int, size: tuple[int, int] = (60, 48)) -> Image.Image:
    """A picture of its own for each seed: smooth coloured patches."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(8):
        scene(seed).save(tmp_path / f"photo-{seed}.png")
    return tmp_path


@pytest.fixture(scope="module")
def builtin() -> Pictures:
    return load_pictures("builtin", size=(64, 64))


def load(folder: Path, seed: int = 0) -> Pictures:
    return load_pictures(str(folder), size=(32, 32), train_count=30, held_out_count=6, seed=seed)


def sources_apart(pictures: Pictures) -> bool:
    return not set(pictures.train.sources) & set(pictures.held_out.sources)


def test_builtin_pictures_have_the_promised_form(builtin: Pictures) -> None:
    for pictures, count in ((builtin.train, 600), (builtin.held_out, 16)):
        assert pictures.pixels.shape == (count, 3, 64, 64)
        assert pictures.pixels.dtype == torch.uint8
        assert len(pictures.sources) == len(pictures.names) == len(set(pictures.names)) == count
    assert builtin.left_out == ()
    assert len(builtin.sha256) == 64


def test_builtin_training_and_held_out_pictures_share_no_photograph(builtin: Pictures) -> None:
    assert sources_apart(builtin)
    assert Counter(builtin.held_out.sources) == dict.fromkeys(("chelsea", "coffee", "grace_hopper", "motorcycle"), 4)


def test_both_views_of_the_stereo_pair_are_one_held_out_source(builtin: Pictures) -> None:
    views = [index for index, source in enumerate(builtin.held_out.sources) if source == "motorcycle"]
    assert len(views) == 4
    assert not any("motorcycle" in source for source in builtin.train.sources)


@pytest.mark.parametrize("first", [13, 26, 64, 600])
def test_any_first_training_pictures_cover_the_photographs_evenly(builtin: Pictures, first: int) -> None:
    counts = Counter(builtin.train.sources[:first]).values()
    assert len(counts) == 13
    assert max(counts) - min(counts) <= 1


def test_held_out_photographs_take_turns_largest_view_first(builtin: Pictures) -> None:
    assert [set(builtin.held_out.sources[k : k + 4]) for k in (0, 4, 8, 12)] == [set(builtin.held_out.sources)] * 4


def test_floats_are_the_bytes_divided_by_255() -> None:
    pictures = PictureSet(
        torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16), ("a",), ("a",)
    )
    floats = pictures.as_float()
    assert floats.dtype == torch.float32
    assert torch.equal(floats[0, 0].flatten(), torch.arange(256).float() / 255)


def test_the_same_arguments_give_the_same_pixels_and_another_seed_gives_others(builtin: Pictures) -> None:
    again = load_pictures("builtin", size=(64, 64))
    other = load_pictures("builtin", size=(64, 64), seed=1)
    assert torch.equal(again.train.pixels, builtin.train.pixels)
    assert again.sha256 == builtin.sha256 != other.sha256
    assert not torch.equal(other.train.pixels, builtin.train.pixels)
    assert torch.equal(other.held_out.pixels, builtin.held_out.pixels), "what is judged does not depend on the seed"


def test_pictures_need_not_be_square() -> None:
    pictures = load_pictures("builtin", size=(32, 48), train_count=13, held_out_count=4)
    assert pictures.train.pixels.shape == (13, 3, 32, 48)
    assert pictures.held_out.pixels.shape == (4, 3, 32, 48)


def test_a_quarter_of_a_folder_is_held_out_and_shares_nothing_with_the_rest(folder: Path) -> None:
    pictures = load(folder)
    assert sources_apart(pictures)
    assert len(set(pictures.held_out.sources)) == 2
    assert len(set(pictures.train.sources)) == 6


def test_the_seed_chooses_what_a_folder_holds_out(folder: Path) -> None:
    chosen = {frozenset(load(folder, seed=seed).held_out.sources) for seed in range(6)}
    assert len(chosen) > 1
    assert load(folder, seed=3).sha256 == load(folder, seed=3).sha256


@pytest.mark.parametrize("seed", range(4))
def test_copies_of_a_photograph_are_one_source(folder: Path, seed: int) -> None:
    (folder / "copies").mkdir()
    for original in folder.glob("*.png"):
        shutil.copy(original, folder / "copies" / original.name)
        with Image.open(original) as picture:
            picture.save(folder / "copies" / f"{original.stem}.jpg", quality=85)
            picture.resize((120, 96), Image.Resampling.BICUBIC).save(folder / "copies" / f"{original.stem}.bmp")
    pictures = load(folder, seed=seed)
    assert sources_apart(pictures)
    stems = [{Path(source).stem for source in part.sources} for part in (pictures.train, pictures.held_out)]
    assert not stems[0] & stems[1]
    assert len(stems[0] | stems[1]) == 8


def planted(change: str, seed: int = 1) -> Photograph:
    """A photograph, as somebody could put it among those that attacks learn from."""
    picture = scene(seed, (90, 72))
    changed = {
        "same": picture,
        "resized": picture.resize((45, 36)),
        "mirrored": picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }[change]
    return Photograph.of(f"holiday-{seed}", np.asarray(changed))


@pytest.mark.parametrize("change", ["same", "resized", "mirrored"])
def test_a_held_out_photograph_planted_among_the_training_ones_is_refused(change: str) -> None:
    held_out = Photograph.of("judged", np.asarray(scene(1, (90, 72))))
    with pytest.raises(PictureError, match="judged is also learned from, as holiday-1") as error:
        refuse_leaks([planted("same", seed=2), planted(change)], [held_out])
    assert "\n" not in str(error.value)
    refuse_leaks([planted("same", seed=seed) for seed in (2, 3, 4)], [held_out])


@pytest.mark.parametrize("seed", range(4))
def test_a_mirrored_copy_in_a_folder_is_never_on_the_other_side(folder: Path, seed: int) -> None:
    scene(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "mirrored.png")
    found = load(folder, seed=seed)
    assert len({*found.train.sources, *found.held_out.sources} & {"photo-3.png", "mirrored.png"}) == 1


def test_two_photographs_are_enough_and_one_is_not(tmp_path: Path) -> None:
    scene(0).save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    with pytest.raises(PictureError, match="1 usable photographs") as error:
        load(tmp_path)
    assert error.value.remedy
    scene(1).save(tmp_path / "c.png")
    assert sources_apart(load(tmp_path))


def test_a_broken_file_is_named_and_left_out(folder: Path) -> None:
    whole = (folder / "photo-0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "words.jpg").write_text("no picture at all")
    (folder / "empty.gif").write_bytes(b"")
    scene(9, (5, 40)).save(folder / "narrow.png")
    (folder / "notes.txt").write_text("not a picture, and not called one")
    left_out = {one.name: one.kind for one in load(folder).left_out}
    assert left_out == {
        "cut.png": LeftOutKind.DAMAGED,
        "empty.gif": LeftOutKind.DAMAGED,
        "narrow.png": LeftOutKind.TOO_SMALL,
        "words.jpg": LeftOutKind.DAMAGED,
        "notes.txt": LeftOutKind.NO_PICTURE,
    }


def test_a_decompression_bomb_is_refused(folder: Path) -> None:
    whole = bytearray((folder / "photo-0.png").read_bytes())
    whole[16:24] = (20_000).to_bytes(4, "big") * 2
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    (folder / "bomb.png").write_bytes(whole)
    assert load(folder).left_out == (LeftOut("bomb.png", LeftOutKind.TOO_LARGE),)


def as_grey(picture: Image.Image) -> Image.Image:
    return picture.convert("L")


def as_16_bit(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)


def as_palette(picture: Image.Image) -> Image.Image:
    return picture.quantize(256)


def with_alpha(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    picture.putalpha(255)
    return picture


@pytest.mark.parametrize("change", [as_grey, as_16_bit, as_palette, with_alpha])
def test_files_of_every_mode_become_rgb(tmp_path: Path, change: object) -> None:
    assert callable(change)
    changed = change(scene(0))
    changed.save(tmp_path / "picture.png")
    expected = scene(0).convert("L").convert("RGB") if change in (as_grey, as_16_bit) else scene(0)
    difference = open_photograph(tmp_path / "picture.png").astype(int) - np.asarray(expected).astype(int)
    assert difference.shape == (48, 60, 3)
    assert np.abs(difference).mean() < (8 if change is as_palette else 0.01)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (open_photograph(tmp_path / "clear.png") == 255).all()


def test_photographs_taken_sideways_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    scene(0).save(tmp_path / "sideways.png", exif=exif)
    upright = np.asarray(scene(0).transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(open_photograph(tmp_path / "sideways.png"), upright)


def test_a_dataset_on_disk_is_read_and_nothing_is_downloaded(tmp_path: Path) -> None:
    for seed in range(8):
        label = tmp_path / "data" / ("even" if seed % 2 == 0 else "odd")
        label.mkdir(parents=True, exist_ok=True)
        scene(seed).save(label / f"{seed}.png")
    spec = f"torchvision:ImageFolder:{tmp_path / 'data'}"
    pictures = load_pictures(spec, size=(32, 32), train_count=12, held_out_count=4)
    assert sources_apart(pictures)
    assert pictures.train.pixels.shape == (12, 3, 32, 32)
    with pytest.raises(PictureError, match="CIFAR10 cannot be read"):
        load_pictures(f"torchvision:CIFAR10:{tmp_path}", size=(32, 32))


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("no/such/folder", PictureError, "no folder of pictures"),
        ("torchvision:CIFAR10", UsageError, "names no dataset"),
        ("torchvision:CIFAR11:/data", UsageError, "did you mean"),
    ],
)
def test_a_spec_that_leads_nowhere_is_one_clear_line(spec: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        load_pictures(spec, size=(32, 32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "train_count"), [((0, 32), 1), ((32, 32), 0)])
def test_nothing_at_all_is_refused(size: tuple[int, int], train_count: int) -> None:
    with pytest.raises(UsageError, match="cannot be made"):
        load_pictures("builtin", size=size, train_count=train_count)


def like_all(photographs: list[np.ndarray], asked: np.ndarray) -> bool:
    """Whether one of them is a copy: every thumbnail is compared with every view, as no bucket can spoil it."""
    thumbnail = np.asarray(Image.fromarray(asked).resize((16, 16), Image.Resampling.BOX)).astype(np.float32)
    contrast = float(np.sqrt(((thumbnail - thumbnail.mean(axis=(0, 1))) ** 2).mean()))
    tolerance = min(2.5, max(0.3, 0.06 * contrast))
    views = [
        turned for turns in range(4) for turned in (np.rot90(thumbnail, turns), np.rot90(thumbnail, turns)[:, ::-1])
    ]
    kept = np.stack([np.asarray(Image.fromarray(one).resize((16, 16), Image.Resampling.BOX)) for one in photographs])
    return any((np.abs(kept.astype(np.float32) - view).mean(axis=(1, 2, 3)) <= tolerance).any() for view in views)


def test_buckets_find_every_copy_that_comparing_all_with_all_finds() -> None:
    rng = np.random.default_rng(0)
    kept = [np.asarray(scene(seed)) // np.uint8(1 + 15 * (seed % 2)) for seed in range(60)]  # some dark
    known = Copies()
    for index, pixels in enumerate(kept):
        known.add(Photograph.of(f"{index}", pixels))
    found = Counter[bool]()
    for index in range(400):
        original = np.rot90(kept[index % 60], index % 4)[:, :: (-1) ** index]
        changed = original + rng.integers(-4, 5) + rng.normal(0, 4, original.shape)
        asked = changed.clip(0, 255).astype(np.uint8)
        expected = like_all(kept, asked)
        assert (known.like(Photograph.of("asked", asked)) is not None) == expected
        found[expected] += 1
    assert min(found[True], found[False]) > 50, "either outcome is tried"


def test_of_thousands_of_photographs_few_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    near = Copies._near

    def counted(self: Copies, sums: np.ndarray, reach: float) -> list[int]:
        compared.append(len(near(self, sums, reach)))
        return near(self, sums, reach)

    monkeypatch.setattr(Copies, "_near", counted)
    known, rng = Copies(), np.random.default_rng(0)
    for index in range(4_000):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        photograph = Photograph.of(f"{index}", coarse.repeat(4, 0).repeat(4, 1))
        assert known.like(photograph) is None
        known.add(photograph)
    assert np.mean(compared) < 50


def test_what_the_built_in_run_is_judged_by_stays_the_same_from_version_to_version(builtin: Pictures) -> None:
    digest = hashlib.sha256(builtin.held_out.pixels.numpy().tobytes()).hexdigest()
    assert digest == "40d24b552f3316dd6f82d7731f2818cf58d62f73f8fe3860c19d7d72c3992b3b"
    assert builtin.sha256 == "1be03b0ccc6133835f890f16e30f048c51763a64f7ee96cec96adee6b8703712"


def test_photographs_that_memory_has_no_room_for_are_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load(folder)
    monkeypatch.setattr("harness.pictures.photographs.PIXEL_BYTES", 20_000)  # of the first two
    assert load(folder).sha256 == expected.sha256
    shutil.copytree(folder, folder / "data" / "class")
    spec = f"torchvision:ImageFolder:{folder / 'data'}"
    few = load_pictures(spec, size=(32, 32), train_count=8, held_out_count=2)
    monkeypatch.undo()
    assert few.left_out == ()
    assert load_pictures(spec, size=(32, 32), train_count=8, held_out_count=2).sha256 == few.sha256


def test_a_photograph_that_changes_while_a_folder_is_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.pictures.photographs.PIXEL_BYTES", 0)
    collection = collect(str(folder), Wanted((32, 32), 0, 8, 2))
    (folder / collection.train[0].source).unlink()
    with pytest.raises(PictureError, match=f"{collection.train[0].source} has changed since .*start again"):
        training_crops(collection.train, (32, 32), 8, 0)


def test_many_photographs_are_all_used(tmp_path: Path) -> None:
    for seed in range(290):
        scene(seed, (24, 20)).save(tmp_path / f"{seed}.bmp")
    pictures = load_pictures(str(tmp_path), size=(8, 8), train_count=270, held_out_count=8)
    assert (len(set(pictures.train.sources)), len(set(pictures.held_out.sources))) == (270, 8)


def test_no_more_pictures_are_made_than_memory_has_room_for_but_all_photographs_stay(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.pictures.crops.PICTURES_BYTES", 5 * 12 * 32 * 32)
    monkeypatch.setattr("harness.pictures.crops.FEWEST_MADE", 2)
    pictures = load(folder)
    assert len(pictures.train) == 5
    assert pictures.photographs is not None
    assert len(pictures.photographs) == 6
    assert "5 training crops of 5 of 6 photographs" in pictures.description
    monkeypatch.setattr("harness.pictures.crops.FEWEST_MADE", 30)
    assert len(load(folder).train) == 30, "as many as by default are always made"


def test_of_many_photographs_none_shows_what_a_judged_one_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.pictures.sources.MOST_COMPARED", 20)
    names = np.random.default_rng(0).permutation(90)  # views of one scene lie far apart in the folder's order
    for index, name in enumerate(names.tolist()):
        view = scene(index // 3, (120, 100)).crop((index % 3, 0, 110 + index % 3, 90))
        view.save(tmp_path / f"{name}.bmp")
    scenes = {f"{name}.bmp": index // 3 for index, name in enumerate(names.tolist())}
    for seed in range(2):
        found = collect(str(tmp_path), Wanted((32, 32), seed, 60, 6))
        judged = {scenes[photograph.source] for photograph in found.held_out}
        assert len(judged) == 6
        assert not judged & {scenes[photograph.source] for photograph in found.train}
    found = collect(str(tmp_path), Wanted((32, 32), 0, 60, 6, folds=3))
    for fold in found.folds(3):
        sources = {photograph.source for photograph in fold}
        judged = {scenes[source] for source in sources}
        others = [one for one in (*found.train, *found.held_out) if one.source not in sources]
        assert len(judged) == 6
        assert not judged & {scenes[photograph.source] for photograph in others}


def test_a_size_that_a_photograph_just_holds_is_cut_from_it() -> None:
    pictures = load_pictures("builtin", size=(240, 240), train_count=24, held_out_count=2)
    assert pictures.train.pixels.shape == (24, 3, 240, 240)
