"""Whether the attacks had converged: PSNR against the time that they had spent, as a PNG."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from analysis.report import chart

TITLE = "The attacks' progress, one line per split: where it still climbs, more time would recover more"
SECONDS, REACHED = "seconds at the split", "PSNR, dB: validation pictures"
PANEL_INCHES = 4.0
_PANEL = ["model", "precision", "attack"]


def write_progress_chart(progress: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw progress.png, 1200 pixels wide, over that of an earlier report; none where no attack has a course.

    Args:
        progress: columns harness.results.columns.PROGRESS.
    """
    if progress.empty:
        return []
    path = folder / "progress.png"
    chart.write(draw(progress), path)
    return [path]


def draw(progress: pd.DataFrame) -> Figure:
    """Draw a panel for each attack on each network and precision, and in it a line for each split."""
    parts = list(progress.groupby(_PANEL, sort=False))
    figure = Figure(
        figsize=(chart.WIDTH_INCHES, 0.6 + PANEL_INCHES * len(parts)), layout="constrained", facecolor="white"
    )
    FigureCanvasAgg(figure)
    figure.suptitle(TITLE, size=13, weight="bold", color=chart.INK, x=0.01, ha="left")
    panels = figure.subplots(len(parts), 1, squeeze=False)[:, 0]
    depth = Normalize(int(progress["split_index"].min()), int(progress["split_index"].max()))
    for panel, (names, part) in zip(panels, parts, strict=True):
        _draw_panel(panel, part, depth)
        panel.set_title(chart.drawable(", ".join(map(str, names))), loc="left", size=11, color=chart.INK)
    figure.colorbar(
        ScalarMappable(depth, mpl.colormaps["viridis"]), ax=list(panels), label="split", shrink=0.9, pad=0.01
    )
    return figure


def _draw_panel(panel: Axes, part: pd.DataFrame, depth: Normalize) -> None:
    for _, course in part.groupby("split_index", sort=False):
        colour = mpl.colormaps["viridis"](depth(float(course["split_index"].iloc[0])))
        panel.plot(course["seconds"], course["psnr_db"], color=colour, linewidth=1.3, marker=".", markersize=4)
    panel.set_xlabel(SECONDS, color=chart.INK)
    panel.set_ylabel(REACHED, color=chart.INK)
    chart.calm(panel)
