"""Builds head_runner and what it needs into one folder, once per content: a bundle.

A bundle is `head_runner` and `lib/*.so`; it finds its libraries beside itself, so that it can be copied anywhere on a
machine of its target. It is built with CMake against the ExecuTorch wheel when first needed, and kept in the cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from device_runner.cache import cache_folder
from device_runner.errors import BuildError, UsageError
from device_runner.registry import suggest

NATIVE_FOLDER = Path(__file__).parent / "native"
RUNNER_NAME = "head_runner"


@dataclass(frozen=True)
class Target:
    """A kind of machine that bundles are built for.

    Attributes:
        compiler: the C++ compiler's command.
        remedy: how a machine without that compiler gets it.
        cmake_arguments: what else CMake must be told.
    """

    compiler: str
    remedy: str
    cmake_arguments: tuple[str, ...] = ()


TARGETS: Mapping[str, Target] = MappingProxyType({"host": Target(compiler="g++", remedy="apt-get install g++")})


@dataclass(frozen=True)
class Bundle:
    """A folder with the runner and its libraries, ready to be run or copied.

    Attributes:
        folder: all of it; nothing in it is ever changed.
        runner: the program in it.
        sha256: what it was made from: sources, ExecuTorch, compiler, target. Also the folder's name.
    """

    folder: Path
    runner: Path
    sha256: str


def build_bundle(target: str = "host", *, cache: Path | None = None) -> Bundle:
    """Return the bundle for a target, building it unless it is there: some 10 s, then milliseconds.

    Several processes may ask at once: one builds, the others wait for it.

    Args:
        target: a name in TARGETS.
        cache: where bundles are kept; by default `bundles` in the cache folder.

    Raises:
        UsageError: an unknown target.
        BuildError: no compiler, CMake, Ninja or ExecuTorch; a cache that cannot be written; a failed build, whose log
            is named.
    """
    if target not in TARGETS:
        raise UsageError(f"unknown target '{target}'", remedy=suggest(target, TARGETS))
    compiler = _find_compiler(TARGETS[target])
    sha256 = _content_hash(target, compiler)
    bundles = cache or cache_folder() / "bundles"
    bundle = Bundle(bundles / sha256, bundles / sha256 / RUNNER_NAME, sha256)
    if not bundle.runner.is_file():
        try:
            bundles.mkdir(parents=True, exist_ok=True)
            with _locked(bundles / f"{sha256}.lock"):
                if not bundle.runner.is_file():
                    _build(bundle, TARGETS[target], compiler)
        except OSError as exc:
            remedy = "free some space, or set SPLITBENCH_CACHE_DIR to a folder that can be written"
            raise BuildError(f"the runner cannot be kept in {bundles}: {exc.strerror}", remedy=remedy) from exc
    return bundle


def _find_compiler(target: Target) -> Path:
    found = shutil.which(target.compiler)
    if found is None:
        raise BuildError(f"no C++ compiler: {target.compiler} is not on PATH", remedy=target.remedy)
    return Path(found)


def _find_build_tool(name: str, bin_constant: str) -> Path:
    """Return a tool of the running environment, of its Python package (not all installers make scripts), or of PATH."""
    found = shutil.which(name, path=str(Path(sys.prefix) / "bin"))
    if found is None and importlib.util.find_spec(name):
        found = shutil.which(name, path=getattr(importlib.import_module(name), bin_constant))
    found = found or shutil.which(name)
    if found is None:
        raise BuildError(f"{name} is missing", remedy=f"pip install {name}")
    return Path(found)


def _executorch_folder() -> Path:
    spec = importlib.util.find_spec("executorch")
    if spec is None or not spec.submodule_search_locations:
        raise BuildError("ExecuTorch is not installed", remedy="pip install executorch")
    return Path(next(iter(spec.submodule_search_locations)))


def _content_hash(target: str, compiler: Path) -> str:
    """Return the SHA-256 of all that a bundle is made from."""
    digest = hashlib.sha256()
    _executorch_folder()
    facts = [target, repr(TARGETS[target]), importlib.metadata.version("executorch"), _compiler_version(compiler)]
    sources = sorted(path for path in NATIVE_FOLDER.rglob("*") if path.is_file())
    parts = [fact.encode() for fact in facts]
    for source in sources:
        parts += [str(source.relative_to(NATIVE_FOLDER)).encode(), source.read_bytes()]
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _compiler_version(compiler: Path) -> str:
    command = [str(compiler), "--version"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - found by ourselves
    if completed.returncode != 0:
        raise BuildError(f"{compiler} --version exits with {completed.returncode}", remedy="install the compiler again")
    return completed.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes wait for; the kernel frees it if this process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(bundle: Bundle, target: Target, compiler: Path) -> None:
    """Build in a folder of its own and move the result into place, so that half a bundle is never seen."""
    bundles = bundle.folder.parent
    log = bundles / f"{bundle.sha256}.log"
    for left_by_the_killed in bundles.glob(f".{bundle.sha256}-*"):
        shutil.rmtree(left_by_the_killed)
    work = Path(tempfile.mkdtemp(prefix=f".{bundle.sha256}-", dir=bundles))
    try:
        _compile(work, log, target, compiler)
        if bundle.folder.exists():
            shutil.rmtree(bundle.folder)
        (work / "bundle").rename(bundle.folder)
    finally:
        shutil.rmtree(work)
    log.unlink()


def _compile(work: Path, log: Path, target: Target, compiler: Path) -> None:
    cmake, ninja = str(_find_build_tool("cmake", "CMAKE_BIN_DIR")), _find_build_tool("ninja", "BIN_DIR")
    configure = [
        *(cmake, "-S", str(NATIVE_FOLDER), "-B", str(work / "build"), "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={ninja}",
        f"-DCMAKE_CXX_COMPILER={compiler}",
        f"-DCMAKE_PREFIX_PATH={_executorch_folder()}",
        f"-DCMAKE_INSTALL_PREFIX={work / 'bundle'}",
        *target.cmake_arguments,
    ]
    # CMake warns of flags from outside; what is built must depend on nothing but what is hashed.
    environment = {name: value for name, value in os.environ.items() if name not in {"CXXFLAGS", "LDFLAGS", "DESTDIR"}}
    with log.open("wb") as output:
        for command in (configure, [cmake, "--build", str(work / "build")], [cmake, "--install", str(work / "build")]):
            step = subprocess.run(  # noqa: S603 - programs found by ourselves
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False
            )
            if step.returncode != 0:
                raise BuildError("head_runner could not be built", remedy=f"see {log}")
