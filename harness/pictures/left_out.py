"""What of a folder was not used, and how that is told: numbers by reason, then a few names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from device_runner.shown import shown
from harness.pictures.decode import MOST_ELONGATED, MOST_MEMORY, MOST_PIXELS, SMALLEST_SIDE, LeftOutKind, Unusable

# So many names are given a reason; all of them are in the run's folder.
_NAMES = 3
# In the order in which they are told: one file, several, and what to do about it.
_SENTENCES = {
    LeftOutKind.HEIC: ("HEIC file", "HEIC files", "convert them (heif-convert IN.HEIC OUT.jpg) or export them as JPEG"),
    LeftOutKind.POSTSCRIPT: ("PostScript file", "PostScript files", "a program is never run; convert them to PNG"),
    LeftOutKind.RAW: ("camera's raw file", "cameras' raw files", "develop them to JPEG, TIFF or PNG"),
    LeftOutKind.DAMAGED: ("damaged picture", "damaged pictures", "replace or remove them"),
    LeftOutKind.UNREADABLE: (
        "unreadable file or folder",
        "unreadable files or folders",
        "see to their permissions, and where links lead",
    ),
    LeftOutKind.TOO_SLOW: ("picture that takes too long", "pictures that take too long", "save them again"),
    LeftOutKind.TOO_LARGE: (
        "picture too large",
        "pictures too large",
        f"over {MOST_PIXELS // 10**6} megapixels or {MOST_MEMORY // 2**30} GiB decoded; save them smaller",
    ),
    LeftOutKind.TOO_SMALL: (
        "picture of too few pixels",
        "pictures of too few pixels",
        f"under {SMALLEST_SIDE} pixels a side, or over {MOST_ELONGATED} times as long as wide",
    ),
    LeftOutKind.FLOAT: (
        "picture of floating-point numbers of unknown range",
        "pictures of floating-point numbers of unknown range",
        "save them with 8 or 16 bit",
    ),
    LeftOutKind.COPY: ("near copy", "near copies", "one of each is used"),
    LeftOutKind.LINK: ("link to a file that is there already", "links to files that are there already", ""),
    LeftOutKind.NO_FILE: ("pipe, socket or device", "pipes, sockets or devices", ""),
    LeftOutKind.NO_PICTURE: ("other file, not a picture", "other files, not pictures", ""),
    LeftOutKind.MORE: (
        "more was not read",
        "more were not read",
        "there is a photograph for every picture that was asked for",
    ),
}


@dataclass(frozen=True)
class LeftOut:
    """One file that was not used.

    Args:
        name: below the folder, fit to be shown.
        kind: why.
        detail: more about this very file; may be empty.
    """

    name: str
    kind: LeftOutKind
    detail: str = ""

    @classmethod
    def because(cls, path: Path, folder: Path, reason: Unusable) -> LeftOut:
        """A file below `folder` that gave no photograph."""
        return cls(shown(path.relative_to(folder)), reason.kind, reason.detail)

    def __str__(self) -> str:
        what = _SENTENCES[self.kind][0]
        return f"{self.name}: {what}{f' ({self.detail})' if self.detail else ''}"


def summary(left_out: Iterable[LeftOut]) -> list[str]:
    """A line a reason, however many files there are: their number, a few names, what to do."""
    by_kind: dict[LeftOutKind, list[LeftOut]] = {kind: [] for kind in _SENTENCES}
    for one in left_out:
        by_kind[one.kind].append(one)
    return [_line(kind, sorted(some, key=lambda one: one.name)) for kind, some in by_kind.items() if some]


def _line(kind: LeftOutKind, some: list[LeftOut]) -> str:
    one, several, remedy = _SENTENCES[kind]
    named = [f"{left.name}: {left.detail}" if left.detail else left.name for left in some[:_NAMES]]
    if len(some) > _NAMES:
        named.append(f"and {len(some) - _NAMES} more")
    names = "" if kind is LeftOutKind.MORE else f" ({', '.join(named)})"
    return f"{len(some)} {one if len(some) == 1 else several}{names}{f'; {remedy}' if remedy else ''}"
