"""What is not documented does not pass."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from analysis.attacks import ATTACKS
from device_runner.devices import DEVICES
from harness.cli import bench
from harness.results.schema import as_markdown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


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
