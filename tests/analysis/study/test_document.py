"""The document says what was found, under which conditions, and what is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import pytest
from PIL import Image
from pydantic import TypeAdapter

from analysis.decision.published import NAME, PublishedEffect, published_effects
from analysis.study.cells import FOLDS_PER_SEED, NETWORKS, SHARES, full_plan, network_of, quick_plan
from analysis.study.document import write_document
from analysis.study.families import DEPTHS
from analysis.study.photographs import Photographs
from analysis.study.records import StudyRecord
from analysis.study.verdicts import CONTRASTS

RecordMaker = Callable[..., StudyRecord]
SEEDS = 5


def a_study(record: RecordMaker) -> list[StudyRecord]:
    """Residual networks leak 3 dB more, the rest differs by seed alone."""
    networks = dict.fromkeys(network for contrast in CONTRASTS for network, _ in contrast.weights)
    found = [
        record(network, 20 + 0.1 * seed + 3.0 * (network == "skip/residual"), seed=seed, cut=cut, attack=attack)
        for network, seed, cut, attack in product(networks, range(SEEDS), (0, 1), ("linear", "spectral"))
    ]
    for kind, network in (("zoo", "alexnet"), ("zoo", "resnet18"), ("case", "efficientnet_lite0")):
        found += [record(network, 25 - cut, kind=kind, cut=cut, fold=0) for cut in range(len(SHARES))]
    return [*found, record("swin_t", kind="zoo", status="failed")]


def test_the_effects_are_written_beside_the_charts(tmp_path: Path, record: RecordMaker, many: Photographs) -> None:
    document(tmp_path, a_study(record), many)
    effects = TypeAdapter(list[PublishedEffect]).validate_json((tmp_path / "study" / NAME).read_bytes())
    (residual,) = (
        effect
        for effect in effects
        if (effect.contrast, effect.networks, effect.attack) == ("residual against plain", "untrained", "spectral")
    )
    assert (residual.psnr_db, residual.low_db, residual.high_db) == (3.0, 3.0, 3.0)


def test_the_effects_that_reports_quote_are_those_of_the_study_s_document() -> None:
    text = (Path(__file__).parents[3] / "docs" / "study.md").read_text().replace("-0.0", "+0.0")
    quoted = published_effects()
    assert {effect.contrast for effect in quoted} == {contrast.name for contrast in CONTRASTS}
    for effect in quoted:
        row = f"| {effect.contrast} | {effect.networks} | `{effect.attack}` | "
        assert f"{row}{effect.psnr_db:+.1f} [{effect.low_db:+.1f}, {effect.high_db:+.1f}] |" in text


@pytest.fixture
def many(photographs: Photographs) -> Photographs:
    """More photographs than a verdict needs, of no content."""
    some = photographs.photographs[0]
    return replace(photographs, photographs=tuple(replace(some, source=f"photograph-{i}") for i in range(24)))


def document(tmp_path: Path, records: list[StudyRecord], photographs: Photographs) -> str:
    write_document(tmp_path / "study.md", full_plan(SEEDS), records, photographs)
    return (tmp_path / "study.md").read_text()


def test_the_verdicts_are_in_the_table_with_their_intervals(
    tmp_path: Path, record: RecordMaker, many: Photographs
) -> None:
    text = document(tmp_path, a_study(record), many)
    rows = [line for line in text.splitlines() if "residual against plain" in line and "`spectral`" in line]
    (oh_lee,) = (row for row in rows if "Oh & Lee" in row)
    (peel,) = (row for row in rows if "PEEL" in row)
    assert "+3.0 [+3.0, +3.0]" in oh_lee
    assert "**refuted**" in oh_lee
    assert "**confirmed**" in peel


def test_the_short_table_has_every_attacks_verdict_in_one_row(
    tmp_path: Path, record: RecordMaker, many: Photographs
) -> None:
    text = document(tmp_path, a_study(record), many)
    short = text[text.index("In short") : text.index("In full")]
    (row,) = (line for line in short.splitlines() if line.startswith("| residual blocks cause leakage (PEEL)"))
    heading = next(line for line in short.splitlines() if line.startswith("| Claim"))
    place = heading.removesuffix(" |").split(" | ").index("`spectral`")
    assert row.removesuffix(" |").split(" | ")[place] == "confirmed +3.0"


def test_few_photographs_leave_everything_undecided(
    tmp_path: Path, record: RecordMaker, photographs: Photographs
) -> None:
    text = document(tmp_path, a_study(record), photographs)
    assert "**undecided**: fewer than 20 photographs" in text
    assert not re.search(r"\*\*(confirmed|refuted)\*\*", text)


def test_every_chart_that_it_shows_is_there_and_1200_pixels_wide(
    tmp_path: Path, record: RecordMaker, many: Photographs
) -> None:
    shown = re.findall(r"!\[.+\]\((.+?)\)", document(tmp_path, a_study(record), many))
    assert shown == ["study/effects.png", "study/depth.png", "study/zoo.png"]
    for chart in shown:
        with Image.open(tmp_path / chart) as picture:
            assert picture.width == 1200


def test_tables_have_equally_many_columns_in_every_row(tmp_path: Path, record: RecordMaker, many: Photographs) -> None:
    lines = document(tmp_path, a_study(record), many).splitlines()
    for above, below in pairwise(lines):
        if above.startswith("|") and below.startswith("|"):
            assert above.count("|") == below.count("|")


def test_cells_that_were_planned_are_counted_beside_those_that_were_tried(
    tmp_path: Path, record: RecordMaker, many: Photographs
) -> None:
    text = document(tmp_path, a_study(record), many)
    planned = SEEDS * FOLDS_PER_SEED * len(NETWORKS) * 2
    assert f"| family, untrained | `linear` | {planned} | {SEEDS * len(NETWORKS) * 2} | 0 |" in text
    assert f"| family, fitted | `spectral` | {planned} | 0 | 0 |" in text


def test_failures_and_what_was_left_out_are_told(tmp_path: Path, record: RecordMaker, many: Photographs) -> None:
    text = document(tmp_path, a_study(record), many)
    assert "1 x swin_t, linear: it broke" in text
    for one in full_plan(SEEDS).left_out:
        assert one in text


def test_zoo_and_cases_have_tables_and_the_words_that_belong_to_them(
    tmp_path: Path, record: RecordMaker, many: Photographs
) -> None:
    text = document(tmp_path, a_study(record), many)
    assert "Cases, not verdicts" in text
    assert re.search(r"\| resnet18 \|.*25\.0 / 24\.0 / 23\.0 / 22\.0", text)
    assert "lower bound" in text


def test_the_reference_is_listed_under_all_of_its_names(tmp_path: Path, record: RecordMaker, many: Photographs) -> None:
    assert "skip/plain, branches/one" in document(tmp_path, a_study(record), many)


def test_unfitted_networks_are_counted(tmp_path: Path, record: RecordMaker, many: Photographs) -> None:
    fitted = [record(seed=seed, state="fitted", reached=seed > 1) for seed in range(3)]
    text = document(tmp_path, [*a_study(record), *fitted], many)
    assert "not compared (2 cells)" in text
    assert "| 0.70 | 1 of 3 |" in text


def test_nothing_finished_still_gives_a_document(tmp_path: Path, photographs: Photographs) -> None:
    assert write_document(tmp_path / "study.md", quick_plan(), [], photographs) == []
    text = (tmp_path / "study.md").read_text()
    assert "No contrast has all of its networks yet." in text
    assert "![" not in text


def test_the_deepest_network_stands_at_the_end_of_the_depth_contrast() -> None:
    names = [name for name, _ in next(c for c in CONTRASTS if "plain" in c.name and "32" in c.name).weights]
    assert names[0] == network_of("depth", f"plain_{DEPTHS[0]}")
    assert names[-1] == network_of("depth", f"plain_{DEPTHS[-1]}")
