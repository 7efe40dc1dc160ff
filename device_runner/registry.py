"""Names -> classes, lazily, for every kind of plug-in: attacks and devices."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast

from device_runner.errors import BroughtCodeError, UsageError
from device_runner.raised import in_one_line

T = TypeVar("T")
_WHERE_MODULES_LIE = "check the spelling and PYTHONPATH"


class Registry(Generic[T]):
    """Names of one kind of plug-in and where each is found; listing names imports nothing.

    Args:
        noun: what an entry is called in messages ("attack").
        base: the class that every entry must be a subclass of.
        entries: name -> "package.module:Object".
    """

    def __init__(self, noun: str, base: str, entries: Mapping[str, str]) -> None:
        self.noun = noun
        self._base = base
        self._entries = dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def load(self, name: str) -> type[T]:
        """The class behind a registered name, or behind a user's own "package.module:Class".

        Raises:
            UsageError: unknown name (near names and the list are given), or a target that is missing or no such class.
            BroughtCodeError: its module raised something while it was imported.
        """
        if name not in self._entries and ":" not in name:
            raise UsageError(f"unknown {self.noun} '{name}'", remedy=suggest(name, self._entries))
        plug_in = import_object(self._entries.get(name, name), self.noun)
        base = import_object(self._base, self.noun)
        if not (isinstance(plug_in, type) and isinstance(base, type) and issubclass(plug_in, base)):
            raise UsageError(f"'{name}' is no {self.noun}", remedy=f"subclass {self._base}")
        return cast(type[T], plug_in)


def import_object(target: str, noun: str) -> object:
    """The object behind "package.module:Object".

    Raises:
        UsageError: the text has another form, or nothing is found there.
        BroughtCodeError: the module raised something while it was imported.
    """
    module_name, _, attribute = target.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise UsageError(f"'{target}' does not name a {noun}", remedy="write it as package.module:Object")
    what = f"{noun} '{target}' cannot be loaded"
    try:
        module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # the code is the user's own, and may raise or exit as it likes
        missing = exc.name if isinstance(exc, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise UsageError(f"{what}: there is no module '{missing}'", remedy=_WHERE_MODULES_LIE) from exc
        remedy = f"install {missing}" if missing else "mend that line; bench --debug shows the whole traceback"
        raise BroughtCodeError(f"{what}: {in_one_line(exc)}", remedy=remedy) from exc
    try:
        return getattr(module, attribute)
    except AttributeError as exc:
        near = difflib.get_close_matches(attribute, vars(module), n=3, cutoff=0.5)
        remedy = f"did you mean {' or '.join(near)}?" if near else "check the spelling"
        raise UsageError(f"{what}: {module_name} has no '{attribute}'", remedy=remedy) from exc


def suggest(name: str, known: Mapping[str, object] | list[str]) -> str:
    """A remedy for an unknown name: the nearest known names, or all where none is near."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    names = list(known)
    return f"known: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"
