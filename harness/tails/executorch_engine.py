"""ExecuTorch on the CPU: the tail lowered to XNNPACK, as heads are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from torch import Tensor

from harness.tails.base import Engine, Tail

_TASKS = Path("/proc/self/task")


class ExecutorchEngine(Engine):
    """Runs programs one after the other in this process."""

    name: ClassVar[str] = "executorch"
    runs_programs: ClassVar[bool] = True

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        # Not through `portable_lib`, which imports all of executorch.exir, 3 s, for the class of a warning.
        from executorch.extension.pybindings import _C

        self._load_program = _C._load_for_executorch
        others = _tasks()
        _C._unsafe_reset_threadpool(threads)  # before any program is loaded
        _spread([os.getpid(), *sorted(_tasks() - others)])
        self._modules: WeakValueDictionary[Path, Any] = WeakValueDictionary()  # tails share all programs but one

    def load(self, tail: Tail) -> Callable[[Tensor], Tensor]:
        """Load the programs that no other tail has loaded."""
        if tail.failure:
            raise RuntimeError(tail.failure)
        modules = [self._module(path) for path in tail.programs]

        def finish(activation: Tensor) -> Tensor:
            values = [activation]
            for module in modules:
                values = module.forward(values, clone_outputs=False)  # read before the module runs again
            return values[0]

        return finish

    def _module(self, path: Path) -> Any:
        module = self._modules.get(path)
        if module is None:
            module = self._modules[path] = self._load_program(str(path))
        return module


def _tasks() -> set[int]:
    """Threads of this process; none where the system does not tell."""
    return {int(task.name) for task in _TASKS.iterdir()} if _TASKS.is_dir() else set()


def _spread(threads: Sequence[int]) -> None:
    """Give each thread a core of its own, where there are as many.

    Left to the scheduler two of them share a core for rounds on end while another one idles, and take twice as long.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(threads) <= len(cores):
        for thread, core in zip(threads, cores, strict=False):
            os.sched_setaffinity(thread, {core})
