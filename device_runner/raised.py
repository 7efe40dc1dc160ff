"""What code that is not ours raised, told in one line: class, message, and the line of that code."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from device_runner.said import first_line
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
    return f"{class_and_message(error)}{in_brackets(place(error))}"


def class_and_message(error: BaseException) -> str:
    """The class, and the first line of the message where there is one: "KeyError: 'backbone'"."""
    words = _message(error)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def message_or_class(error: BaseException) -> str:
    """The first line of the message, or else the class."""
    return _message(error) or type(error).__name__


def in_brackets(text: str) -> str:
    """' (networks.py:150)', or nothing."""
    return f" ({text})" if text else ""


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


def _message(error: BaseException) -> str:
    """The first line that holds anything, safe to print, of at most 200 characters; "" where there is none."""
    words = " ".join(shown(_words(error)).split())
    return words if len(words) <= _LONGEST else words[: _LONGEST - 3] + "..."


def _words(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return error.msg
    if isinstance(error, SystemExit):
        return f"it ended with status {error.code}"
    try:
        return first_line(str(error))
    except Exception:  # a class of the user's own may fail to say what happened
        return ""


def _is_library(filename: str) -> bool:
    return filename.startswith(_STANDARD_LIBRARY) or bool(_OF_PACKAGES.intersection(Path(filename).parts))
