"""Of what a program complained of, the last line is told."""

from __future__ import annotations

import pytest

from device_runner.said import last_line


@pytest.mark.parametrize(
    ("stderr", "told"),
    [
        (b"one\n  two \n\n", "two"),
        ("as text", "as text"),
        (b"\xff\n", "�"),
        (b" \n", "status 3"),
        (b"", "status 3"),
    ],
)
def test_the_last_line_that_holds_anything_is_told(stderr: bytes | str, told: str) -> None:
    assert last_line(stderr, otherwise="status 3") == told
