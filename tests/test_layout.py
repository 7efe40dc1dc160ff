"""The layout holds: who imports whom, what is packaged, and what is said twice says the same."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGES = ("device_runner", "harness", "analysis")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages' Python files and the contracts, to be broken."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("native", "__pycache__"))
    return folder


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-logo", "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


def test_the_packages_keep_to_who_may_import_whom(copy: Path) -> None:
    checked = lint_imports(copy)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("device_runner", "harness"),
        ("device_runner.devices", "analysis"),
        ("device_runner", "torch"),
        ("harness", "analysis.attacks"),
        ("harness.results", "analysis"),
        ("harness", "harness.cli"),
        ("analysis", "harness.cli"),
        ("analysis.attacks", "pytest"),
        ("harness", "tests"),
        ("harness.results", "harness.networks"),
        ("harness.networks", "harness.export"),
        ("harness.export", "harness.measure"),
        ("analysis.attacks", "analysis.judging"),
        ("analysis.decision", "analysis.run"),
    ],
)
def test_a_new_module_that_imports_to_its_right_is_found(copy: Path, importer: str, imported: str) -> None:
    planted = copy.joinpath(*importer.split("."), "planted.py")
    planted.write_text(f"import {imported}\n")
    try:
        checked = lint_imports(copy)
    finally:
        planted.unlink()
    assert checked.returncode == 1
    assert f"{importer}.planted -> {imported}" in checked.stdout


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("analysis", {"torch", "torchvision", "skimage", "matplotlib"}),
        ("analysis.campaign.carry_out", {"executorch", "torchao"}),
    ],
)
def test_nobody_waits_for_libraries_that_are_not_needed(module: str, heavy: set[str]) -> None:
    """A finished table needs no PyTorch (3 s); wrong requests, resumed runs and exported heads no ExecuTorch (5 s)."""
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, text=True).split()
    assert not heavy & {*loaded}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_python_files_is_a_package(package: str) -> None:
    folders = {source.parent for source in (ROOT / package).rglob("*.py")}
    assert folders
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_the_citation_names_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (PROJECT["project"]["version"], PROJECT["project"]["license"])
    assert citation["references"][0]["doi"] == "10.1145/3325413.3329791"


def test_the_changelog_has_a_section_for_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[:2] == ["Unreleased", PROJECT["project"]["version"]]


def test_the_lock_pins_everything_that_is_asked_for() -> None:
    pinned = re.findall(r"^([\w.-]+)==[\w.]+$", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [*PROJECT["project"]["dependencies"], *(name for extra in extras.values() for name in extra)]
    names = {re.split(r"[<>=\[; ]", requirement)[0] for requirement in asked}
    assert {normal(name) for name in names} - {normal(name) for name in pinned} == set()


def normal(name: str) -> str:
    """Spell a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
