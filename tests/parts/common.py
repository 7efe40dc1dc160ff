"""What the tests of every device expect and send."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from device_runner.errors import DeviceError


@contextmanager
def failure(words: str, *, remedy: str = "", kind: type[DeviceError] = DeviceError) -> Iterator[None]:
    """Expect an error of exactly this kind, in one line that holds these words, and its remedy."""
    with pytest.raises(kind) as caught:
        yield
    assert type(caught.value) is kind
    assert words in caught.value.message
    assert caught.value.remedy
    assert remedy in caught.value.remedy
    assert "\n" not in str(caught.value)


def blob(folder: Path, size: int, name: str = "blob") -> Path:
    """A file that nothing can compress."""
    path = folder / name
    path.write_bytes(os.urandom(size))
    return path
