"""run.log in a run's folder: what devices were asked, how long each call took and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from device_runner.devices.call_log import CALLS

_FORMAT = logging.Formatter("%(asctime)s.%(msecs)03d  %(message)s", datefmt="%Y-%m-%d %H:%M:%S")


class RunLog(logging.Handler):
    """Keeps calls until a run's folder is there, and appends to its log from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_FORMAT)
        self._waiting: list[str] = []
        self._path: Path | None = None

    def write_to(self, folder: Path) -> None:
        """Begin to write: what was kept, and whatever is still to come."""
        self.acquire()
        try:
            self._path = folder / "run.log"
            self._write(self._path, "".join(self._waiting))
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep or write one call."""
        line = f"{self.format(record)}\n"
        if self._path is None:
            self._waiting.append(line)
        else:
            self._write(self._path, line)

    @staticmethod
    def _write(path: Path, text: str) -> None:
        with suppress(OSError), path.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(text)  # a log that cannot be written ends no run


@contextmanager
def run_log() -> Iterator[RunLog]:
    """Log the calls of this block's devices."""
    log = RunLog()
    CALLS.addHandler(log)
    try:
        yield log
    finally:
        CALLS.removeHandler(log)
