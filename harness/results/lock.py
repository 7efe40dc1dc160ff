"""One process at a time writes a folder of results."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import ResultsError


@contextmanager
def locked(folder: Path, other: str) -> Iterator[None]:
    """Keep others from this folder for as long as the block runs; the lock goes with the process.

    Args:
        other: what else would be writing there, as the error says it: "another process".

    Raises:
        ResultsError: it is being written already, or cannot be written.
    """
    try:
        lock = (folder / "lock").open("w")
    except OSError as exc:
        raise ResultsError(
            f"{folder} cannot be written: {exc.strerror}", remedy="make it writable, or copy it"
        ) from exc
    with lock as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ResultsError(f"{folder} is being written by {other}", remedy="wait for it") from exc
        yield
