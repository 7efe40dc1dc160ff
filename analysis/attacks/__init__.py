"""Attacks by name. A new one is one file with one class, and one line here; the contract test finds it."""

from __future__ import annotations

from analysis.attacks.base import Attack, Head, Pairs, Progress
from device_runner.registry import Registry

__all__ = ["ATTACKS", "Attack", "Head", "Pairs", "Progress"]

ATTACKS: Registry[Attack] = Registry(
    "attack",
    "analysis.attacks.base:Attack",
    {
        "linear": "analysis.attacks.linear:Linear",
        "whitebox": "analysis.attacks.whitebox:WhiteBox",
        "decoder": "analysis.attacks.decoder:Decoder",
        "decoder_shifted": "analysis.attacks.shifted:ShiftedDecoder",
        "spectral": "analysis.attacks.spectral:Spectral",
        "refine": "analysis.attacks.spectral:Refine",
        "best": "analysis.attacks.best:Best",
    },
)
