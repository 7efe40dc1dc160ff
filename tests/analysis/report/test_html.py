"""The page works offline in a real browser, shows what the run holds, and trusts none of its names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pytest

from analysis.report import Findings, write
from analysis.report.html import flattened, headline, not_measured, render_html
from analysis.report.rows import charts

Rows = list[dict[str, Any]]
MakeRows = Callable[..., Rows]
MakeTable = Callable[[Rows], pd.DataFrame]
Failed = Callable[..., dict[str, Any]]
Estimates = Callable[..., pd.DataFrame]
Profiled = Callable[..., dict[str, Any]]
Found = Callable[..., Findings]


class RunFolder(Protocol):
    path: Path

    def findings(self, **rest: Any) -> Findings: ...


class Browser(Protocol):
    def ask(self, page: str, script: str, *, width: int = 1200) -> Any: ...

    def console(self, page: str) -> list[str]: ...


@pytest.fixture(scope="module")
def page(run_folder: RunFolder) -> str:
    environment = {"environment": {"python": "3.11.2"}, "config": {"models": ["efficientnet_lite0"], "seed": 0}}
    report = write(run_folder.findings(environment=environment, notices=["Only 16 pictures."]))
    assert report.charts == [run_folder.path / "chart.png"]
    return report.html.read_text()


def without_plotly(page: str) -> str:
    """Take the library out, which names many addresses that it never fetches for our charts."""
    return re.sub(r"<script>/\*\*\s+\* plotly\.js.*?</script>", "", page, flags=re.DOTALL)


def words(page: str) -> str:
    """Return what can be read: no scripts, no styles, no tags."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_the_page_shows_chart_and_pictures_and_answers_to_the_reader(page: str, browser: Browser) -> None:
    said = browser.ask(
        page,
        """
        const images = [...document.images];
        const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        const colours = (image) => {
          canvas.clearRect(0, 0, 8, 8);
          canvas.drawImage(image, 0, 0, 8, 8);
          return new Set(new Uint32Array(canvas.getImageData(0, 0, 8, 8).data.buffer)).size;
        };
        const chart = document.querySelector(".chart");
        const drag = chart.querySelector(".nsewdrag").getBoundingClientRect();
        const at = { clientX: drag.left + drag.width * 12.6 / 33, clientY: drag.top + 40, bubbles: true, view: window };
        chart.querySelector(".nsewdrag").dispatchEvent(new MouseEvent("mousemove", at));
        await new Promise((done) => setTimeout(done, 300));
        const hover = [...chart.querySelectorAll(".hoverlayer text")].map((text) => text.textContent).join(" ");
        for (const kind of ["mousedown", "mouseup", "click"])
          chart.querySelector(".nsewdrag").dispatchEvent(new MouseEvent(kind, at));
        await new Promise((done) => setTimeout(done, 300));
        const heading = [...document.querySelectorAll("th button")].find((one) => one.textContent === "PSNR dB");
        const column = heading.parentElement.cellIndex;
        const rows = () => [...document.querySelectorAll("table.sortable tbody tr")];
        const sorted = () => rows().map((row) => row.cells[column].textContent);
        heading.click();
        const up = sorted();
        heading.click();
        const down = sorted();
        document.querySelector(".filter input[value='int8, linear']").click();
        const strips = [...document.querySelectorAll(".strip[data-curve]")].filter((strip) => strip.offsetParent);
        return {
          widths: images.map((image) => image.naturalWidth), fewest: Math.min(...images.map(colours)),
          bars: chart.querySelectorAll(".bars .point path").length,
          lines: chart.querySelectorAll(".scatterlayer .trace").length, hover, hash: location.hash, up, down,
          curves: [...new Set(strips.map((strip) => strip.dataset.curve))],
          sticky: getComputedStyle(document.querySelector(".originals")).position,
          alts: images.every((image) => image.alt.length > 10), wide: document.documentElement.scrollWidth,
          lost: [...document.querySelectorAll("a[href^='#']")].filter((a) => !document.querySelector(a.hash)).length,
        };
        """,
    )
    assert set(said["widths"]) == {96}
    assert said["fewest"] > 3, "each picture is decoded and shows something"
    assert len(said["widths"]) == 6 + 6 * 62, "six originals; 31 fp32 and 31 int8 splits were attacked"
    assert said["bars"] > 3 * 60
    assert said["lines"] >= 12
    assert "12 _blocks" in said["hover"]
    assert "less than 90% of the head's MACs" in said["hover"]
    assert said["hash"] == "#e1-s12"
    numbers = [float(value) for value in said["up"] if value]
    assert numbers == sorted(numbers)
    assert said["up"][-2:] == said["down"][-2:] == ["", ""], "what was not measured stays last"
    assert [float(value) for value in said["down"] if value] == numbers[::-1]
    assert said["curves"] == ["int8, linear"]
    assert said["sticky"] == "sticky"
    assert said["alts"]
    assert said["lost"] == 0
    assert said["wide"] <= 1200


def test_nothing_is_wider_than_a_phone(page: str, browser: Browser) -> None:
    said = browser.ask(
        page,
        """const chart = document.querySelector(".chart .main-svg");
        return [document.documentElement.scrollWidth, chart.getBoundingClientRect().width, innerWidth];""",
        width=390,
    )
    assert said[2] == 390
    assert said[0] <= 390
    assert 300 <= said[1] <= 390


def test_the_page_as_it_is_writes_nothing_to_the_console(page: str, browser: Browser) -> None:
    assert browser.console(page) == []


def test_a_script_from_elsewhere_is_refused(page: str, browser: Browser) -> None:
    foreign = '<img src="x" onerror="1"><script>document.title = "owned"</script></body>'
    refused = browser.console(page.replace("</body>", foreign))
    assert any("Content Security Policy" in line for line in refused)


def test_nothing_is_fetched(page: str) -> None:
    rest = without_plotly(page)
    assert len(rest) < len(page) - 3_000_000
    assert page.count("plotly.js v") == 1
    targets = re.findall(r"""(?:src|href|action|srcset|poster)\s*=\s*["']?([^"'\s>]*)|url\(([^)]*)\)""", rest)
    assert targets
    found = {target for pair in targets for target in pair if target}
    assert [target for target in found if not target.startswith(("#", "data:"))] == []
    assert "http://" not in rest
    assert "https://" not in rest
    assert "@import" not in rest
    assert "default-src 'none'" in rest


def test_33_splits_in_two_precisions_stay_small(page: str) -> None:
    assert len(page.encode()) < 15_000_000


def test_what_was_measured_where_and_what_was_not_is_said_in_words(page: str) -> None:
    said = words(page)
    assert "efficientnet_lite0 on local, cut at 32 points" in said
    assert "64 of 66 rows were measured; 1 failed and 1 skipped." in said
    assert "Only 16 pictures." in said
    assert "a lower bound on the leakage. Low does not mean private." in said
    assert "split 7: split 7 cannot be lowered: operator aten.foo is not supported" in said
    assert "temperature_c highest before or after a round empty where: the device does not tell it" in said
    assert "environment.python 3.11.2" in said
    assert "Random weights" not in said


@pytest.fixture
def hostile() -> str:
    theft = "document.title='owned'"
    return f'</script></style><script>{theft}</script><img src=x onerror="{theft}">\'"&' + "{{ 7 * 7 }}"


def test_names_reasons_and_notices_are_text(
    make_rows: MakeRows, make_table: MakeTable, failed: Failed, found: Found, browser: Browser, hostile: str
) -> None:
    rows = make_rows(splits=4, model=hostile, weights=hostile, device=hostile, attack=hostile, precision=hostile)
    rows[1] |= {"split": hostile, "op": hostile}
    rows[2] = failed(rows[2], hostile)
    page = render_html(found(make_table(rows), notices=[hostile], environment={hostile: {"x": hostile}}))
    assert browser.console(page) == []
    said = browser.ask(
        page,
        """return [document.title, document.scripts.length, document.querySelectorAll("[onerror], [onload]").length,
        document.querySelector(".chart .main-svg") !== null, document.querySelector(".notice").textContent,
        [...document.querySelectorAll(".chart .xtick text")].map((text) => text.textContent).join(" ")];""",
    )
    assert "owned" not in said[0][:5]
    assert said[1] == 4, "the figures, plotly, the page's own script and the probe"
    assert said[2] == 0
    assert said[3]
    assert said[4] == hostile
    assert "</scri" in said[5]


def test_every_kind_of_run_makes_a_page_without_errors(
    make_rows: MakeRows, make_table: MakeTable, failed: Failed, profiled: Profiled, found: Found, browser: Browser
) -> None:
    rows = [
        *(failed(row, "no compiler; install g++") for row in make_rows(splits=4, model="failures")),
        *make_rows(splits=1, model="single"),
        *make_rows(splits=2, model="pair", device="emulated"),
        *make_rows(splits=6, model="unattacked", attack=None, weights="random, seed 0"),
        *make_rows(splits=200, model="long"),
        *make_rows(splits=5, model="phones", device="ssh://pi"),
        *make_rows(splits=5, model="phones", device="adb:1"),
        *make_rows(splits=5, model="many", attack="decoder"),
        *make_rows(splits=5, model="many", precision="int8"),
        *make_rows(splits=5, model="surveyed")[:2],
        *(profiled(row) for row in make_rows(splits=5, model="surveyed")[2:]),
        failed({**make_rows(splits=1)[0], "split_index": None, "split": None, "attack": None}, "cannot be exported"),
    ]
    page = render_html(found(make_table(rows)))
    assert browser.console(page) == []
    drawn = browser.ask(
        page,
        """
        const sections = [...document.querySelectorAll("main > section")].filter((one) => /^e\\d/.test(one.id));
        const drawn = (one) => one.querySelector(".main-svg") !== null;
        return Object.fromEntries(sections.map((one) => [one.querySelector("h2").textContent, drawn(one)]));
        """,
    )
    assert drawn == {
        "failures, 224x224, local": False,
        "single, 224x224, local": True,
        "pair, 224x224, emulated": True,
        "unattacked, 224x224, local": True,
        "long, 224x224, local": True,
        "phones, 224x224, ssh://pi": True,
        "phones, 224x224, adb:1": True,
        "many, 224x224, local": True,
        "surveyed, 224x224, local": True,
        "efficientnet_lite0, 224x224, local": False,
    }
    said = words(page)
    assert said.count("Random weights: the leakage of random weights is not that of trained ones.") == 1
    assert said.count("Emulated device: its times mean nothing.") == 1
    assert said.count("No attack gave a figure") == 1
    assert "Latency, median, emulated ms" in json.dumps(page)
    assert "failures, single, pair and 6 more on" in said


def test_profiled_heads_are_marked_and_drawn_apart_and_the_estimates_are_held_against_what_was_measured(
    make_rows: MakeRows,
    make_table: MakeTable,
    profiled: Profiled,
    estimates: Estimates,
    found: Found,
    browser: Browser,
) -> None:
    rows = make_rows(splits=12)
    rows[5:9] = [profiled(row) for row in rows[5:9]]
    summary = make_table(rows)
    page = render_html(found(summary, estimates=estimates()))
    assert browser.console(page) == []
    said = browser.ask(
        page,
        """
        const chart = document.getElementById("e1-chart"), estimate = document.getElementById("estimate-chart");
        const drag = chart.querySelector(".nsewdrag").getBoundingClientRect();
        const at = { clientX: drag.left + drag.width * 6.6 / 12, clientY: drag.top + 40, bubbles: true, view: window };
        chart.querySelector(".nsewdrag").dispatchEvent(new MouseEvent("mousemove", at));
        await new Promise((done) => setTimeout(done, 300));
        const bars = [...chart.querySelectorAll(".errorbar path")];
        return {
          intervals: bars.length, dashes: bars.map((bar) => getComputedStyle(bar).strokeDasharray),
          hover: [...chart.querySelectorAll(".hoverlayer text")].map((text) => text.textContent).join(" "),
          points: estimate.querySelectorAll(".points path").length,
          estimated: estimate.querySelectorAll(".errorbar path").length,
          head: [...document.querySelectorAll("table.sortable tbody tr")].map((row) => row.innerText.includes("≈")),
        };
        """,
    )
    assert said["intervals"] == 4
    assert set(said["dashes"]) == {"4px, 2.5px"}
    assert "head ≈" in said["hover"]
    assert (said["points"], said["estimated"]) == (6, 6)
    assert said["head"] == [5 <= place < 9 for place in range(12)]
    text = words(page)
    assert "head (profiled, 95 % interval)" in text
    assert "4 of 11 profiled (≈)" in text
    assert "with 4 head times profiled" in text
    assert "efficientnet_lite0, local, 1 thread, fp32: 5.0 % (median; 95th percentile 5 %; 100 % inside" in text


def test_without_a_survey_nothing_is_said_of_one(page: str) -> None:
    assert 'id="estimate"' not in page
    assert "head times profiled" not in words(page)
    assert "head (profiled" not in words(page)


def test_a_host_called_emulated_changes_nothing(make_rows: MakeRows, make_table: MakeTable, found: Found) -> None:
    def said(device: str) -> str:
        rows = [row | {"emulated": False} for row in make_rows(splits=3, device=device)]
        return words(render_html(found(make_table(rows)))).replace(device, "DEVICE")

    assert said("ssh://emulated-pi") == said("ssh://pi")


def test_a_run_without_rows_says_so(make_table: MakeTable, found: Found) -> None:
    assert "A run without rows" in words(render_html(found(make_table([]))))


def test_the_headline_names_what_there_is(make_rows: MakeRows, make_table: MakeTable) -> None:
    rows = make_rows(splits=2) + make_rows(splits=4, model="b", device="ssh://pi")
    assert headline(charts(make_table(rows))) == "efficientnet_lite0 and b on local and ssh://pi, cut at 1 to 3 points"


def test_empty_columns_are_listed_with_the_reason(make_rows: MakeRows, make_table: MakeTable) -> None:
    listed = {name for _, columns in not_measured(make_table(make_rows(attack=None))) for name, _ in columns}
    assert {"energy_mj", "temperature_c", "psnr_db", "attack"} <= listed
    assert not {"head_p50_ms", "reason"} & listed


def test_the_environment_is_flattened_without_lists_of_records() -> None:
    nested = {"a": {"b": 1, "c": [1, 2]}, "cells": [{"hash": "x"}], "none": None, "empty": "", "no": False}
    assert list(flattened(nested)) == [("a.b", "1"), ("a.c", "1, 2"), ("no", "False")]
