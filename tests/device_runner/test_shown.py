"""Names of users are shown so that they steer no terminal and break no file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from device_runner.shown import shown


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("holiday 1 (copy).jpg", "holiday 1 (copy).jpg"),
        ("Zürich-東京-🙂.png", "Zürich-東京-🙂.png"),
        ("line\nbreak\t.png", "line\\nbreak\\t.png"),
        ("\x1b[31mred.png", "\\x1b[31mred.png"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        (os.fsdecode(b"\xfc1.png"), "\\xfc1.png"),
        (b"\xfc1.png", "\\xfc1.png"),
        ("\ud800", "\\ud800"),
        (Path("a") / "b", "a/b"),
    ],
)
def test_what_is_not_printable_is_escaped(name: str | bytes | Path, expected: str) -> None:
    assert shown(name) == expected
    assert shown(name).isprintable()
    shown(name).encode()
