"""A bundle is built once per content, by one process at a time, and needs nothing outside its folder."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from device_runner import bundle as module
from device_runner.bundle import Bundle, build_bundle
from device_runner.cache import cache_folder
from device_runner.errors import BuildError, RunnerCode, UsageError


def build_in_process(cache: Path) -> str:
    return str(build_bundle(cache=cache).runner)


def source_copy(folder: Path) -> Path:
    return shutil.copytree(module.NATIVE_FOLDER, folder)


def fake_compiler(folder: Path) -> Path:
    """Write a program that has a version and can compile nothing."""
    folder.mkdir()
    compiler = folder / "g++"
    compiler.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'g++ of a test' && exit 0\nexit 1\n")
    compiler.chmod(0o755)
    return compiler


def test_two_processes_build_one_bundle_and_leave_nothing_else(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        runners = pool.map(build_in_process, [tmp_path, tmp_path], chunksize=1)
    assert runners[0] == runners[1]
    assert subprocess.run([runners[0]], capture_output=True, check=False).returncode == RunnerCode.USAGE
    sha256 = Path(runners[0]).parent.name
    assert {entry.name for entry in tmp_path.iterdir()} == {sha256, f"{sha256}.lock"}


def test_a_bundle_is_not_built_again(bundle: Bundle) -> None:
    before = bundle.runner.stat()
    again = build_bundle()
    assert again == bundle
    assert again.runner.stat() == before


def test_the_folder_is_named_by_its_hash(bundle: Bundle) -> None:
    assert bundle.folder.name == bundle.sha256
    assert bundle.runner.parent == bundle.folder


def test_a_moved_bundle_takes_its_libraries_from_its_own_folder(bundle: Bundle, tmp_path: Path) -> None:
    moved = shutil.copytree(bundle.folder, tmp_path / "moved")
    listing = subprocess.run(["ldd", moved / bundle.runner.name], capture_output=True, text=True, check=True).stdout
    libraries = [line.split() for line in listing.splitlines() if "executorch" in line]
    assert {Path(path).resolve() for _, _, path, _ in libraries} == {
        path.resolve() for path in (moved / "lib").iterdir()
    }


def test_another_source_is_another_bundle(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native = source_copy(tmp_path / "native")
    (native / "src" / "clock.h").write_text("// changed\n")
    monkeypatch.setattr(module, "NATIVE_FOLDER", native)
    monkeypatch.setenv("PATH", str(fake_compiler(tmp_path / "bin").parent))
    with pytest.raises(BuildError) as caught:
        build_bundle(cache=tmp_path / "cache")
    assert bundle.sha256 not in caught.value.remedy


def test_a_missing_compiler_is_one_line_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError) as caught:
        build_bundle(cache=tmp_path / "cache")
    assert "g++" in caught.value.message
    assert caught.value.remedy == "apt-get install g++"
    assert not (tmp_path / "cache").exists()


def test_a_failed_compilation_names_its_log_and_leaves_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = source_copy(tmp_path / "native")
    (native / "src" / "error.h").write_text("this is no C++\n")
    monkeypatch.setattr(module, "NATIVE_FOLDER", native)
    with pytest.raises(BuildError) as caught:
        build_bundle(cache=tmp_path / "cache")
    log = Path(caught.value.remedy.removeprefix("see "))
    assert "error.h" in log.read_text()
    assert {entry.suffix for entry in (tmp_path / "cache").iterdir()} == {".lock", ".log"}


def test_what_a_killed_build_left_is_cleared_and_half_a_bundle_replaced(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f".{bundle.sha256}-abandoned").mkdir()
    (tmp_path / bundle.sha256 / "lib").mkdir(parents=True)

    def copy_in_place_of_compiling(work: Path, log: Path, *_: object) -> None:
        log.touch()
        shutil.copytree(bundle.folder, work / "bundle")

    monkeypatch.setattr(module, "_compile", copy_in_place_of_compiling)
    rebuilt = build_bundle(cache=tmp_path)
    assert subprocess.run([rebuilt.runner], capture_output=True, check=False).returncode == RunnerCode.USAGE
    assert {entry.name for entry in tmp_path.iterdir()} == {bundle.sha256, f"{bundle.sha256}.lock"}


def test_a_cache_that_cannot_be_written_is_a_build_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match="SPLITBENCH_CACHE_DIR"):
        build_bundle(cache=tmp_path / "file" / "bundles")


def test_an_unknown_target_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="host"):
        build_bundle("hots")


def test_the_cache_folder_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITBENCH_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SPLITBENCH_CACHE_DIR")
    assert cache_folder().name == "splitbench"


def test_bundles_are_built_without_loading_torch() -> None:
    code = "import sys, device_runner.bundle, device_runner.frames; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
