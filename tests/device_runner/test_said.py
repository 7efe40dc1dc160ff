"""Of what a program complained of, the first or the last line is told."""

from __future__ import annotations

import pytest

from device_runner.said import first_line, last_line


@pytest.mark.parametrize(
    ("stderr", "first", "last"),
    [
        (b"\n one\n  two \n\n", "one", "two"),
        ("as text", "as text", "as text"),
        (b"\xff\n", "�", "�"),
        (b" \n", "status 3", "status 3"),
        (b"", "status 3", "status 3"),
    ],
)
def test_the_first_and_the_last_line_that_hold_anything_are_told(stderr: bytes | str, first: str, last: str) -> None:
    assert first_line(stderr, otherwise="status 3") == first
    assert last_line(stderr, otherwise="status 3") == last
