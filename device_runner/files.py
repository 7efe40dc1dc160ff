"""Files and folders that are whole or not there, names that are one path component, locks, and what a file holds.

What is not whole yet lies beside its place under `.NAME.PID-WORD.part`, a name that no other thread or process uses. A
process that is killed leaves it behind: nobody reads it, and `remove_left_over` deletes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

# A forked process may outlive its killed parent by seconds: it must not hold the parent's locks.
_held: dict[Path, IO[str]] = {}
os.register_at_fork(after_in_child=lambda: [file.close() for file in _held.values()])


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(*parts: object) -> str:
    """sha256 over parts, as hexadecimal: bytes as they are, anything else as `repr` writes it; each with its length."""
    total = hashlib.sha256()
    for part in parts:
        content = memoryview(part if isinstance(part, bytes | memoryview) else repr(part).encode())
        total.update(content.nbytes.to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()


def safe_name(text: str) -> str:
    """A name that is one harmless path component."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in text).lstrip(".") or "_"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is either whole or as it was, whoever else writes it now. Raises OSError."""
    with whole_file(path) as partial, partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write a file to, which takes its place when the block ends without an error. Raises OSError."""
    partial = partial_beside(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """Give an empty folder on the disk of `path`, to be renamed from, gone when the block ends. Raises OSError."""
    scratch = partial_beside(path)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def partial_beside(path: Path) -> Path:
    """Where something may lie until it is whole: in the same folder, hidden, under a name of its own."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")


def remove_left_over(folder: Path) -> None:
    """Delete what killed processes of this machine did not finish in a folder and below. Raises OSError."""
    for left in list(folder.rglob(".*.part")):
        maker = re.fullmatch(r"\..+\.(\d+)-[0-9a-f]{8}\.part", left.name)
        if maker and not psutil.pid_exists(int(maker[1])):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock on a file, which is made where it is missing; the kernel frees it if this process dies.

    Args:
        wait: for whoever holds it; otherwise that is an error.

    Raises:
        BlockingIOError: it is held already, and is not waited for.
        OSError: the file cannot be written.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        _held[path] = file
        try:
            yield
        finally:
            del _held[path]


def holds(path: Path) -> bool:
    """Whether this very process holds the lock on a file."""
    return path in _held
