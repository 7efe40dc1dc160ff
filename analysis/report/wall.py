"""The wall of pictures: which are shown, and how they get into the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from analysis.report.rows import Chart, Curve, Row, written
from device_runner.files import safe_name

PICTURES = 6
LONGEST_SIDE = 128
QUALITY = 80


@dataclass(frozen=True)
class Tile:
    """One picture of the wall.

    Attributes:
        uri: the picture as a data URI.
        alt: what is seen, for those who cannot see it.
        caption: what stands beneath.
    """

    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Strip:
    """What one curve rebuilt at one split; None where a picture is missing."""

    curve: Curve
    summary: str
    tiles: tuple[Tile | None, ...]


@dataclass(frozen=True)
class Wall:
    """Originals, and under them what was rebuilt of them: (split's number, its name, strips) for each split."""

    originals: tuple[Tile, ...]
    splits: tuple[tuple[int, str, tuple[Strip, ...]], ...]

    @property
    def curves(self) -> list[str]:
        """Names of the curves that have pictures."""
        return list(dict.fromkeys(strip.curve.name for _, _, strips in self.splits for strip in strips))


def build_wall(run_folder: Path, chart: Chart, leakage: pd.DataFrame) -> Wall:
    """Gather one chart's pictures, scaled to at most 128 pixels, as WebP.

    Args:
        run_folder: holds pictures/held_out/<name>.png and pictures/<cell>/<attack>/<name>.png; what is missing is left
            out.
        chart: whose cells are shown.
        leakage: figures per picture (columns of harness.results.columns.LEAKAGE); may be empty.
    """
    folder = run_folder / "pictures"
    cells = {row.text("cell") for row in chart.rows if row.split != 0}
    of_chart = leakage[leakage["cell"].isin(cells)]
    names = choose_pictures(of_chart, sorted(path.stem for path in (folder / "held_out").glob("*.png")), PICTURES)
    judged = [Row({str(key): value for key, value in record.items()}) for record in of_chart.to_dict("records")]
    figures = {(row.text("cell"), row.text("attack"), row.text("picture")): row for row in judged}
    originals = [_tile(folder / "held_out" / f"{name}.png", f"original: {name}", name) for name in names]
    splits = []
    for number, split in chart.splits.items():
        pairs = [(row, curve) for curve in chart.curves for row in curve.rows if row.split == number != 0]
        strips = [Strip(curve, _summary(row), _rebuilt(folder, names, row, curve, figures)) for row, curve in pairs]
        if found_some := tuple(strip for strip in strips if any(strip.tiles)):
            splits.append((number, split, found_some))
    return Wall(tuple(tile for tile in originals if tile), tuple(splits))


def choose_pictures(leakage: pd.DataFrame, names: Sequence[str], count: int) -> list[str]:
    """Choose the best-rebuilt, the worst-rebuilt and some between, from different source photographs if possible.

    Args:
        leakage: of one chart; pictures are ranked by their mean PSNR over all splits.
            Without any, they are taken as named.
        names: pictures that there are.
        count: how many are wanted.

    Returns:
        Names, best-rebuilt first.
    """
    known = leakage[leakage["picture"].isin(names)]
    ranked = known.groupby("picture")["psnr_db"].mean().sort_values(ascending=False).index.astype(str).tolist()
    source = dict(zip(known["picture"].astype(str), known["source"].astype(str), strict=True))
    ranked = ranked or list(names)
    if len(ranked) <= count:
        return ranked
    last = len(ranked) - 1
    chosen = [0, last][:count]
    for place in range(1, count - 1):
        rank = place * last / (count - 1)
        seen = {source.get(ranked[taken]) for taken in chosen if source}
        free = [other for other in range(len(ranked)) if other not in chosen]
        chosen.append(min(free, key=lambda other: (source.get(ranked[other]) in seen, abs(other - rank))))
    return [ranked[rank] for rank in sorted(chosen)]


def _summary(row: Row) -> str:
    if row.number("psnr_db") is None:
        return ""
    values = [f"PSNR {written(row.number('psnr_db'), 'dB')} dB", f"SSIM {written(row.number('ssim'))}"]
    recognised, alike = row.number("judge_top1"), row.number("judge_similarity")
    if recognised is not None and alike is not None:
        said = f"; {row.text('judge')}: alike {written(alike)}, {recognised:.0%} recognised"
    else:
        said = ""
    return ", ".join(values) + said


def _caption(figures: Row) -> str:
    """PSNR, and what the independent judge says: its features' cosine, a tick where it sees the same class."""
    psnr, alike = written(figures.number("psnr_db"), "dB"), written(figures.number("judge_similarity"))
    parts = [f"{psnr} dB"] * bool(psnr) + [f"{alike}{' ✓' if figures.flag('judge_top1') else ''}"] * bool(alike)
    return ", ".join(parts)


def _rebuilt(
    folder: Path, names: Sequence[str], row: Row, curve: Curve, figures: dict[tuple[str, str, str], Row]
) -> tuple[Tile | None, ...]:
    attack = row.text("attack")
    if not attack:
        return ()
    tiles = []
    for name in names:
        caption = _caption(figures.get((row.text("cell"), attack, name), Row({})))
        alt = f"{name} rebuilt from split {row.split} ({row.text('split')}), {curve.name}: {caption or 'PSNR unknown'}"
        tiles.append(_tile(folder / row.text("cell") / safe_name(attack) / f"{name}.png", alt, caption))
    return tuple(tiles)


def _tile(path: Path, alt: str, caption: str) -> Tile | None:
    """Read one picture; None where the run holds none (not attacked, or interrupted)."""
    if not path.is_file():
        return None
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=QUALITY, method=4)
    return Tile(f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}", alt, caption)
