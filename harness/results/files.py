"""Files of a run: whole or not there, written by one process, and whatever is wrong with one is said with its name."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from device_runner import files
from harness.errors import ResultsError

Checked = TypeVar("Checked", bound=BaseModel)
Content = dict[str, Any]
"""What JSON holds, before it is checked."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file of a run: it is either whole or not there, also after a crash.

    Raises:
        ResultsError: no space, or not allowed.
    """
    with writing(path):
        files.write_whole(path, content)


@contextmanager
def writing(path: Path, remedy: str = "") -> Iterator[None]:
    """Raise ResultsError that names the path where the block raises OSError; the remedy is for what is not a run's."""
    try:
        yield
    except OSError as exc:
        raise ResultsError(f"cannot write to {path}: {exc.strerror or exc}", remedy=remedy or _remedy(exc)) from exc


def _remedy(exc: OSError) -> str:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free disk space, then --resume"
    return "see that its folder is there and can be written, then --resume"


@contextmanager
def locked(folder: Path, other: str) -> Iterator[None]:
    """Keep others from this folder for as long as the block runs; the lock goes with the process.

    Args:
        other: what else would be writing there, as the error says it: "another process".

    Raises:
        ResultsError: it is being written already, or cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(files.locked(folder / "lock", wait=False))
        except BlockingIOError as exc:
            raise ResultsError(f"{folder} is being written by {other}", remedy="wait for it") from exc
        except OSError as exc:
            raise ResultsError(
                f"{folder} cannot be written: {exc.strerror}", remedy="make it writable, or copy it"
            ) from exc
        yield


def read_model(path: Path, kind: type[Checked], update: Callable[[Content], Content] | None = None) -> Checked:
    """Read a file of a run; `update` brings an older one's content up to date.

    Raises:
        ResultsError: it is missing, unreadable or damaged.
    """
    try:
        content = path.read_bytes()
        return (
            kind.model_validate(update(json.loads(content)), strict=False)
            if update
            else kind.model_validate_json(content)
        )
    except FileNotFoundError as exc:
        raise ResultsError(f"{path} is missing", remedy="name the folder of a run") from exc
    except OSError as exc:
        raise ResultsError(f"{path} cannot be read: {exc.strerror}", remedy="make it a readable file") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its whole"
        raise ResultsError(f"{path} is damaged at {where}: {first['msg']}", remedy=_mend(path)) from exc
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ResultsError(f"{path} is damaged: {exc}", remedy=_mend(path)) from exc


def _mend(path: Path) -> str:
    """Without run.json there is no run; a file of the journal is measured again."""
    return "put back a copy of it" if path.name == "run.json" else "delete that file, then --resume"
