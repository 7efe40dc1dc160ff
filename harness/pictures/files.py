"""Which files a folder holds: every regular file once, whatever its name, and what is behind links."""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.pictures.decode import LeftOutKind, Unusable
from harness.pictures.left_out import LeftOut

# A name with its last number taken out: photographs and frames are numbered.
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)


@dataclass
class Files:
    """The files of a folder.

    Attributes:
        folder: where they were looked for.
        paths: regular files, sorted, each once though several links lead to it; nothing is opened.
        left_out: what is no file, or could not be looked at.
    """

    folder: Path
    paths: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    @classmethod
    def under(cls, folder: Path) -> Files:
        """Looks into every folder below `folder` once; links are followed after all else, and circles end."""
        files = cls(folder)
        seen: set[tuple[int, int]] = set()
        links: deque[Path] = deque()
        files._visit(folder, seen, links)
        while links:
            files._visit(links.popleft(), seen, links)
        files.paths.sort()
        return files

    def _visit(self, start: Path, seen: set[tuple[int, int]], links: deque[Path]) -> None:
        waiting = [start]
        while waiting:
            path = waiting.pop()
            try:
                facts = path.stat()
                if (facts.st_dev, facts.st_ino) in seen:
                    if not stat.S_ISDIR(facts.st_mode):
                        self.left_out.append(LeftOut.because(path, self.folder, Unusable(LeftOutKind.LINK)))
                    continue
                seen.add((facts.st_dev, facts.st_ino))
                if stat.S_ISREG(facts.st_mode):
                    self.paths.append(path)
                elif not stat.S_ISDIR(facts.st_mode):
                    self.left_out.append(LeftOut.because(path, self.folder, Unusable(LeftOutKind.NO_FILE)))
                else:
                    with os.scandir(path) as entries:
                        for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
                            (links if entry.is_symlink() else waiting).append(path / entry.name)
            except OSError as exc:
                reason = Unusable(LeftOutKind.UNREADABLE, exc.strerror or type(exc).__name__)
                self.left_out.append(LeftOut.because(path, self.folder, reason))


def sequences(paths: Iterable[Path]) -> list[list[Path]]:
    """Files of one folder whose names differ in their last number alone, as frames of a film do, in its order."""
    numbered: dict[tuple[Path, str, str], list[tuple[int, Path]]] = {}
    for path in paths:
        match = _NUMBERED.fullmatch(path.name)
        if match:
            before, number, after = match.groups()
            numbered.setdefault((path.parent, before, after), []).append((int(number), path))
    return [[path for _, path in sorted(some)] for some in numbered.values()]
