"""Seals a bundle: everything its program loads lies beside it, so that it runs where the system has other libraries.

Raspberry Pi OS has glibc in another version, Android has none at all: a sealed bundle brings its loader, libc and
libstdc++ along, and is started through its own loader.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from device_runner.errors import BuildError
from device_runner.files import file_sha256
from device_runner.said import last_line

SUMS_NAME = "SHA256SUMS"
_NEEDED = re.compile(r"\(NEEDED\).*\[(.+)\]")
# Of 17 MB: level 6 gives 5.70 MB in 0.5 s, level 9 gives 5.68 MB in 1.1 s.
_COMPRESSION_LEVEL = 6


def seal(folder: Path, program: Path, compiler: Path, loader: str) -> None:
    """Put into `folder` whatever the program needs, directly or not, and is not there.

    Args:
        folder: of the libraries.
        compiler: what built the program; it knows where the libraries of its target are.
        loader: file name of the dynamic loader.

    Raises:
        BuildError: a library cannot be found or read.
    """
    readelf = _ask(compiler, "-print-prog-name=readelf")
    waiting = [program, *folder.iterdir()]
    here = {path.name for path in waiting}
    while waiting:
        for name in sorted({loader, *_needed(readelf, waiting.pop())} - here):
            shutil.copyfile(_find(compiler, name), folder / name)  # follows links: the content under the needed name
            here.add(name)
            waiting.append(folder / name)
    for path in (program, *folder.iterdir()):
        path.chmod(0o755)


def write_sums(folder: Path) -> None:
    """Write what `sha256sum -c SHA256SUMS`, run in the folder, holds its files to, on whatever device it lies then."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS_NAME)
    lines = [f"{file_sha256(path)}  {path.relative_to(folder)}\n" for path in files]
    (folder / SUMS_NAME).write_text("".join(lines))


def pack(folder: Path, archive: Path) -> None:
    """Write a folder as tar.gz; equal folders give equal bytes."""
    with archive.open("wb") as raw, gzip.GzipFile("", "wb", _COMPRESSION_LEVEL, raw, mtime=0) as packed:  # noqa: SIM117
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for path in sorted(folder.rglob("*")):
                tar.add(path, str(path.relative_to(folder)), recursive=False, filter=_plain)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


def _needed(readelf: str, path: Path) -> set[str]:
    return set(_NEEDED.findall(_output([readelf, "-d", str(path)])))


def _find(compiler: Path, name: str) -> Path:
    found = Path(_ask(compiler, f"-print-file-name={name}"))
    if not found.is_absolute():  # the compiler gives back the name of what it does not find
        raise BuildError(f"{compiler.name} does not find {name}", remedy="install the compiler's C++ libraries again")
    return found


def _ask(compiler: Path, question: str) -> str:
    return _output([str(compiler), question]).strip()


def _output(command: list[str]) -> str:
    done = subprocess.run(  # noqa: S603 - the compiler and its own tools
        command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode != 0:
        raise BuildError(
            f"{Path(command[0]).name} failed: {last_line(done.stderr, otherwise=f'status {done.returncode}')}",
            remedy="install the compiler and its binutils again",
        )
    return done.stdout
