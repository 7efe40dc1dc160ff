"""Attacks by name. A new one is one file with one class, and one line here; the contract test finds it."""

from __future__ import annotations

from analysis.attacks.base import Attack, Pairs
from device_runner.registry import Registry

__all__ = ["ATTACKS", "Attack", "Pairs"]

ATTACKS: Registry[Attack] = Registry(
    "attack",
    "analysis.attacks.base:Attack",
    {
        "linear": "analysis.attacks.linear:Linear",
        "decoder": "analysis.attacks.decoder:Decoder",
    },
)
