"""A bundle is built once per content, by one process at a time, and needs nothing outside its folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from device_runner import bundle as module
from device_runner.bundle import TARGETS, Bundle, build_bundle
from device_runner.cache import cache_folder
from device_runner.devices.emulated import CPU
from device_runner.errors import BuildError, RunnerCode, UsageError
from device_runner.executorch_sdk import executorch_version, foreign_sdk, installed_sdk
from device_runner.sealed import pack
from tests.device_runner.conftest import Heads


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
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f".{bundle.sha256}.{ended.pid}-0123abcd.part").mkdir()
    (tmp_path / bundle.sha256 / "lib").mkdir(parents=True)

    def copy_in_place_of_compiling(work: Path, log: Path, *_: object) -> None:
        log.touch()
        shutil.copytree(bundle.folder, work / "bundle")

    monkeypatch.setattr(module, "_compile", copy_in_place_of_compiling)
    rebuilt = build_bundle(cache=tmp_path)
    assert subprocess.run([rebuilt.runner], capture_output=True, check=False).returncode == RunnerCode.USAGE
    assert {entry.name for entry in tmp_path.iterdir()} == {bundle.sha256, f"{bundle.sha256}.lock"}


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


# sealed bundles, for devices

ARM64_CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1
"""


@pytest.fixture(scope="session")
def arm64() -> Bundle:
    return build_bundle("arm64")


@pytest.fixture(scope="session")
def arm64_sdk() -> Path:
    return foreign_sdk("aarch64")


@pytest.fixture
def in_chroot(arm64: Bundle, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run the ARM64 runner where nothing is but its bundle, two files of the kernel's, and a static emulator."""
    if os.geteuid() != 0:
        pytest.skip("only root can change the root folder")
    root = tmp_path / "root"
    cpus = root / "sys" / "devices" / "system" / "cpu"
    cpus.mkdir(parents=True)
    (cpus / "possible").write_text("0\n")
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text(ARM64_CPUINFO)
    emulator = shutil.which("qemu-aarch64-static")
    assert emulator, "apt-get install qemu-user-static"
    shutil.copy(emulator, root / "emulator")
    subprocess.run(["tar", "-xzf", arm64.archive, "--one-top-level=bundle", "-C", root], check=True)

    def run(arguments: Sequence[str], *files: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        for file in files:
            shutil.copy(file, root)
        command = ["chroot", str(root), "/emulator", "-cpu", CPU, *arm64.command("/bundle"), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system can be mounted by root alone")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache, on a machine whose pip reaches no index; returns where wheels are looked for."""
    monkeypatch.setenv("SPLITBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    return tmp_path / "cache" / "executorch"


def libraries_needed(path: Path) -> set[str]:
    listing = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"NEEDED.*\[(.+)\]", listing))


def test_a_sealed_bundle_holds_every_library_that_one_of_its_files_needs(arm64: Bundle) -> None:
    libraries = list((arm64.folder / "lib").iterdir())
    needed = set().union(*(libraries_needed(path) for path in [arm64.runner, *libraries]))
    assert {"libc.so.6", "libstdc++.so.6", "libexecutorch_backend_xnnpack.so"} <= needed
    assert needed | {arm64.loader} == {path.name for path in libraries}
    assert not any(path.is_symlink() for path in libraries)


@pytest.mark.parametrize("name", ["convolution", "eight_bit"])
def test_a_sealed_bundle_runs_heads_where_nothing_else_is(
    in_chroot: Callable[..., subprocess.CompletedProcess[bytes]], heads: Heads, name: str
) -> None:
    options = (
        f"--pte /{name}.pte --reference /{name}.reference --max-abs-err 1e-5 --threads 1 --warmup 0 --iterations 1"
    )
    done = in_chroot(options.split(), heads.pte(name), heads.reference(name))
    assert done.returncode == RunnerCode.OK, done.stderr
    report = json.loads(done.stdout)
    assert report["outputs"][0]["verification"]["passed"]
    assert len(report["run_ns"]) == 1


def test_a_sealed_bundle_reaches_a_receiver_where_nothing_else_is(
    in_chroot: Callable[..., subprocess.CompletedProcess[bytes]],
    heads: Heads,
    receiver: Callable[[Callable[[socket.socket], object]], AbstractContextManager[str]],
) -> None:
    came = []
    with receiver(lambda client: came.append(client.recv(1))) as address:
        options = f"--pictures /pictures --connect {address} --cell c --round 0 --threads 1 --warmup 0 --iterations 0"
        done = in_chroot(options.split(), heads.pictures_file, stdin=b"token\n")
    assert came != [b""], "something was said"
    assert came, done.stderr


def test_an_archive_unpacks_to_its_bundle_and_tells_damage(arm64: Bundle, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xzf", arm64.archive, "-C", tmp_path], check=True)
    assert not subprocess.run(["diff", "-r", arm64.folder, tmp_path], capture_output=True, check=True).stdout
    assert os.access(tmp_path / arm64.runner.name, os.X_OK)
    check = ["sha256sum", "--quiet", "-c", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, check=False).returncode == 0
    with (tmp_path / "lib" / "libm.so.6").open("r+b") as library:
        library.seek(1000)
        library.write(b"damage")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_equal_folders_give_equal_archives(arm64: Bundle, tmp_path: Path) -> None:
    copy = shutil.copytree(arm64.folder, tmp_path / "copy", copy_function=shutil.copyfile)
    for path in copy.rglob("*"):
        path.chmod(0o644 if path.name == "SHA256SUMS" else 0o700)
    pack(copy, tmp_path / "archive")
    assert (tmp_path / "archive").read_bytes() == arm64.archive.read_bytes()


def test_a_sealed_bundle_is_not_built_again(arm64: Bundle, bundle: Bundle) -> None:
    before = arm64.archive.stat()
    again = build_bundle("arm64")
    assert again == arm64 != bundle
    assert again.archive.stat() == before
    assert not bundle.archive.exists(), "what does not travel is not packed"


def test_a_missing_archive_is_made_again(arm64: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(arm64.folder, tmp_path / arm64.sha256)

    def copy_in_place_of_compiling(work: Path, log: Path, *_: object) -> None:
        log.touch()
        shutil.copytree(arm64.folder, work / "bundle")

    monkeypatch.setattr(module, "_compile", copy_in_place_of_compiling)
    assert build_bundle("arm64", cache=tmp_path).archive.read_bytes() == arm64.archive.read_bytes()


def test_a_missing_cross_compiler_is_one_line_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError) as caught:
        build_bundle("arm64", cache=tmp_path / "cache")
    assert str(caught.value) == (
        "no C++ compiler: aarch64-linux-gnu-g++ is not on PATH; apt-get install g++-aarch64-linux-gnu"
    )


def test_an_arm64_workstation_builds_the_arm64_bundle_without_a_cross_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    native = TARGETS["arm64"].on_this_machine()
    assert (native.compiler, native.remedy, native.machine) == ("g++", "apt-get install g++", None)
    assert native.loader == "ld-linux-aarch64.so.1", "it is sealed as well"


def test_a_wheel_that_cannot_be_fetched_is_one_line_with_both_remedies(offline: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build_bundle("arm64")
    assert executorch_version() in caught.value.message
    assert "aarch64" in caught.value.message
    assert "network" in caught.value.remedy
    assert str(offline) in caught.value.remedy
    assert len(str(caught.value).splitlines()) == 1
    assert [path.suffix for path in offline.iterdir()] == [".lock"]


def test_a_wheel_that_lies_in_the_cache_is_used_without_a_network(arm64_sdk: Path, offline: Path) -> None:
    offline.mkdir(parents=True)
    wheel = offline / f"executorch-{executorch_version()}-cp311-cp311-manylinux_2_28_aarch64.whl"
    shutil.make_archive(str(wheel), "zip", arm64_sdk.parent, "executorch")
    Path(f"{wheel}.zip").rename(wheel)
    unpacked = foreign_sdk("aarch64")
    assert unpacked.is_relative_to(offline)
    assert not subprocess.run(["diff", "-r", arm64_sdk, unpacked], capture_output=True, check=True).stdout
    wheel.unlink()
    assert foreign_sdk("aarch64") == unpacked, "it is unpacked once"


@pytest.mark.parametrize("content", [b"no wheel at all", b"PK\x05\x06" + bytes(18)], ids=["damaged", "empty"])
def test_a_wheel_that_is_none_is_one_line_and_leaves_nothing(offline: Path, content: bytes) -> None:
    offline.mkdir(parents=True)
    wheel = offline / f"executorch-{executorch_version()}-cp311-cp311-manylinux_2_28_aarch64.whl"
    wheel.write_bytes(content)
    with pytest.raises(BuildError) as caught:
        build_bundle("arm64")
    assert str(wheel) in caught.value.message
    assert caught.value.remedy == "delete it and run again"
    assert {path.suffix for path in offline.iterdir()} == {".lock", ".whl"}


def test_another_processors_wheel_is_of_the_installed_version(arm64_sdk: Path) -> None:
    config = Path("lib", "cmake", "executorch", "executorch-config.cmake")
    assert (arm64_sdk / config).read_bytes() == (installed_sdk() / config).read_bytes()


@pytest.mark.parametrize("target", TARGETS)
def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk: Path, target: str) -> None:
    with pytest.raises(BuildError, match=r"16 MB|15 MB") as caught:
        build_bundle(target, cache=small_disk)
    assert str(small_disk) in caught.value.message
    assert "free some space" in caught.value.remedy
    assert [path.suffix for path in small_disk.iterdir()] == [".lock"]
