"""What code that is not ours raised, told in one line: class, message, and the line of that code."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from device_runner.shown import shown

_ROOT = Path(__file__).parents[1]
_OURS = tuple(str(_ROOT / package) for package in ("device_runner", "harness", "analysis"))
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_OF_PACKAGES = {"site-packages", "dist-packages"}
_LONGEST = 200


def in_one_line(error: BaseException) -> str:
    """Class, message and place: "KeyError: 'backbone' (networks.py:150)".

    The line is the user's own: the last one that is neither ours nor a library's, where there is one.
    """
    words = " ".join(shown(_message(error)).split())
    if len(words) > _LONGEST:
        words = words[: _LONGEST - 3] + "..."
    return f"{type(error).__name__}{f': {words}' if words else ''}{in_brackets(place(error))}"


def in_brackets(text: str) -> str:
    """' (networks.py:150)', or nothing."""
    return f" ({text})" if text else ""


def _message(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return error.msg
    if isinstance(error, SystemExit):
        return f"it ended with status {error.code}"
    try:
        lines = [line for line in str(error).splitlines() if line.strip()]
    except Exception:  # a class of the user's own may fail to say what happened
        return ""
    return lines[0] if lines else ""


def place(error: BaseException) -> str:
    """Where the user's own code raised it: "networks.py:150"; "" where none of it did."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    frames = [frame for frame in frames if not frame.filename.startswith(_OURS)]
    own = [frame for frame in frames if not _is_library(frame.filename)]
    if not own:  # the user's code is an installed package
        own = [frame for frame in frames if "torch" not in Path(frame.filename).parts]
    return f"{shown(Path(own[-1].filename).name)}:{own[-1].lineno}" if own else ""


def _is_library(filename: str) -> bool:
    return filename.startswith(_STANDARD_LIBRARY) or bool(_OF_PACKAGES.intersection(Path(filename).parts))
