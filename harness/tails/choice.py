"""Which engine finishes a network fastest, on this machine and now."""

from __future__ import annotations

from statistics import median
from time import perf_counter_ns

from harness.errors import TailError
from harness.results.schema import ChosenEngine
from harness.tails import ENGINES
from harness.tails.process import FALLBACK, LoadedTail, TailProcess, TailRequest

AUTO = "auto"
_RUNS = 15
_NS_PER_MS = 1e6


def fastest(process: TailProcess, whole: TailRequest) -> ChosenEngine:
    """Measure each engine once on the whole network.

    Args:
        whole: the tail of split 0.

    Returns:
        PyTorch's where none of them can compute it: its rows then say why.
    """
    times_ms: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for name in ENGINES:
        if reason := ENGINES.load(name).unavailable():
            unavailable[name] = reason
            continue
        try:
            with process.loaded(name, [whole]) as (tail,):
                if tail.reason:
                    unavailable[name] = tail.reason
                else:
                    times_ms[name] = _time_ms(tail)
        except TailError as exc:
            unavailable[name] = exc.message
    engine = min(times_ms, key=times_ms.__getitem__, default=FALLBACK)
    return ChosenEngine(engine=engine, times_ms=times_ms, unavailable=unavailable)


def _time_ms(tail: LoadedTail) -> float:
    """Median time of an answer, as a receiver waits for it."""
    pixels = tail.request.picture.mul(255).round().byte().numpy()
    taken = []
    for _ in range(_RUNS):
        start = perf_counter_ns()
        tail.answer(pixels)
        taken.append(perf_counter_ns() - start)
    return median(taken) / _NS_PER_MS
