"""The study's charts: effects of structure, leakage against depth, and the zoo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.report.chart import FAINT, INK, WIDTH_INCHES, calm, write
from analysis.study.cells import ATTACKS, FAMILY_STATES, SHARES, network_of
from analysis.study.curves import LeakageCurve
from analysis.study.families import DEPTHS
from analysis.study.records import StudyRecord
from analysis.study.verdicts import SMALLEST_EFFECT_DB, Effect, is_compared

# Okabe and Ito's palette, for colour-blind readers, too; attacks also differ in marker.
_COLOURS = {"whitebox": "#D55E00", "linear": "#0072B2", "spectral": "#009E73", "best": "#CC79A7"}
_MARKERS = {"whitebox": "s", "linear": "o", "spectral": "^", "best": "D"}
# Tried at one of the cuts alone, so that its effects stand for that one.
_LABELS = {"best": "best (deeper cut alone)"}
_ROW_INCHES = 0.3


def write_charts(
    records: Sequence[StudyRecord], effects: Sequence[Effect], zoo: Sequence[LeakageCurve], folder: Path
) -> dict[str, Path]:
    """Draw what there is something to draw of; name -> PNG file, 1200 pixels wide.

    Args:
        folder: an existing folder; files of these names are replaced.
    """
    drawings: dict[str, Callable[[], Figure | None]] = {
        "effects": lambda: draw_effects(effects),
        "depth": lambda: draw_depth(records),
        "zoo": lambda: draw_zoo(zoo),
    }
    written = {}
    for name, draw in drawings.items():
        if (figure := draw()) is not None:
            written[name] = folder / f"{name}.png"
            write(figure, written[name])
    return written


def draw_effects(effects: Sequence[Effect]) -> Figure | None:
    """Each contrast's effect with its interval, a colour an attack, a panel a state."""
    states = [state for state in FAMILY_STATES if any(effect.state == state for effect in effects)]
    names = list(dict.fromkeys(effect.contrast.name for effect in effects))
    if not states:
        return None
    attacks = list(dict.fromkeys(effect.attack for effect in effects))
    figure, panels = _panels(len(states), 1.9 + 2.6 * _ROW_INCHES * len(names))
    for panel, state in zip(panels, states, strict=True):
        panel.axvspan(-SMALLEST_EFFECT_DB, SMALLEST_EFFECT_DB, color="#EEF1F4", zorder=0)
        panel.axvline(0, color=FAINT, linewidth=1)
        for effect in (effect for effect in effects if effect.state == state):
            place = names.index(effect.contrast.name) + 0.18 * (attacks.index(effect.attack) - (len(attacks) - 1) / 2)
            style: dict[str, Any] = {"color": _COLOURS.get(effect.attack, INK), "zorder": 3}
            if np.isfinite(effect.psnr_db.interval).all():
                panel.plot(effect.psnr_db.interval, [place, place], linewidth=2.2, **style)
            panel.plot(effect.psnr_db.mean, place, marker=_MARKERS.get(effect.attack, "o"), markersize=7, **style)
        _title(panel, f"{state} networks")
        panel.set_yticks(range(len(names)), names, size=11, parse_math=False)
        panel.set_ylim(len(names) - 0.5, -0.5)
        calm(panel)
        panel.grid(axis="y", visible=False)
        panel.grid(axis="x", color="#E4E7EB", linewidth=0.8)
    figure.supxlabel("effect on PSNR, dB   (left: recovers less; grey: too small to matter)", size=11, color=INK)
    _attack_legend(figure, attacks)
    return figure


def draw_depth(records: Sequence[StudyRecord]) -> Figure | None:
    """Mean PSNR of the attacks tried everywhere against the number of convolutions; thin lines are single seeds."""
    places = {
        network_of("depth", f"{body}_{depth}"): (body, depth) for body in ("plain", "residual") for depth in DEPTHS
    }
    known = [
        record
        for record in records
        if is_compared(record) and record.cell.specimen.network in places and record.cell.attack in ATTACKS
    ]
    states = [state for state in FAMILY_STATES if any(record.cell.specimen.state == state for record in known)]
    if not states:
        return None
    attacks = list(dict.fromkeys(record.cell.attack for record in known))
    figure, panels = _panels(len(states), 5.2)
    for panel, state in zip(panels, states, strict=True):
        here = [record for record in known if record.cell.specimen.state == state]
        for attack in attacks:
            for body, line in (("plain", "-"), ("residual", "--")):
                chosen = [
                    (places[record.cell.specimen.network][1], record)
                    for record in here
                    if record.cell.attack == attack and places[record.cell.specimen.network][0] == body
                ]
                _line(panel, chosen, attack, line)
        floors = [np.mean(record.floor_psnr_db) for record in here]
        panel.axhline(float(np.mean(floors)), color=FAINT, linestyle=":", linewidth=1.4)
        panel.set_xscale("log", base=2)
        panel.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
        panel.set_xlabel("convolutions before the cuts", size=11, color=INK)
        _title(panel, f"PSNR dB, {state} networks")
        calm(panel)
    _attack_legend(
        figure,
        attacks,
        Line2D([], [], color=INK, linestyle="-", label="plain"),
        Line2D([], [], color=INK, linestyle="--", label="residual"),
        Line2D([], [], color=FAINT, linestyle=":", label="floor: mean picture"),
    )
    return figure


def draw_zoo(zoo: Sequence[LeakageCurve]) -> Figure | None:
    """PSNR above the floor and SSIM under the linear attack, networks against shares of MACs; leakiest first."""
    shown = sorted((c for c in zoo if c.attack == "linear"), key=lambda curve: -curve.area_db.mean)
    if not shown:
        return None
    figure, panels = _panels(2, 1.5 + _ROW_INCHES * len(shown))
    above = np.array([[max(0.0, value - curve.floor_psnr_db) for value in curve.psnr_db] for curve in shown])
    similar = np.array([curve.ssim for curve in shown])
    for panel, values, form, title in (
        (panels[0], above, "{:.1f}", "PSNR above the floor, dB"),
        (panels[1], similar, "{:.2f}", "SSIM"),
    ):
        panel.imshow(values, aspect="auto", cmap="Blues", vmin=0, vmax=1.15 * float(values.max()))
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if value > 0.65 * values.max() else INK
            panel.text(column, row, form.format(value), ha="center", va="center", size=10, color=colour)
        panel.set_xticks(range(len(SHARES)), [f"{share:.0%}" for share in SHARES])
        panel.set_xlabel("share of the MACs done on the device (nearest cut)", size=11, color=INK)
        _title(panel, f"{title}, attack linear")
        panel.spines[:].set_visible(False)
        panel.tick_params(length=0, labelcolor=INK)
    panels[0].set_yticks(range(len(shown)), [curve.network for curve in shown], size=10.5, parse_math=False)
    return figure


def _line(panel: Axes, chosen: Sequence[tuple[int, StudyRecord]], attack: str, line: str) -> None:
    """The mean over seeds of the mean over cuts, and each seed's own line."""
    by_seed: dict[int, dict[int, list[float]]] = {}
    for depth, record in chosen:
        of_seed = by_seed.setdefault(record.cell.specimen.seed, {})
        of_seed.setdefault(depth, []).append(float(np.mean(record.psnr_db)))
    rows = np.array([[np.mean(seed.get(depth, [np.nan])) for depth in DEPTHS] for seed in by_seed.values()])
    if not len(rows):
        return
    style: dict[str, Any] = {"color": _COLOURS.get(attack, INK), "linestyle": line}
    for row in rows:
        panel.plot(DEPTHS, row, linewidth=0.7, alpha=0.35, **style)
    known = ~np.isnan(rows).all(0)
    mean = np.nanmean(rows[:, known], axis=0)
    panel.plot(np.array(DEPTHS)[known], mean, linewidth=2, marker=_MARKERS.get(attack, "o"), markersize=6, **style)


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH_INCHES, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count, sharex=True, sharey=True, squeeze=False)[0])


def _title(panel: Axes, text: str) -> None:
    panel.set_title(text, loc="left", size=12.5, weight="bold", color=INK)


def _attack_legend(figure: Figure, attacks: Sequence[str], *more: Line2D) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=_COLOURS.get(attack, INK),
            marker=_MARKERS.get(attack, "o"),
            markersize=7,
            label=_LABELS.get(attack, attack),
        )
        for attack in attacks
    ]
    figure.legend(handles=[*handles, *more], loc="outside upper left", ncols=7, frameon=False, fontsize=11)
