"""Parameter types and options that several commands share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

RUNS = Path("runs")
EXPORTED = Path("exported_models")
DEFAULT_MODEL = "efficientnet_lite0"
ATTACK_TOTAL_S = 60.0


def cores() -> int:
    """Cores of this machine that we may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Size(click.ParamType[Any]):
    """SIDE or HEIGHTxWIDTH, in pixels."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Text -> (height, width)."""
        match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", str(value))
        if not match or min(int(side) for side in match.groups() if side) < 8:
            self.fail(f"{value!r} is not a valid size; write 224 or 224x192 (8 pixels or more)", param, ctx)
        return int(match[1]), int(match[2] or match[1])


class Text(click.ParamType[Any]):
    """Any text but none: `--out "$UNSET"` would otherwise be the folder that one stands in.

    Args:
        kind: what is made of the text: str, or Path.
    """

    name = "text"

    def __init__(self, kind: type[str] | type[Path] = str) -> None:
        self.kind = kind

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str | Path:
        """Text -> the same, of the kind asked for."""
        if not str(value).strip():
            self.fail("it is empty; give it a value or leave it out", param, ctx)
        return self.kind(str(value))


class Duration(click.ParamType[Any]):
    """Seconds or minutes: 60s, 10m."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Text -> seconds."""
        match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)(s|m)", str(value))
        if not match or not float(match[1]):
            self.fail(f"{value!r} is not a valid duration; write 60s or 10m (more than 0)", param, ctx)
        return float(match[1]) * {"s": 1, "m": 60}[match[2]]


class Several(click.ParamType[Any]):
    """Comma-separated words out of a fixed set."""

    name = "list"

    def __init__(self, *known: str) -> None:
        self.known = known

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Text -> words, each once."""
        words = tuple(dict.fromkeys(word.strip() for word in str(value).split(",")))
        for word in words:
            if word not in self.known:
                self.fail(f"{word!r} is none of {', '.join(self.known)}", param, ctx)
        return words


class Counts(click.ParamType[Any]):
    """Comma-separated whole numbers from 1 to 256, each once."""

    name = "counts"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Text -> numbers, in the order given."""
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isdecimal() and 1 <= int(word) <= 256 for word in words):
            self.fail(f"{value!r} is no list of counts; write 1 or 1,2,4 (up to 256)", param, ctx)
        return tuple(dict.fromkeys(int(word) for word in words))


class AutoOrCount(click.ParamType[Any]):
    """auto, or a whole number from 1 to 100,000."""

    name = "iterations"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Text -> number, or "auto" as it is."""
        if value == "auto":
            return "auto"
        if not re.fullmatch("[0-9]{1,6}", str(value)) or not 1 <= int(str(value)) <= 100_000:
            self.fail(f"{value!r} is neither auto nor a number from 1 to 100000", param, ctx)
        return int(str(value))


class NewFile(click.ParamType[Any]):
    """A file that can be written: known in the first second, not after an hour of measuring. "-" is standard output."""

    name = "file"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Text -> path whose folder exists and can be written."""
        path = Path(str(value))
        if str(path) != "-" and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            self.fail(f"{path} cannot be written", param, ctx)
        return path


model_argument = click.argument("model", default=DEFAULT_MODEL, type=Text())
input_size = click.option("--input-size", type=Size(), help="Height and width in pixels; the network's own by default.")
weights = click.option(
    "--weights",
    type=Text(),
    default="auto",
    help="auto, pretrained, random, or a file (safetensors, or a state dict). Files are never run.",
)
seed = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    help="Of random weights, crops and order.",
)
pictures = click.option(
    "--pictures",
    type=Text(),
    default="builtin",
    help="builtin, a folder, or torchvision:DATASET:ROOT.",
)
train_pictures = click.option(
    "--train-pictures",
    type=click.IntRange(1, 1_000_000),
    default=600,
    metavar="N",
    help="Pictures that attacks learn from.",
)
held_out = click.option(
    "--held-out",
    type=click.IntRange(1, 10_000),
    default=16,
    metavar="N",
    help="Pictures that devices ship and attacks are judged on, in each fold.",
)
folds = click.option(
    "--folds",
    type=click.IntRange(1, 100),
    default=1,
    metavar="K",
    help="Hold out other photographs K times: figures of more of them, in about K times the time.",
)
split = click.option(
    "--split",
    type=Text(),
    default="all",
    help="all (where a deployed head can end), finest (everywhere), or numbers, ranges and module paths: 3,7-9,layer1.",
)
precision = click.option("--precision", type=Several("fp32", "int8"), default="fp32", help="fp32, int8 or fp32,int8.")
