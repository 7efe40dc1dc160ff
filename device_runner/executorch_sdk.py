"""ExecuTorch's wheel as a C++ SDK: the installed one, or the same version's for another processor.

The wheel of another processor is fetched by pip, once, and only what a compiler needs of it is kept, in the cache.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

from packaging.version import Version

from device_runner.cache import cache_folder, make_cache_folder
from device_runner.errors import BuildError
from device_runner.files import locked, remove_left_over, scratch_beside
from device_runner.said import last_line

# share/ holds a marker that the CMake package finds its own root by.
_NEEDED = ("executorch/include/", "executorch/lib/", "executorch/share/")


def executorch_version() -> str:
    """Version of the installed ExecuTorch, as PyPI calls it (a local build adds "+cpu")."""
    installed_sdk()
    return Version(importlib.metadata.version("executorch")).public


def installed_sdk() -> Path:
    """Folder of the installed ExecuTorch. Raises BuildError where there is none."""
    spec = importlib.util.find_spec("executorch")
    if spec is None or not spec.submodule_search_locations:
        raise BuildError("ExecuTorch is not installed", remedy="pip install executorch")
    return Path(next(iter(spec.submodule_search_locations)))


def foreign_sdk(machine: str) -> Path:
    """Folder of the installed ExecuTorch's version for another processor ("aarch64"); fetched when first needed.

    A wheel that lies in the cache already (`executorch` in there) is used instead of fetching one.

    Raises:
        BuildError: it is not in the cache and cannot be fetched, or it is damaged.
        MachineError: the cache cannot be written.
        OSError: no space.
    """
    version = executorch_version()
    kept = cache_folder() / "executorch"
    folder = kept / f"{version}-{machine}"
    if not folder.is_dir():
        make_cache_folder(kept)
        with locked(kept / f"{folder.name}.lock"):
            if not folder.is_dir():
                _fetch(kept, version, machine, folder)
    return folder / "executorch"


def _fetch(kept: Path, version: str, machine: str, folder: Path) -> None:
    remove_left_over(kept)
    with scratch_beside(folder) as work:
        wheel = next(kept.glob(f"executorch-{version}[-+]*{machine}.whl"), None)
        _unpack(wheel or _download(work, kept, version, machine), work / "sdk")
        (work / "sdk").rename(folder)


def _download(work: Path, kept: Path, version: str, machine: str) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--only-binary=:all:", "--platform", f"manylinux_2_28_{machine}", "--dest", str(work)),
        f"executorch=={version}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    wheel = next(work.glob("*.whl"), None)
    if done.returncode != 0 or wheel is None:
        said = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("WARNING"))
        raise BuildError(
            f"pip cannot fetch ExecuTorch {version} for {machine}: {last_line(said, otherwise='no wheel came')}",
            remedy=f"connect to the network and run again, or put its manylinux_2_28_{machine} wheel into {kept}",
        )
    return wheel


def _unpack(wheel: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith(_NEEDED):
                    archive.extract(name, folder)
    except zipfile.BadZipFile as exc:
        raise BuildError(f"{wheel} is damaged: {exc}", remedy="delete it and run again") from exc
    if not (folder / "executorch" / "lib").is_dir():
        raise BuildError(f"{wheel} holds no C++ libraries", remedy="delete it and run again")
