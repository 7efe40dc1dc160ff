"""Errors about attacks.

SplitbenchError
└── AttackError       an attack was given what it cannot work with, or gave back no picture
"""

from __future__ import annotations

from device_runner.errors import SplitbenchError


class AttackError(SplitbenchError):
    """An attack or a metric was given what it cannot work with: a wrong shape, NaN, too few pictures."""
