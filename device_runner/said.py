"""What a program complained of, in one line."""

from __future__ import annotations


def last_line(stderr: bytes | str, *, otherwise: str = "") -> str:
    """The last line that holds anything, without the spaces around it; `otherwise` where there is none."""
    text = stderr if isinstance(stderr, str) else stderr.decode(errors="replace")
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else otherwise
