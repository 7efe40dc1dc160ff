"""What one attack reached at one split, and the folder that keeps it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from device_runner.files import safe_name
from harness.results.files import write_whole


class Outcome(BaseModel):
    """One attack at one split of one network, judged on every held-out picture.

    Attributes:
        budget_s: what the attack was given, in CPU seconds, for fitting and rebuilding together.
        fit_cpu_s, rebuild_cpu_s: what it took.
        sources: the source photograph of each held-out picture.
        psnr_db, ssim, residual, floor_psnr_db: one value a held-out picture; the residual is the distance of the
            rebuilt picture's activation from the received one, relative to the latter's norm.
    """

    model_config = ConfigDict(frozen=True)

    network: str
    weights: str
    weights_sha256: str
    pictures_sha256: str
    split_index: int
    split: str
    activation_shape: tuple[int, ...]
    attack: str
    budget_s: float
    fit_cpu_s: float
    rebuild_cpu_s: float
    sources: tuple[str, ...]
    psnr_db: tuple[float, ...]
    ssim: tuple[float, ...]
    residual: tuple[float, ...]
    floor_psnr_db: tuple[float, ...]


class Kept:
    """A folder with one JSON file an outcome, budget-<seconds>/<network>/<split>-<attack>.json.

    An attack's code is no part of the name: after changing an attack, delete its files to measure it anew.
    """

    def __init__(self, folder: Path, budget_s: float) -> None:
        self.folder = folder / f"budget-{budget_s:g}s"

    def find(self, network: str, split_index: int, attack: str) -> Outcome | None:
        """What was kept, if anything was."""
        path = self._path(network, split_index, attack)
        return Outcome.model_validate_json(path.read_bytes()) if path.exists() else None

    def keep(self, outcome: Outcome) -> None:
        """Write an outcome, whole or not at all."""
        path = self._path(outcome.network, outcome.split_index, outcome.attack)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, outcome.model_dump_json(indent=1).encode())

    def write(self, name: str, content: bytes) -> None:
        """Write what was made of the outcomes beside them."""
        write_whole(self.folder / name, content)

    def _path(self, network: str, split_index: int, attack: str) -> Path:
        return self.folder / safe_name(network) / f"{split_index:03}-{safe_name(attack)}.json"
