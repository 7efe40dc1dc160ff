"""Picture folders as users have them: nothing in them ends a run, is run, or is passed over in silence."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
import torchvision.datasets
from PIL import Image, ImageDraw

from harness.errors import PictureError
from harness.pictures import LeftOut, Pictures, load_pictures, summary
from harness.pictures.decode import LeftOutKind, Unusable
from harness.pictures.photographs import open_photograph
from harness.pictures.readers import Reader, read_files
from tests.fuzz.pictures import read_damaged

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n{} loop\n"
HEIC = b"\0\0\0\x18ftypheic" + bytes(100)


def scene(seed: int, size: tuple[int, int] = (60, 48), brightest: int = 256) -> Image.Image:
    """A picture of its own for each seed: smooth coloured patches."""
    coarse = np.random.default_rng(seed).integers(0, brightest, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def page(seed: int) -> Image.Image:
    """A white page with lines of words."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (425, 550), "white")
    draw = ImageDraw.Draw(picture)
    for top in range(40, 510, 11):
        words = rng.choice(["the", "network", "of", "private", "split", "activation"], rng.integers(3, 9))
        draw.text((40, top), " ".join(words), fill="black")
    return picture


def film(folder: Path, seed: int, frames: int, step: int) -> None:
    """Frames that pan over one scene."""
    folder.mkdir(exist_ok=True)
    width = 64 + frames * step
    coarse = np.random.default_rng(seed).integers(0, 256, (6, width // 10, 3), dtype=np.uint8)
    wide = Image.fromarray(coarse).resize((width, 64), Image.Resampling.BICUBIC)
    for frame in range(frames):
        wide.crop((frame * step, 0, frame * step + 64, 64)).save(folder / f"{frame:04d}.bmp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pictures"
    made.mkdir()
    for seed in range(6):
        scene(seed).save(made / f"good{seed}.png")
    return made


def load(folder: Path, seed: int = 0) -> Pictures:
    return load_pictures(str(folder), size=(32, 32), train_count=30, held_out_count=6, seed=seed)


def sources(pictures: Pictures) -> set[str]:
    assert not set(pictures.train.sources) & set(pictures.held_out.sources)
    return {*pictures.train.sources, *pictures.held_out.sources}


def kinds(pictures: Pictures) -> dict[LeftOutKind, int]:
    return dict(Counter(one.kind for one in pictures.left_out))


def test_nothing_in_a_folder_is_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for name in ("endless.ps", "holiday.jpg", "no suffix"):
        (folder / name).write_bytes(POSTSCRIPT)
    assert kinds(load(folder)) == {LeftOutKind.POSTSCRIPT: 3}
    labels = tmp_path / "dataset"
    folder.rename(tmp_path / "class")
    labels.mkdir()
    (tmp_path / "class").rename(labels / "class")
    found = load_pictures(f"torchvision:ImageFolder:{labels}", size=(32, 32), train_count=6, held_out_count=2)
    assert kinds(found) == {LeftOutKind.DAMAGED: 1}
    assert not started.exists()


def test_a_file_that_hangs_or_crashes_its_reader_is_left_out_alone(folder: Path) -> None:
    good = folder / "good0.png"
    with closing(Reader(limit_s=2)) as reader:
        before = {child.pid for child in psutil.Process().children()}
        reader.read(good, None)
        for sent, kind in ((signal.SIGSTOP, LeftOutKind.TOO_SLOW), (signal.SIGKILL, LeftOutKind.DAMAGED)):
            (mine,) = {child.pid for child in psutil.Process().children()} - before
            os.kill(mine, sent)
            with pytest.raises(Unusable) as error:
                reader.read(good, None)
            assert error.value.kind is kind
            assert reader.read(good, 16).shape == (16, 20, 3)
    assert {child.pid for child in psutil.Process().children()} <= before


def test_files_are_read_in_order_and_their_processes_end(folder: Path) -> None:
    paths = [folder / f"good{index % 6}.png" for index in range(40)]
    before = {child.pid for child in psutil.Process().children()}
    with closing(read_files(paths, None)) as reading:
        done = [next(reading)[0] for _ in range(17)]
    assert done == paths[:17]
    assert {child.pid for child in psutil.Process().children()} <= before


def test_orientation_is_all_that_is_read_of_exif(tmp_path: Path) -> None:
    entries = [(0x0112, 3, 1, b"\x06\0\0\0"), (0x011A, 2, 3, b"72\0\0")]  # XResolution is text
    body = b"".join(
        t.to_bytes(2, "little") + k.to_bytes(2, "little") + n.to_bytes(4, "little") + v for t, k, n, v in entries
    )
    exif = b"Exif\0\0II*\0\x08\0\0\0" + len(entries).to_bytes(2, "little") + body + bytes(4)
    scene(0).save(tmp_path / "edited.jpg", exif=exif)
    scene(0).save(tmp_path / "broken.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))
    assert open_photograph(tmp_path / "edited.jpg").shape == (60, 48, 3)
    assert open_photograph(tmp_path / "broken.jpg").shape == (48, 60, 3)


def test_of_several_frames_the_first_is_taken(tmp_path: Path) -> None:
    for suffix in ("mpo", "gif", "tif"):
        scene(0).save(tmp_path / f"a.{suffix}", save_all=True, append_images=[scene(1)])
        difference = open_photograph(tmp_path / f"a.{suffix}").astype(int) - np.asarray(scene(0))
        assert np.abs(difference).mean() < 8


def test_pictures_of_108_megapixels_are_read(tmp_path: Path) -> None:
    scene(0, (1200, 900)).convert("L").resize((12_000, 9_000)).save(tmp_path / "telephone.jpg", quality=50)
    with closing(Reader()) as reader:
        assert reader.read(tmp_path / "telephone.jpg", 64).shape == (64, 85, 3)


def test_a_preview_of_a_raw_file_is_no_photograph(folder: Path) -> None:
    scene(9).save(folder / "preview.dng", "TIFF", tiffinfo={254: 1})
    scene(10).save(folder / "scan.tif", "TIFF")
    pictures = load(folder)
    assert kinds(pictures) == {LeftOutKind.RAW: 1}
    assert "scan.tif" in sources(pictures)


def test_a_picture_that_was_turned_is_a_copy(folder: Path) -> None:
    for turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.TRANSVERSE):
        scene(11).transpose(turn).save(folder / f"turned{turn}.png")
    assert kinds(load(folder)) == {LeftOutKind.COPY: 2}


def test_names_of_any_bytes_are_shown_escaped(folder: Path) -> None:
    names = {
        b"\xfc.png": "\\xfc.png",
        b"line\nbreak.png": "line\\nbreak.png",
        b"\x1b[31mred.png": "\\x1b[31mred.png",
        "\u202egnp.png".encode(): "\\u202egnp.png",
        b"long" * 50 + b".png": "long" * 50 + ".png",
    }
    for seed, name in enumerate(names):
        with (folder / os.fsdecode(name)).open("wb") as file:
            scene(10 + seed).save(file, "PNG")
    (folder / os.fsdecode(b"\xfd.jpg")).write_bytes(b"no picture")
    found = load(folder)
    assert set(names.values()) <= sources(found)
    assert all(name.isascii() and name.isprintable() for name in (*found.train.names, *found.held_out.names))
    assert max(map(len, found.train.names)) < 50
    assert summary(found.left_out) == ["1 damaged picture (\\xfd.jpg: no picture inside); replace or remove them"]


def test_what_is_not_taken_is_told_in_numbers_and_names(folder: Path) -> None:
    for index in range(30):
        (folder / f"IMG_{index:02}.HEIC").write_bytes(HEIC)
    (folder / "notes.txt").write_text("about these pictures")
    scene(0).save(folder / "again.jpg")
    lines = summary(load(folder).left_out)
    assert lines[0].startswith("30 HEIC files (IMG_00.HEIC, IMG_01.HEIC, IMG_02.HEIC, and 27 more); convert them")
    assert lines[1].removesuffix("; one of each is used") in (
        "1 near copy (again.jpg: like good0.png)",
        "1 near copy (good0.png: like again.jpg)",
    )
    assert lines[2:] == ["1 other file, not a picture (notes.txt)"]


def test_twenty_thousand_bad_files_are_a_few_lines() -> None:
    left_out = [LeftOut(f"{index}.jpg", LeftOutKind.DAMAGED, "no picture inside") for index in range(20_000)]
    assert len(summary(left_out)) == 1
    assert len(summary(left_out)[0]) < 200


def test_too_few_photographs_say_what_was_left_out(tmp_path: Path) -> None:
    for index in range(31):
        (tmp_path / f"IMG_{index:02}.HEIC").write_bytes(HEIC)
    with pytest.raises(PictureError, match=r"0 usable photographs; left out: 31 HEIC files .*; convert them"):
        load(tmp_path)


def test_pictures_are_known_by_content_whatever_they_are_called(tmp_path: Path) -> None:
    for seed, name in enumerate(("photo", "photo.old", "photo.txt", "photo.jpg")):
        scene(seed).save(tmp_path / name, "PNG")
    assert len(sources(load(tmp_path))) == 4


def test_links_are_followed_once_and_circles_end(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    scene(9).save(other / "far.png")
    (folder / "train").symlink_to(other)
    (other / "back").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    os.link(folder / "good1.png", folder / "hard.png")
    (folder / "soft.png").symlink_to("good2.png")
    found = load(folder)
    assert sources(found) == {*(f"good{seed}.png" for seed in range(6)), "train/far.png"}
    assert kinds(found) == {LeftOutKind.LINK: 2, LeftOutKind.UNREADABLE: 1}


def test_pipes_sockets_and_devices_hang_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe.jpg")
    (folder / "zeros.png").symlink_to("/dev/zero")
    monkeypatch.chdir(folder)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        found = load(folder)
    assert kinds(found) == {LeftOutKind.NO_FILE: 3}
    assert len(sources(found)) == 6


@pytest.mark.parametrize("seed", range(3))
def test_a_film_is_one_source(tmp_path: Path, seed: int) -> None:
    for clip in range(3):
        film(tmp_path / f"clip{clip}", clip, frames=20, step=2)
    assert sources(load(tmp_path, seed)) == {f"clip{clip}/0000.bmp" for clip in range(3)}


def test_a_film_of_which_few_frames_are_read_is_one_source(tmp_path: Path) -> None:
    for clip in range(2):
        film(tmp_path / f"clip{clip}", clip, frames=300, step=2)
    found = load(tmp_path)
    assert len(sources(found)) == 2
    assert kinds(found)[LeftOutKind.MORE] > 300, "of the rest most were not read"


def test_a_burst_and_exposures_of_one_scene_are_one_source(folder: Path) -> None:
    original = np.asarray(scene(20, (120, 100))) / 255
    rng = np.random.default_rng(0)
    for index, gamma in enumerate((0.5, 0.8, 1.0, 1.4, 2.0)):
        left, top = rng.integers(0, 6, 2)
        shot = original[top : top + 90, left : left + 110] ** gamma + rng.normal(0, 0.02, (90, 110, 3))
        Image.fromarray((255 * shot.clip(0, 1)).astype(np.uint8)).save(folder / f"shot{index}.jpg")
    assert len(sources(load(folder))) == 6 + 1


@pytest.mark.parametrize("kind", ["night", "documents", "photographs"])
def test_different_pictures_of_one_kind_are_not_one_source(tmp_path: Path, kind: str) -> None:
    for index in range(24):
        made = {"night": lambda seed: scene(seed, brightest=30), "documents": page, "photographs": scene}[kind](index)
        made.save(tmp_path / f"IMG_{index:04}.png")
    assert len(sources(load(tmp_path))) == 24


def test_the_built_in_photographs_are_as_many_scenes_as_they_say() -> None:
    found = load_pictures("builtin", size=(32, 32), train_count=13, held_out_count=4)
    assert len(sources(found)) == 17


def test_items_of_a_dataset_that_raise_are_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Raising:
        def __init__(self, root: Path) -> None:
            self.root = root

        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            if index < 2:
                raise KeyError(f"item {index}\n\x1b[31m")
            return scene(index), 0

    monkeypatch.setattr(torchvision.datasets, "Raising", Raising, raising=False)
    monkeypatch.setattr(torchvision.datasets, "__all__", (*torchvision.datasets.__all__, "Raising"))
    found = load_pictures(f"torchvision:Raising:{folder}", size=(32, 32), train_count=12, held_out_count=2)
    assert len(sources(found)) == 6
    assert kinds(found) == {LeftOutKind.DAMAGED: 2}
    assert all(line.isprintable() for line in summary(found.left_out))


@pytest.mark.parametrize("spec", ["file.jpg", "archive.zip", "circle", "~nobody-at-all/x", "a\x1b\n"])
def test_what_is_no_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.jpg").write_bytes(b"")
    (tmp_path / "archive.zip").write_bytes(b"PK\3\4")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(PictureError, match="no folder of pictures at") as error:
        load_pictures(spec, size=(32, 32))
    assert str(error.value).isprintable()


def test_a_folder_whose_own_name_is_not_utf8_is_refused_with_a_way_out(folder: Path) -> None:
    other = folder.rename(folder.with_name(os.fsdecode(b"\xfc")))
    with pytest.raises(PictureError, match=r"/\\xfc is not UTF-8.*; rename it, or give a link to it") as error:
        load(other)
    assert str(error.value).isprintable()
    folder.symlink_to(other)
    assert len(sources(load(folder))) == 6


def test_home_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(sources(load(Path("~/pictures")))) == 6


def test_a_large_folder_tells_how_far_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.pictures.progress.FIRST_NOTE_S", 1e-9)
    notes: list[str] = []
    load_pictures(str(folder), size=(32, 32), train_count=6, held_out_count=2, note=notes.append)
    assert notes
    reading = [note for note in notes if note.startswith("folder pictures: ")]
    assert reading
    assert all("of 6 files opened" in note for note in reading)
    assert all(one < other for one, other in pairwise(reading))
    assert all("of 4 photographs cropped" in note for note in notes if note not in reading)


def test_damaged_files_of_twenty_formats_end_nothing() -> None:
    outcome = read_damaged(440, seed=1)
    assert outcome.wrong == []
    assert outcome.opened.total() + outcome.left_out.total() == 440
    assert outcome.opened.total() > 40
