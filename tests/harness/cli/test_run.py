"""What is asked of bench run beside --resume, twice or as nothing is refused before anything begins."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from analysis.campaign.inputs import check_config
from device_runner.errors import UsageError
from harness.cli import bench
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
        (["--iterations", "10"], "--iterations"),
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
    values = {"input_size": "32", "precision": "int8", "threads": "2", "way_back": "direct", "attack_budget_s": "5s"}
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
