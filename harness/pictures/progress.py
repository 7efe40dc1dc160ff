"""Says how far the reading of many pictures is."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_NOTE_S = 2.0
# Is told what the user should know while a large folder is read.
Note = Callable[[str], None]


def silent(text: str) -> None:
    """Tells nobody."""


def told(note: Note, title: str, count: int, what: str) -> Callable[[int], None]:
    """Notes how many of `count` are done, after two seconds and then ever more rarely."""
    began = time.monotonic()
    due = FIRST_NOTE_S

    def tell(done: int) -> None:
        nonlocal due
        if done < count and time.monotonic() - began >= due:
            due *= 2
            note(f"{title}: {done} of {count} {what} so far")

    return tell
