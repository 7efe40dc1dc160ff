"""What people write for an option, and what is made of it."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from harness.cli import bench
from harness.cli.options import AutoOrCount, Duration
from harness.cli.run import run


@pytest.mark.parametrize(
    ("written", "seconds"), [("60s", 60), ("10m", 600), ("0.5s", 0.5), ("1.5m", 90), ("0.001s", 0.001), ("007s", 7)]
)
def test_a_duration_is_read_in_seconds(written: str, seconds: float) -> None:
    read = Duration().convert(written, None, None)
    assert isinstance(read, float)
    assert read == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        "s",
        "60",
        "0s",
        "0.0m",
        "-5s",
        "+5s",
        "5 s",
        "1h",
        "5S",
        ".5s",
        "5.s",
        "nans",
        "infs",
        "1e3s",
        "1m30s",
        "5s\n",
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(click.BadParameter, match="write 60s or 10m") as error:
        Duration().convert(written, None, None)
    assert "\n" not in error.value.message


@pytest.mark.parametrize(("written", "read"), [("auto", "auto"), ("1", 1), ("010", 10), ("100000", 100_000)])
def test_iterations_are_a_number_or_as_many_as_it_takes(written: str, read: int | str) -> None:
    assert AutoOrCount().convert(written, None, None) == read


@pytest.mark.parametrize("written", ["", "0", "-1", "+1", "1.5", "100001", "9999999", "Auto", "auto ", "1\n", "²"])
def test_what_is_no_number_of_iterations_is_refused(written: str) -> None:
    with pytest.raises(click.BadParameter, match="neither auto nor a number from 1 to 100000"):
        AutoOrCount().convert(written, None, None)


def test_an_attacks_budget_is_its_own_choice_unless_it_is_given() -> None:
    def asked(*arguments: str) -> object:
        return run.make_context("run", list(arguments)).params["attack_budget_s"]

    assert asked() is None
    assert asked("--attack-budget", "10m") == 600


@pytest.mark.parametrize("written", ["0s", "60", "soon"])
def test_a_budget_that_is_no_time_is_wrong_usage_that_names_the_option(written: str) -> None:
    done = CliRunner().invoke(bench, ["run", "--attack-budget", written])
    assert done.exit_code == 2
    assert "--attack-budget" in done.output
    assert f"'{written}' is not a valid duration" in done.output
