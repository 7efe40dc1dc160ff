"""What is asked of bench run beside --resume, twice or as nothing is refused before anything begins."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from analysis.campaign.inputs import check_config
from device_runner.errors import UsageError
from harness.cli import bench
from harness.cli.run import _config
from harness.results.schema import RunConfig

CONFIG = RunConfig(
    models=("resnet18",),
    split="all",
    devices=("local",),
    precisions=("fp32",),
    input_size=None,
    attacks=("linear",),
    pictures="builtin",
    weights="auto",
    seed=0,
)


@pytest.mark.parametrize("name", ["train_pictures", "held_out"])
def test_runs_that_were_asked_before_there_was_an_option_had_its_default(name: str) -> None:
    (option,) = [one for one in bench.commands["run"].params if one.name == name]
    assert option.default == RunConfig.model_fields[name].default


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        (["--iterations", "50"], "--iterations"),
        (["--iterations", "auto"], "--iterations"),
        (["--out", "x", "--iterations", "50", "resnet18"], "--iterations, --out and MODEL"),
        (["--device", "emulated", "--split", "3"], "--device and --split"),
        (["--attack", "spectral"], "--attack"),
        (["--survey"], "--survey/--no-survey"),
        (["--no-survey"], "--survey/--no-survey"),
        (["--dry-run"], "--dry-run"),
        (["--seed", "0", "--link", "1mbit/5ms"], "--link and --seed"),
    ],
)
@pytest.mark.parametrize("where", [[], ["some-run"]])
def test_what_stands_beside_resume_is_refused_all_of_it_by_name(
    beside: list[str], named: str, where: list[str]
) -> None:
    done = CliRunner().invoke(bench, ["run", *beside, "--resume", *where])
    assert done.exit_code == 2
    last = done.output.splitlines()[-1]
    assert last == f"Error: --resume goes on with the options that the run began with; leave out {named}"


def test_every_option_of_run_is_refused_beside_resume() -> None:
    command = bench.commands["run"]
    values = {"input_size": "32", "precision": "int8", "threads": "2", "way_back": "direct"}
    values |= {"attack_budget_s": "5s", "attack_total_s": "5s"}
    options = [one for one in command.params if one.name not in {"models", "resume"}]
    arguments = [
        part
        for one in options
        for part in (
            [one.opts[0]] if one.name in {"survey", "dry_run"} else [one.opts[0], values.get(one.name or "", "1")]
        )
    ]
    done = CliRunner().invoke(bench, ["run", *arguments, "--resume"])
    assert done.exit_code == 2
    assert all(one.opts[0] in done.output.splitlines()[-1] for one in options)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"models": ("resnet18", "vgg11", "resnet18")}, "a network is named twice"),
        ({"devices": ("local", "local")}, "a device is named twice"),
        ({"devices": ("",)}, "unknown device ''"),
        ({"link": ""}, "'' is not a valid link"),
        ({"link": "abc"}, "'abc' is not a valid link"),
        ({"cool_down": ""}, "'' is no cool-down"),
        ({"cool_down": "abc"}, "'abc' is no cool-down"),
        ({"affinity": ""}, "'' is not a valid affinity"),
    ],
)
def test_what_is_twice_or_nothing_is_one_line(changed: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as told:
        check_config(CONFIG.model_copy(update=changed))
    assert "\n" not in str(told.value)


def asked(*arguments: str) -> RunConfig:
    values = bench.commands["run"].make_context("run", list(arguments)).params
    return _config(("resnet18",), {key: values[key] for key in values if key in {"precision", *RunConfig.model_fields}})


@pytest.mark.parametrize(
    ("arguments", "attacks", "total_s"),
    [
        ([], ("linear",), 60.0),
        (["--attack", "auto"], ("linear",), 60.0),
        (["--attack-total", "10m"], ("linear",), 600.0),
        (["--attack", "linear"], ("linear",), None),
        (["--attack", "linear", "--attack", "best"], ("linear", "best"), None),
    ],
)
def test_auto_is_linear_at_every_split_and_a_total_for_a_stronger_attack(
    arguments: list[str], attacks: tuple[str, ...], total_s: float | None
) -> None:
    config = asked(*arguments)
    assert (config.attacks, config.attack_total_s) == (attacks, total_s)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--attack", "auto", "--attack", "linear"], "chooses attacks itself: leave it out, or the others"),
        (["--attack", "auto", "--attack", "auto"], "name it once"),
        (["--attack", "linear", "--attack-total", "10m"], "--attack-total is for --attack auto"),
        (["--attack-total", "0s"], "'0s' is not a valid duration"),
    ],
)
def test_auto_stands_alone_and_the_total_is_its_own(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(bench, ["run", *arguments])
    assert done.exit_code == 2
    assert words in done.output.splitlines()[-1]
