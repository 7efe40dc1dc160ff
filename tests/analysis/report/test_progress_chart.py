"""Every attack's course is drawn, a line a split, and nothing is drawn of nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from analysis.report.progress_chart import draw, write_progress_chart
from harness.results.columns import PROGRESS

NAMES = [column.name for column in PROGRESS]
COURSES = pd.DataFrame(
    [
        ("tiny", "fp32", attack, split, f"layer{split}", seconds, 40.0 - split + seconds)
        for attack in ("spectral", "refine")
        for split in (2, 5, 9)
        for seconds in (0.5, 1.0, 3.0)
    ],
    columns=NAMES,
)


def test_the_chart_is_1200_pixels_wide(tmp_path: Path) -> None:
    assert write_progress_chart(COURSES, tmp_path) == [tmp_path / "progress.png"]
    with Image.open(tmp_path / "progress.png") as picture:
        assert picture.width == 1200


def test_where_no_attack_has_a_course_there_is_no_chart(tmp_path: Path) -> None:
    assert write_progress_chart(COURSES[:0], tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_an_attack_is_a_panel_and_a_split_a_line_of_the_tables_numbers() -> None:
    spectral, refine, _ = draw(COURSES).axes
    assert [panel.get_title(loc="left") for panel in (spectral, refine)] == [
        "tiny, fp32, spectral",
        "tiny, fp32, refine",
    ]
    for panel, attack in ((spectral, "spectral"), (refine, "refine")):
        for line, split in zip(panel.get_lines(), (2, 5, 9), strict=True):
            course = COURSES[(COURSES["attack"] == attack) & (COURSES["split_index"] == split)]
            np.testing.assert_array_equal(line.get_xdata(), course["seconds"])
            np.testing.assert_array_equal(line.get_ydata(), course["psnr_db"])


def test_the_same_split_has_the_same_colour_in_every_panel() -> None:
    spectral, refine, _ = draw(COURSES).axes
    colours = [[line.get_color() for line in panel.get_lines()] for panel in (spectral, refine)]
    assert colours[0] == colours[1]
    assert len(set(colours[0])) == 3
