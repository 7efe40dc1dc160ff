"""bench run [MODEL ...]."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_runner.shown import shown
from harness.cli import options

if TYPE_CHECKING:
    from analysis.campaign.inputs import Inputs
    from analysis.campaign.phases import Phases
    from harness.cli.progress import Display
    from harness.measure.ready import ReadyDevice
    from harness.results.run_log import RunLog
    from harness.results.schema import RunConfig
    from harness.results.store import RunStore


@click.command(epilog="Example: bench run resnet18 mobilenet_v2 --split all --precision fp32,int8")
@click.argument("models", nargs=-1, type=options.Text())
@options.split
@click.option(
    "--device",
    "devices",
    type=options.Text(),
    multiple=True,
    default=("local",),
    metavar="ADDRESS",
    help="Where heads run: local, emulated, ssh://USER@HOST:PORT, adb, adb:SERIAL, adb:IP:PORT; repeatable.",
)
@options.precision
@options.input_size
@click.option("--threads", type=options.Counts(), default="1", help="Of the head: 1 or 1,2,4.")
@click.option(
    "--affinity",
    type=options.Text(),
    default="all",
    help="Cores of the head: all, big, little or a mask: f0.",
)
@click.option(
    "--way-back",
    type=click.Choice(["auto", "direct", "tunnel"]),
    default="auto",
    help="How activations come back: straight to this machine, or through adb or ssh.",
)
@click.option(
    "--link",
    type=options.Text(),
    metavar="[NAME:]RATE/RTT",
    help="Shape a slower link on the device's side: wifi:40mbit/5ms.",
)
@click.option(
    "--cool-down", type=options.Text(), metavar="5s|50C", help="Before each cell: wait so long, or until it is so cool."
)
@click.option(
    "--tail",
    type=options.Text(),
    default="auto",
    metavar="auto|torch|executorch|cuda|mps",
    help="What finishes the network on this machine; auto measures each and takes the fastest.",
)
@click.option(
    "--tail-threads",
    type=click.IntRange(1, 256),
    default=options.cores,
    show_default=False,
    help="Of the tail; all of this machine's cores by default.",
)
@click.option("--warmup", type=click.IntRange(0, 10_000), default=3, help="Warm-ups per round.")
@click.option(
    "--iterations",
    type=options.AutoOrCount(),
    default="auto",
    metavar="auto|N",
    help="Timed runs per round; auto: 10 or more, until the median is known to 2 % or 1 s has passed.",
)
@click.option(
    "--attack",
    "attacks",
    type=options.Text(),
    multiple=True,
    default=("auto",),
    help="NAME or package.module:Class; auto: linear at every split, then a stronger one where it decides.",
)
@click.option(
    "--attack-total",
    "attack_total_s",
    type=options.Duration(),
    metavar="60s|10m",
    help="What auto may spend on the stronger attack in all; 60s by default.",
)
@click.option(
    "--attack-budget",
    "attack_budget_s",
    type=options.Duration(),
    metavar="60s|10m",
    help="About how long each attack may take a split; the attack's own choice by default.",
)
@click.option(
    "--compute",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda[:N]|mps",
    help="Where attacks compute; auto: the first CUDA device, or else the CPU.",
)
@options.pictures
@options.train_pictures
@options.held_out
@options.folds
@options.weights
@options.seed
@click.option("--out", type=options.Text(Path), help="The run's folder; by default a new one in ./runs.")
@click.option(
    "--survey",
    "survey",
    flag_value="only",
    default="first",
    show_default=False,
    help="Stop after the survey: the whole curve at once, most head times estimated from one program's profile.",
)
@click.option("--no-survey", "survey", flag_value="none", help="Measure every chosen head at once, without a survey.")
@click.option("--resume", is_flag=False, flag_value="", metavar="[RUN]", help="Finish RUN, or the newest run.")
@click.option("--dry-run", is_flag=True, help="Show the cells and what they would take; measure nothing.")
def run(models: tuple[str, ...], out: Path | None, resume: str | None, dry_run: bool, **asked: object) -> None:
    """Export, time, ship and attack every chosen split of each MODEL (default: efficientnet_lite0)."""
    if resume is not None:
        _refuse_beside_resume(click.get_current_context())
    from harness.cli.progress import Display
    from harness.results.run_log import run_log

    with Display() as display, run_log() as log:
        from analysis.campaign.inputs import check_config, load_inputs, unmeasured
        from analysis.campaign.phases import Phases

        phases = Phases(display)
        if resume is not None:
            _go_on(resume, log, display, phases)
            return
        config = _config(models or (options.DEFAULT_MODEL,), asked)
        check_config(config)
        inputs = load_inputs(config, options.EXPORTED, phases, config.attacks)
        if dry_run:
            display.close()
            _show_cost(config, inputs)
            if (left_out := unmeasured(config.models, {s.model.name for s in inputs.subjects})) is not None:
                raise left_out
            return
        from analysis.campaign.devices import ready_devices
        from analysis.campaign.plan import lay_run

        with ready_devices(config, config.devices, phases) as devices:
            store = lay_run(out or options.RUNS / _name(models), config, inputs, devices)
            with store.locked():
                log.write_to(store.folder)
                _carry_out(store, inputs, devices, display, phases)


def _go_on(name: str, log: RunLog, display: Display, phases: Phases) -> None:
    """Finish a run."""
    from analysis.campaign.attack import unattacked
    from analysis.campaign.carry_out import unfinished
    from analysis.campaign.devices import ready_devices
    from analysis.campaign.inputs import check_config, load_inputs, resumed_config
    from analysis.campaign.plan import check_unchanged
    from harness.results.store import RunStore, find_run

    store = RunStore(find_run(name or None, options.RUNS))
    config = resumed_config(store.file)
    with store.locked():
        log.write_to(store.folder)
        store.journal.forget_failures()
        check_config(config)
        inputs = load_inputs(config, options.EXPORTED, phases, config.attacks)
        missing = unfinished(store, inputs)
        with ready_devices(config, missing, phases) as devices:
            check_unchanged(store, config, inputs)
            if not missing and not unattacked(store):
                display.note(f"{store.file.run_id} is complete: nothing is left to measure or to attack")
            _carry_out(store, inputs, devices, display, phases)


def _refuse_beside_resume(context: click.Context) -> None:
    """A run goes on as it began: what else was written would be taken by nobody."""
    others: dict[str, str] = {}
    for one in context.command.params:
        name = one.name or ""
        if name != "resume" and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            called = "MODEL" if isinstance(one, click.Argument) else one.opts[0]
            others[name] = f"{others[name]}/{called}" if name in others else called
    if others:
        *most, last = sorted(others.values(), key=lambda called: (called == "MODEL", called))
        named = f"{', '.join(most)} and {last}" if most else last
        raise click.UsageError(f"--resume goes on with the options that the run began with; leave out {named}")


def _carry_out(store: RunStore, inputs: Inputs, devices: list[ReadyDevice], display: Display, phases: Phases) -> None:
    from analysis import Run
    from analysis.campaign.carry_out import Campaign
    from analysis.campaign.inputs import unmeasured
    from analysis.campaign.tails import Tails
    from harness.cli.show import show

    def show_now() -> None:
        display.close()
        store.compact()
        show(Run(store))
        click.echo("  ".join(f"{phase.name.lower()} {seconds:.1f} s" for phase, seconds in phases.seconds.items()))

    def on_survey() -> None:
        if store.file.config.survey == "first":
            show_now()
            display.note("head times marked ≈ are estimates; the heads are measured now, and Ctrl-C leaves a valid run")

    with Tails.of_run(store, inputs.exported, phases) as tails:
        campaign = Campaign(store, inputs, devices, tails, phases)
        campaign.carry_out(on_survey)
    show_now()
    for error in campaign.lost[:1]:  # all were noted when they happened
        raise error
    summary = Run(store).summary()
    measured = set(summary.loc[summary["wire_bytes"].notna(), "model"])
    if (missing := unmeasured(store.file.config.models, measured)) is not None:
        raise missing


def _config(models: tuple[str, ...], asked: dict[str, object]) -> RunConfig:
    from harness.results.schema import RunConfig

    precisions = asked.pop("precision")
    return RunConfig.model_validate({"models": models, "precisions": precisions, **asked, **_attacks(asked)})


def _attacks(asked: dict[str, object]) -> dict[str, object]:
    """What `auto` stands for: an attack that every split has, and a total for a stronger one."""
    from harness.results.schema import AUTO

    attacks, total_s = asked["attacks"], asked["attack_total_s"]
    assert isinstance(attacks, tuple)  # noqa: S101 - click's, of an option that may be repeated
    if AUTO not in attacks:
        if total_s is not None:
            raise click.UsageError("--attack-total is for --attack auto; --attack-budget bounds attacks that are named")
        return {"attacks": attacks}
    if len(attacks) > 1:
        remedy = "name it once" if set(attacks) == {AUTO} else "leave it out, or the others"
        raise click.UsageError(f"--attack auto chooses attacks itself: {remedy}")
    return {"attacks": ("linear",), "attack_total_s": total_s or options.ATTACK_TOTAL_S}


def _name(models: tuple[str, ...]) -> str:
    from device_runner.files import safe_name

    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d-%H%M%S")
    plain = "-".join(models or (options.DEFAULT_MODEL,))[:60]
    return safe_name(f"{now}-{plain}")


def _show_cost(config: RunConfig, inputs: Inputs) -> None:
    from rich.table import Table
    from rich.text import Text

    from analysis.campaign.plan import cost
    from harness.cli.progress import table_console

    console = table_console()
    table = Table(box=None, header_style="bold", title="Cells, and a rough estimate with nothing cached")
    for heading in ("network", "cells", "export s", "measure s", "attack s", "disk MB"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for variant in inputs.variants:
        rough, cells = cost(config, variant), len(variant.subject.points) * len(config.devices)
        row = (rough.export_s, rough.measure_s, rough.attack_s, rough.disk_bytes / 1e6)
        table.add_row(Text(shown(variant.name)), str(cells), *(f"{value:.0f}" for value in row))
    console.print(table)
    for description in dict.fromkeys(subject.pictures.description for subject in inputs.subjects):
        click.echo(shown(description))
    for subject in inputs.subjects:
        names = ", ".join(f"{p.index} {p.name}" for p in subject.points)
        click.echo(shown(f"{subject.model.name}: {names}"))
