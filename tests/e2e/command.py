"""The installed command, run as a person would, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TINY = "tiny_network:tiny"
DEEPER = "tiny_network:deeper"  # with enough splits to be surveyed


@dataclass(frozen=True)
class Bench:
    """The `bench` command in one working folder."""

    folder: Path

    @property
    def command(self) -> list[str]:
        return [str(Path(sys.executable).parent / "bench")]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(HERE), "COLUMNS": "100"}

    def __call__(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end; `changed` are environment variables."""
        return subprocess.run(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.environment | changed,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own."""
        return subprocess.Popen(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def exported_models(self) -> Path:
        return self.folder / "exported_models"

    @property
    def only_run(self) -> Path:
        (run,) = (self.folder / "runs").iterdir()
        return run


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """An error is one line, says these words, has a status that is not 0, and no traceback."""
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    missing = [word for word in words if word not in last]
    assert not missing, f"{missing} not in: {done.stderr}"
