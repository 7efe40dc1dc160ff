"""Builds head_runner and what it needs into one folder, once per content: a bundle.

A bundle is `head_runner` and `lib/*.so`; it finds its libraries beside itself, so that it can be copied anywhere on a
machine of its target. It is built with CMake against the ExecuTorch wheel when first needed, and kept in the cache.
A bundle for devices is sealed (sealed.py): it needs nothing of the system that it runs on but the kernel.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from device_runner import sealed
from device_runner.cache import cache_folder, make_cache_folder
from device_runner.errors import BuildError, UsageError
from device_runner.executorch_sdk import executorch_version, foreign_sdk, installed_sdk
from device_runner.files import digest, locked, remove_left_over, scratch_beside
from device_runner.registry import suggest

NATIVE_FOLDER = Path(__file__).parent / "native"
RUNNER_NAME = "head_runner"
_UNAVAILABLE = "free some space, or set SPLITBENCH_CACHE_DIR to a folder that can be written"
# The wheel of another processor, unpacked too, 32 MB; a sealed bundle and its archive 23 MB; objects and logs 5 MB.
_BUILD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Target:
    """A kind of machine that bundles are built for.

    Attributes:
        compiler: the C++ compiler's command.
        remedy: how a machine without that compiler gets it.
        machine: what `uname -m` prints there, where it is not this machine's; its compiler is a cross compiler then.
        loader: file name of the dynamic loader that a sealed bundle brings along; None: the bundle does not travel.
    """

    compiler: str
    remedy: str
    machine: str | None = None
    loader: str | None = None

    def on_this_machine(self) -> Target:
        """This target as this machine builds it: without a cross compiler, where the processor is the same."""
        if self.machine != platform.machine():
            return self
        return replace(self, compiler=_NATIVE.compiler, remedy=_NATIVE.remedy, machine=None)


_NATIVE = Target(compiler="g++", remedy="apt-get install g++")
TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "host": _NATIVE,
        "arm64": Target(
            compiler="aarch64-linux-gnu-g++",
            remedy="apt-get install g++-aarch64-linux-gnu",
            machine="aarch64",
            loader="ld-linux-aarch64.so.1",
        ),
    }
)


@dataclass(frozen=True)
class Bundle:
    """A folder with the runner and its libraries, ready to be run or copied.

    Attributes:
        folder: all of it; nothing in it is ever changed.
        runner: the program in it.
        sha256: what it was made from: sources, ExecuTorch, compiler, target. Also the folder's name.
        loader: file name of its own dynamic loader, where it is sealed.
    """

    folder: Path
    runner: Path
    sha256: str
    loader: str | None = None

    def command(self, folder: str) -> tuple[str, ...]:
        """How a command line that runs head_runner begins, once the bundle lies in `folder` on its device."""
        runner = f"{folder}/{RUNNER_NAME}"
        if self.loader is None:
            return (runner,)
        return (f"{folder}/lib/{self.loader}", "--library-path", f"{folder}/lib", runner)

    @property
    def archive(self) -> Path:
        """The sealed bundle in one compressed file, beside its folder; a bundle that does not travel has none."""
        return self.folder.with_suffix(".tar.gz")


def build_bundle(target: str = "host", *, cache: Path | None = None) -> Bundle:
    """Return the bundle for a target, building it unless it is there: some 10 s, then milliseconds.

    A cross-compiled one is built against its own ExecuTorch wheel, which is fetched once (18 MB).

    Several processes may ask at once: one builds, the others wait for it.

    Args:
        target: a name in TARGETS.
        cache: where bundles are kept; by default `bundles` in the cache folder.

    Raises:
        UsageError: an unknown target.
        MachineError: the cache cannot be written.
        BuildError: no compiler, CMake, Ninja or ExecuTorch; a wheel that cannot be fetched; no space; a failed build,
            whose log is named.
    """
    if target not in TARGETS:
        raise UsageError(f"unknown target '{target}'", remedy=suggest(target, TARGETS))
    chosen = TARGETS[target].on_this_machine()
    compiler = _find_compiler(chosen)
    sha256 = _content_hash(target, chosen, compiler)
    bundles = cache or cache_folder() / "bundles"
    bundle = Bundle(bundles / sha256, bundles / sha256 / RUNNER_NAME, sha256, chosen.loader)
    if not _is_there(bundle):
        make_cache_folder(bundles)
        try:
            with locked(bundles / f"{sha256}.lock"):
                if not _is_there(bundle):
                    _build(bundle, chosen, compiler)
        except OSError as exc:
            raise BuildError(f"the runner cannot be kept in {bundles}: {exc.strerror}", remedy=_UNAVAILABLE) from exc
    return bundle


def _is_there(bundle: Bundle) -> bool:
    return bundle.runner.is_file() and (bundle.loader is None or bundle.archive.is_file())


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


def _content_hash(target: str, chosen: Target, compiler: Path) -> str:
    """Return the SHA-256 of all that a bundle is made from."""
    parts: list[object] = [target, chosen, executorch_version(), _compiler_version(compiler)]
    if chosen.loader:
        parts.append(Path(sealed.__file__).read_bytes())
    for source in sorted(path for path in NATIVE_FOLDER.rglob("*") if path.is_file()):
        parts += [str(source.relative_to(NATIVE_FOLDER)), source.read_bytes()]
    return digest(*parts)


def _compiler_version(compiler: Path) -> str:
    command = [str(compiler), "--version"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - found by ourselves
    if completed.returncode != 0:
        raise BuildError(f"{compiler} --version exits with {completed.returncode}", remedy="install the compiler again")
    return completed.stdout


def _build(bundle: Bundle, target: Target, compiler: Path) -> None:
    """Build in a folder of its own and move the result into place, so that half a bundle is never seen."""
    bundles = bundle.folder.parent
    log = bundles / f"{bundle.sha256}.log"
    remove_left_over(bundles)
    _require_space(bundles)
    with scratch_beside(bundle.folder) as work:
        _compile(work, log, target, compiler)
        if target.loader:
            sealed.seal(work / "bundle" / "lib", work / "bundle" / RUNNER_NAME, compiler, target.loader)
            sealed.write_sums(work / "bundle")
            sealed.pack(work / "bundle", work / "archive")
            (work / "archive").replace(bundle.archive)
        if bundle.folder.exists():
            shutil.rmtree(bundle.folder)
        (work / "bundle").rename(bundle.folder)
    log.unlink()


def _require_space(bundles: Path) -> None:
    """Compilers report a full disk in many words; this is one line."""
    free = shutil.disk_usage(bundles).free
    if free < _BUILD_BYTES:
        needed = f"{_BUILD_BYTES >> 20} MB to build the runner and {free >> 20} MB are free"
        raise BuildError(f"no space in {bundles}: it takes {needed}", remedy=_UNAVAILABLE)


def _compile(work: Path, log: Path, target: Target, compiler: Path) -> None:
    cmake, ninja = str(_find_build_tool("cmake", "CMAKE_BIN_DIR")), _find_build_tool("ninja", "BIN_DIR")
    configure = [
        *(cmake, "-S", str(NATIVE_FOLDER), "-B", str(work / "build"), "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={ninja}",
        f"-DCMAKE_CXX_COMPILER={compiler}",
        f"-DCMAKE_PREFIX_PATH={foreign_sdk(target.machine) if target.machine else installed_sdk()}",
        f"-DCMAKE_INSTALL_PREFIX={work / 'bundle'}",
    ]
    if target.machine:
        configure += ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={target.machine}"]
    # CMake warns of flags from outside; what is built must depend on nothing but what is hashed.
    environment = {name: value for name, value in os.environ.items() if name not in {"CXXFLAGS", "LDFLAGS", "DESTDIR"}}
    with log.open("wb") as output:
        build, install = ([cmake, step, str(work / "build")] for step in ("--build", "--install"))
        for command in (configure, build, [*install, "--strip"]):
            step = subprocess.run(  # noqa: S603 - programs found by ourselves
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False
            )
            if step.returncode != 0:
                raise BuildError("head_runner could not be built", remedy=f"see {log}")
