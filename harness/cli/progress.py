"""Progress of long work, in the terminal or as plain lines in a log."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from analysis.campaign.phases import Phase
from device_runner.shown import shown


def table_console() -> Console:
    """Where tables are printed: as wide as the terminal; in a pipe or a file so wide that no row is cut or wrapped."""
    console = Console(emoji=False)
    return console if console.is_terminal else Console(width=10_000, emoji=False)


class Display:
    """Shows phases as bars on standard error; without a terminal, a line a phase and one now and then."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, emoji=False)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[last]}", style="dim", markup=False),
            console=self.console,
        )
        self._task: TaskID | None = None
        self._steps = 0

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bars as they are; what follows is printed below them, and so are later phases."""
        self._bars.stop()
        for task in self._bars.task_ids:
            self._bars.remove_task(task)
        self._task = None

    def phase(self, phase: Phase, total: int | None) -> None:
        """A phase begins."""
        title = phase.value
        self._steps = 0
        if self.console.is_terminal:
            self._bars.start()
            if self._task is not None:
                self._bars.stop_task(self._task)
            self._task = self._bars.add_task(title, total=total, last="")
        else:
            self.console.print(f"{title}{f' ({total})' if total else ''} ...", highlight=False)

    def step(self, text: str) -> None:
        """One step is done."""
        self._steps += 1
        if self._task is not None:
            self._bars.update(self._task, advance=1, last=shown(text)[:50])
        elif self._steps % 20 == 0:
            self.console.print(f"  {self._steps}: {shown(text)}", highlight=False, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Something that the user must know."""
        self.console.print(f"! {shown(text)}", style="bold yellow", highlight=False, markup=False, soft_wrap=True)
