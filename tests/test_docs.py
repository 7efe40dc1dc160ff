"""What is not documented does not pass."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from analysis.attacks import ATTACKS
from device_runner.devices import DEVICES, adb_errors, ssh_errors
from harness.cli import bench
from harness.results.columns import as_markdown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

MEANINGS: dict[str, list[adb_errors.AdbMeaning | ssh_errors.SshMeaning]] = {
    "android.md": [
        *(value for value in vars(adb_errors).values() if isinstance(value, adb_errors.AdbMeaning)),
        *adb_errors.WORDS.values(),
        *adb_errors.CLASSES.values(),
    ],
    "raspberry-pi.md": [*ssh_errors.MEANINGS, *ssh_errors.OF_ITS_SHELL],
}


def test_the_tables_page_is_made_from_the_schema() -> None:
    assert (ROOT / "docs" / "table.md").read_text() == as_markdown(), "run: make docs"


@pytest.mark.parametrize("name", sorted(bench.commands))
def test_every_command_has_help_an_example_and_stands_in_the_readme(name: str) -> None:
    command = bench.commands[name]
    assert command.help
    assert command.epilog
    assert f"bench {name}" in README


@pytest.mark.parametrize("name", sorted(bench.commands))
def test_every_option_has_help(name: str) -> None:
    options = [p for p in bench.commands[name].params if isinstance(p, click.Option)]
    assert all(option.help for option in options)


@pytest.mark.parametrize("option", [o for p in bench.commands["run"].params for o in p.opts if o.startswith("--")])
def test_every_option_of_run_stands_in_the_readme(option: str) -> None:
    assert option in README


@pytest.mark.parametrize("name", [*ATTACKS, *DEVICES])
def test_every_plug_in_stands_in_the_readme_and_says_what_it_is(name: str) -> None:
    plug_in = ATTACKS.load(name) if name in ATTACKS else DEVICES.load(name)
    assert f"`{name}`" in README
    assert plug_in.__doc__


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")], ids=lambda page: page.name)
def test_what_a_page_points_to_is_there(page: Path) -> None:
    text = page.read_text()
    ours = re.findall(r"`((?:device_runner|harness|analysis|exported_models|tests|docs)/[^`\s*]*)`", text)
    linked = [page.parent / target for target in re.findall(r"\]\((?!http)([^)#]+)", text)]
    paths = {*linked, *(ROOT / path for path in ours if "NAME" not in path)}
    assert sorted(str(path) for path in paths if not path.exists()) == []


@pytest.mark.parametrize("page", MEANINGS)
def test_a_page_s_troubles_say_what_the_code_says(page: str) -> None:
    told = re.findall(r"^\| `([^`]*)` \|", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    errors = [trouble for trouble in told if re.match("it |its (host|name)|adb (is|cannot)|.* was lost", trouble)]
    texts = [re.escape(f"{meaning.what}; {meaning.remedy}") for meaning in MEANINGS[page]]
    known = "|".join(re.sub(r"\\{\w+\\}", ".+", text) for text in texts)
    assert len(errors) > 5
    assert [e for e in errors if not re.fullmatch(f"(.* was lost: …: )?({known})(, then --resume)?", e)] == []
