"""What a program or an exception complained of, in one line."""

from __future__ import annotations


def last_line(stderr: bytes | str, *, otherwise: str = "") -> str:
    """The last line that holds anything, without the spaces around it; `otherwise` where there is none."""
    return _lines(stderr, otherwise)[-1].strip()


def first_line(stderr: bytes | str, *, otherwise: str = "") -> str:
    """The first line that holds anything, without the spaces around it; `otherwise` where there is none."""
    return _lines(stderr, otherwise)[0].strip()


def _lines(stderr: bytes | str, otherwise: str) -> list[str]:
    text = stderr if isinstance(stderr, str) else stderr.decode(errors="replace")
    return text.strip().splitlines() or [otherwise]
