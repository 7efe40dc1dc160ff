"""The standard attacks of the literature, written anew from their papers, to be held against ours.

`python -m tests.benchmarks.attacks` compares all of them at every split of two networks, on the same pictures and with
the same CPU seconds each; it takes hours, and goes on where it was stopped.
"""

from __future__ import annotations

from analysis.attacks import Attack
from device_runner.registry import Registry

PEERS: Registry[Attack] = Registry(
    "attack",
    "analysis.attacks.base:Attack",
    {
        "rmle": "tests.benchmarks.attacks.rmle:Rmle",
        "dip": "tests.benchmarks.attacks.dip:Dip",
        "inverse_network": "tests.benchmarks.attacks.inverse_network:InverseNetwork",
        "transposed_decoder": "tests.benchmarks.attacks.transposed_decoder:TransposedDecoder",
    },
)
