"""How names that users chose are shown: one place, so that no file name can steer a terminal or break a file."""

from __future__ import annotations

import os


def shown(name: str | bytes | os.PathLike[str]) -> str:
    r"""The name as text that is safe to print and to store: what is not printable is escaped.

    Control characters (ESC, newlines), marks that turn the direction of text, and bytes that are not UTF-8 become
    `\x1b`, `\n`, `\u202e` and `\xfc`; everything else stays as it is.

    Args:
        name: a path or a file name, as the file system or the command line gives it.
    """
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in os.fsdecode(name))


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as Python keeps it in names
        return f"\\x{code - 0xDC00:02x}"
    return letter.encode("unicode_escape", "backslashreplace").decode()
