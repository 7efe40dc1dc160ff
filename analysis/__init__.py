"""From activations and samples to conclusions: `from analysis import load_run`."""

from __future__ import annotations

from analysis.run import Run, load_run

__all__ = ["Run", "load_run"]
