"""What the study found (docs/study.md), as data: `bench study --document` writes it beside its charts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Literal

from pydantic import TypeAdapter

from device_runner.strict import StrictModel

NAME = "effects.json"


class PublishedEffect(StrictModel):
    """What a difference in structure changes in the PSNR that an attack reaches, in dB, with a 95 % interval.

    Attributes:
        contrast: what is compared with what, as in the study's tables.
        networks: whether these were fitted to data.
        psnr_db, low_db, high_db: above 0, more is recovered; endless from one seed, then None.
    """

    contrast: str
    networks: Literal["untrained", "fitted"]
    attack: str
    psnr_db: float
    low_db: float | None
    high_db: float | None


_EFFECTS = TypeAdapter(tuple[PublishedEffect, ...])


def published_effects() -> tuple[PublishedEffect, ...]:
    """Those of docs/study.md."""
    return _EFFECTS.validate_json(files("analysis.decision").joinpath(NAME).read_bytes())


def as_json(effects: Sequence[PublishedEffect]) -> bytes:
    """The content of such a file."""
    return _EFFECTS.dump_json(tuple(effects), indent=1) + b"\n"
