"""What reaches a terminal, a pipe or a file: whole rows, names as they are, and nothing that steers a terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from analysis.campaign.phases import Phase
from harness.cli import bench
from harness.cli.progress import Display, table_console
from tests.parts.named import LONG, NAMES

# A command of one line, so that the whole of `bench` is not loaded to see what its `main` does.
COMMAND = """
import sys, click, harness.cli
from device_runner.errors import UsageError
def say(): {body}
harness.cli.bench.add_command(click.Command("say", callback=say))
sys.argv = ["bench", "say"]
harness.cli.main()
"""


def said(body: str, shell: str = "{}", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """What `main` does with a command of this body, run within this line of the shell."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell.format('"$0" -c "$1"'), sys.executable, COMMAND.format(body=body)],
        capture_output=True,
        env=os.environ | environment,
        check=False,
    )


def test_splits_in_a_pipe_cut_no_names_and_read_none_as_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    done = CliRunner().invoke(bench, ["splits", "tests.parts.named:named", "--input-size", "16"])
    assert done.exit_code == 0, done.output
    rows = {words[1]: words for line in done.output.splitlines() if (words := line.split()) and words[0].isdigit()}
    for name in NAMES:
        assert len(rows[name]) == 9
    assert done.output.splitlines()[-1].strip().endswith("split points of tests.parts.named:named")


@pytest.mark.parametrize("command", ["attacks", "models"])
def test_lists_in_a_pipe_have_one_line_an_entry(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def listed() -> list[str]:
        return CliRunner().invoke(bench, [command]).output.splitlines()

    wide = listed()
    monkeypatch.setenv("COLUMNS", "40")
    assert listed() == wide
    assert all(line.split() for line in wide)


def test_a_terminal_keeps_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert table_console().width == 10_000
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert table_console().width == 40


@pytest.mark.parametrize("name", ["[/]", "[red]x", "a\x1b[31mb\nc", "\udcff\u202e"])
@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_names_as_they_are_and_steers_nothing(name: str, terminal: bool) -> None:
    display, written = Display(), io.StringIO()
    display.console = Console(file=written, force_terminal=terminal, color_system=None, width=200)
    display._bars.live.console = display.console
    with display:
        display.phase(Phase.SPLIT, 20)
        display.note(name)
        for _ in range(20):
            display.step(name)
    escaped = name.encode("ascii", "backslashreplace").decode().replace("\x1b", "\\x1b").replace("\n", "\\n")
    assert f"! {escaped.replace('udcff', 'xff')}" in written.getvalue()
    assert "\x1b[31m" not in written.getvalue()


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C"}]
)
def test_a_terminal_without_the_letter_shows_another(environment: dict[str, str]) -> None:
    done = said('click.echo("3 \\u2248 ms 4 \\u00b0C \\udcff")', **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"3 ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["{} | head -1", "{} | true"])
def test_a_reader_that_leaves_is_no_error_to_speak_of(shell: str) -> None:
    done = said('[click.echo("line " * 20) for _ in range(5000)]', shell)
    assert done.returncode == 1
    assert done.stderr == b""


def test_an_output_that_is_full_is_one_line() -> None:
    done = said("click.echo('one line')", "{} >/dev/full")
    assert done.returncode == 1
    assert done.stderr.decode() == "bench: the output cannot be written: No space left on device; free disk space\n"


def test_an_error_is_one_line_whatever_its_names_hold() -> None:
    done = said('raise UsageError("no [red] \\x1b[31m\\n \\udcff", remedy="none")')
    assert done.returncode == 1
    assert done.stderr == b"bench: no [red] \\x1b[31m\\n \\xff; none\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", ""], "it is empty"),
        (["run", "resnet18", "--split", ""], "'--split': it is empty; give it a value or leave it out"),
        (["run", "--attack", " "], "'--attack': it is empty"),
        (["run", "--device", ""], "'--device': it is empty"),
        (["run", "--link", ""], "'--link': it is empty"),
        (["run", "--cool-down", ""], "'--cool-down': it is empty"),
        (["run", "--affinity", ""], "'--affinity': it is empty"),
        (["run", "--pictures", ""], "'--pictures': it is empty"),
        (["run", "--weights", ""], "'--weights': it is empty"),
        (["run", "--out", ""], "'--out': it is empty"),
        (["splits", ""], "it is empty"),
        (["export", "--out", ""], "'--out': it is empty"),
        (["study", "--out", ""], "'--out': it is empty"),
        (["devices", ""], "it is empty"),
        (["run", "--seed", "99999999999999999999"], "'--seed': 99999999999999999999 is not in the range"),
        (["run", "--iterations", "-1"], "'--iterations': '-1' is neither auto nor a number from 1 to 100000"),
        (["run", "--input-size", "0"], "'0' is not a valid size"),
        (["run", "--threads", "999"], "'999' is no list of counts"),
        (["run", "--threads", "1,,2"], "'1,,2' is no list of counts"),
        (["run", "--threads", "\u00b2"], "is no list of counts"),
    ],
)
def test_what_is_no_value_is_wrong_usage_that_names_the_option(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(bench, arguments)
    assert done.exit_code == 2
    assert words in done.output.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_long_name_is_long_enough_for_the_tests_above() -> None:
    assert len(LONG) > 100


@pytest.mark.parametrize("arguments", [[], ["run"]], ids=["bench", "bench run"])
def test_help_has_a_short_name(arguments: list[str]) -> None:
    program = Path(sys.executable).with_name("bench")
    short, long = (subprocess.check_output([program, *arguments, name], text=True) for name in ("-h", "--help"))
    assert short == long
    assert "-h, --help" in short
