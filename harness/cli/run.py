"""bench run [MODEL ...]."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_runner.shown import shown
from harness.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.benchmark import Benchmark
    from harness.cli.progress import Display
    from harness.prepare import ReadyDevice
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
    show_default=True,
    metavar="ADDRESS",
    help="Where heads run: local, emulated, ssh://USER@HOST:PORT, adb, adb:SERIAL, adb:IP:PORT; repeatable.",
)
@options.precision
@options.input_size
@click.option("--threads", type=options.Counts(), default="1", show_default=True, help="Of the head: 1 or 1,2,4.")
@click.option(
    "--affinity",
    type=options.Text(),
    default="all",
    show_default=True,
    help="Cores of the head: all, big, little or a mask: f0.",
)
@click.option(
    "--way-back",
    type=click.Choice(["auto", "direct", "tunnel"]),
    default="auto",
    show_default=True,
    help="How activations come back: straight to this machine, or through adb or ssh.",
)
@click.option(
    "--link",
    type=options.Text(),
    metavar="[NAME:]RATE/RTT",
    help="Emulate a link on the device's side: wifi:40mbit/5ms.",
)
@click.option(
    "--cool-down", type=options.Text(), metavar="5s|50C", help="Before each cell: wait so long, or until it is so cool."
)
@click.option("--warmup", type=click.IntRange(0, 10_000), default=3, show_default=True, help="Warm-ups per round.")
@click.option(
    "--iterations", type=click.IntRange(1, 100_000), default=10, show_default=True, help="Timed runs per round."
)
@click.option(
    "--attack",
    "attacks",
    type=options.Text(),
    multiple=True,
    default=("linear",),
    show_default=True,
    help="NAME or package.module:Class.",
)
@click.option(
    "--attack-budget",
    "attack_budget_s",
    type=options.Duration(),
    metavar="60s|10m",
    help="About how long each attack may take a split; the attack's own choice by default.",
)
@options.pictures
@options.weights
@options.seed
@click.option("--out", type=options.Text(Path), help="The run's folder; by default a new one in ./runs.")
@click.option(
    "--survey",
    "survey",
    flag_value="only",
    default="first",
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
        from analysis.benchmark import Benchmark, unmeasured
        from analysis.campaign import unfinished
        from harness.results.store import RunStore, find_run

        if resume is not None:
            store = RunStore(find_run(resume or None, options.RUNS))
            job = Benchmark.resumed(store, options.EXPORTED, display)
            with store.locked():
                log.write_to(store.folder)
                store.forget_failures()
                missing = unfinished(job, store)
                with job.ready(missing) as devices:
                    job.check_unchanged(store)
                    if not missing and not job.unattacked(store):
                        display.note(f"{store.file.run_id} is complete: nothing is left to measure or to attack")
                    _carry_out(job, store, devices, display)
            return
        job = Benchmark(_config(models or (options.DEFAULT_MODEL,), asked), options.EXPORTED, display)
        if dry_run:
            display.close()
            _show_estimate(job)
            if (left_out := unmeasured(job.config.models, {s.model.name for s in job.subjects})) is not None:
                raise left_out
            return
        with job.ready() as devices:
            store = job.create(out or options.RUNS / _name(models), devices)
            with store.locked():
                log.write_to(store.folder)
                _carry_out(job, store, devices, display)


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


def _carry_out(job: Benchmark, store: RunStore, devices: Sequence[ReadyDevice], display: Display) -> None:
    from analysis import Run
    from analysis.benchmark import unmeasured
    from analysis.campaign import carry_out
    from harness.cli.show import show

    def show_now() -> None:
        display.close()
        show(Run(store))
        click.echo("  ".join(f"{name} {seconds:.1f} s" for name, seconds in job.phase_seconds.items()))

    def surveyed() -> None:
        if job.config.survey == "first":
            show_now()
            display.note("head times marked ≈ are estimates; the heads are measured now, and Ctrl-C leaves a valid run")

    lost = carry_out(job, store, devices, surveyed)
    show_now()
    for error in lost[:1]:  # all were noted when they happened
        raise error
    if (missing := unmeasured(store.file.config.models, {cell.model for cell in store.file.cells})) is not None:
        raise missing


def _config(models: tuple[str, ...], asked: dict[str, object]) -> RunConfig:
    from harness.results.schema import RunConfig

    precisions = asked.pop("precision")
    return RunConfig.model_validate({"models": models, "precisions": precisions, **asked})


def _name(models: tuple[str, ...]) -> str:
    from device_runner.files import safe_name

    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d-%H%M%S")
    plain = "-".join(models or (options.DEFAULT_MODEL,))[:60]
    return safe_name(f"{now}-{plain}")


def _show_estimate(job: Benchmark) -> None:
    from rich.table import Table
    from rich.text import Text

    from harness.cli.progress import table_console

    console = table_console()
    table = Table(box=None, header_style="bold", title="Cells, and a rough estimate with nothing cached")
    for heading in ("network", "cells", "export s", "measure s", "attack s", "disk MB"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    cells = {s.model.name: len(s.points) * len(job.config.devices) for s in job.subjects}
    for name, found in job.estimates().items():
        row = (found.export_s, found.measure_s, found.attack_s, found.disk_bytes / 1e6)
        table.add_row(Text(shown(name)), str(cells[name.rsplit(" ", 1)[0]]), *(f"{value:.0f}" for value in row))
    console.print(table)
    for subject in job.subjects:
        names = ", ".join(f"{p.index} {p.name}" for p in subject.points)
        click.echo(shown(f"{subject.model.name}: {names}"))
