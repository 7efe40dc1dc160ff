"""`bench`: one file a command; nothing heavy is imported before it is needed."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from typing import NoReturn

import click

from device_runner.errors import SplitbenchError
from device_runner.shown import shown
from harness.cli.attacks import attacks
from harness.cli.devices import devices
from harness.cli.doctor import doctor
from harness.cli.export import export
from harness.cli.models import models
from harness.cli.report import report
from harness.cli.run import run
from harness.cli.splits import splits
from harness.cli.study import study
from harness.workstation.host import unsupported


@click.group(
    epilog="Start with: bench run --split all",
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(package_name="splitbench", prog_name="bench", message="%(prog)s %(version)s (splitbench)")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-v", "--verbose", is_flag=True, help="Show every call to a device, with its duration and status.")
def bench(**everywhere: bool) -> None:
    """Measure split inference: head time, transfer size and what the receiver can rebuild, for every split point."""
    del everywhere  # read in main, wherever they stand: an error may come before click has parsed anything


_EVERYWHERE = ("--debug", "-v", "--verbose")

for command in (run, models, splits, attacks, export, report, devices, doctor, study):
    bench.add_command(command)


def main() -> None:
    """The command's entry: errors are one line each, with an exit status of 1 (2: wrong usage, 130: interrupted)."""
    arguments = [a for a in sys.argv[1:] if a not in _EVERYWHERE]
    debug = "--debug" in sys.argv[1:]
    if (reason := unsupported()) is not None:
        click.echo(f"bench: {reason}", err=True)
        sys.exit(1)
    _set_up()
    if not {"-v", "--verbose"}.isdisjoint(sys.argv[1:]):
        from device_runner.devices.call_log import CALLS

        CALLS.addHandler(_OnStderr())
    try:
        # Without standalone mode, click returns the status of an Exit.
        status = bench.main(arguments, prog_name="bench", standalone_mode=False)
        if sys.stdout is not None:  # it is closed
            sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("bench: interrupted; finish it with: bench run --resume", err=True)
        sys.exit(130)
    except OSError as exc:
        if debug or exc.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EPIPE):
            raise
        _end_without_output(exc)
    except SplitbenchError as exc:
        if debug:
            raise
        click.echo(f"bench: {shown(str(exc))}", err=True)
        sys.exit(1)


class _OnStderr(logging.Handler):
    """Shows calls between the lines of progress."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def _set_up() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no "≈" shows "?"
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # torchao's import warns of torch's future
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a home that cannot be written makes it slower, no more


def _end_without_output(exc: OSError) -> NoReturn:
    if exc.errno != errno.EPIPE:  # whoever read it has seen enough
        click.echo(f"bench: the output cannot be written: {exc.strerror}; free disk space", err=True)
    os._exit(1)  # what is still buffered would fail once more
