"""Attacks by name. A new one is one file with one class, and one line here; the contract test finds it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from analysis.attacks.base import Attack, CrossFitted, HeadFunction, Pairs, Progress
from analysis.attacks.validation import in_validation
from device_runner.errors import UsageError
from device_runner.files import safe_name
from device_runner.registry import Registry

__all__ = ["ATTACKS", "Attack", "CrossFitted", "HeadFunction", "Pairs", "Progress", "check_attacks", "in_validation"]

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


def check_attacks(chosen: Sequence[str]) -> None:
    """What can be said of attacks without running them is said before anything is measured.

    Args:
        chosen: as `--attack` has them.

    Raises:
        UsageError: one that is unknown, cannot be loaded or is named twice, or a class that is no whole attack.
    """
    if len({safe_name(one) for one in chosen}) < len(chosen):  # which is what their files are called
        raise UsageError("an attack is named twice", remedy="name each once")
    called: dict[str, str] = {ATTACKS.load(one).name: one for one in ATTACKS if one not in chosen}
    for one in chosen:
        kind = ATTACKS.load(one)
        _check_kind(one, kind)
        if (other := called.setdefault(kind.name, one)) != one:
            raise UsageError(
                f"attack '{one}' has the name of '{other}': {kind.name}", remedy="give its class a `name` of its own"
            )


def _check_kind(chosen: str, kind: type[Attack]) -> None:
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    if missing:
        raise UsageError(f"attack '{chosen}' has no {' and no '.join(missing)}", remedy="write what `Attack` asks for")
    name, access = getattr(kind, "name", None), getattr(kind, "access", None)
    if not isinstance(name, str) or not name or not name.isprintable():
        raise UsageError(f"the `name` of attack '{chosen}' is {name!r}", remedy='write name = "one_word" in its class')
    if access not in {"black-box", "white-box"}:
        raise UsageError(
            f"the `access` of attack '{chosen}' is {access!r}", remedy='write access = "black-box" or "white-box"'
        )
    try:
        inspect.signature(kind).bind()
    except TypeError as exc:
        raise UsageError(
            f"attack '{chosen}' is made without arguments, but: {exc}", remedy="give them defaults"
        ) from exc
