"""Several calls timed in turn, on one core, without the garbage collector."""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from airlam.errors import RecipeError
from airlam.metrics import cpu_threads
from airlam.metrics.latency import BUSY_BELOW

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Latency of one call over several rounds.

    Attributes:
        p50_ms, p99_ms: median and 99th percentile of the timed calls of all rounds [ms].
        ratio: median over rounds of the round's median in units of the reference's in the same round.
        cpu_ms: median over rounds of the thread's mean processor time of a call [ms]. Other programs hardly change it,
            and it does not see what other threads of this process do.
        cpu_ratio: as ``ratio``, of processor times.
        cpu_share: the thread's processor time over wall-clock time of the timed calls.
        calls: timed ones.
    """

    p50_ms: float
    p99_ms: float
    ratio: float
    cpu_ms: float
    cpu_ratio: float
    cpu_share: float
    calls: int

    @property
    def busy(self) -> bool:
        """Whether other programs held the core so long that the figures are too high."""
        return self.cpu_share < BUSY_BELOW


@dataclass
class Turn:
    """Seconds of each timed call of a turn, and the thread's processor seconds in all of them."""

    seconds: list[float]
    processor: float

    @property
    def median(self) -> float:
        """Of one call [s]."""
        return statistics.median(self.seconds)

    @property
    def processor_mean(self) -> float:
        """Processor time of one call [s]."""
        return self.processor / len(self.seconds)


@contextlib.contextmanager
def on_one_core(core: int | None = None) -> Iterator[int | None]:
    """Keep this thread, and threads that it starts, on one core; afterwards on those that it had.

    Args:
        core: None: the last one of those that the thread may use, for the first one serves most interrupts.

    Yields:
        Its number; ``None`` where the system has no such call (macOS).

    Raises:
        RecipeError: a core that this process may not use.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    chosen = max(before) if core is None else core
    if chosen not in before:
        raise RecipeError(f"core is {chosen}, but this process may use {', '.join(map(str, sorted(before)))}")
    os.sched_setaffinity(0, {chosen})
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """No garbage collection in between; as it was afterwards."""
    was_on = gc.isenabled()
    gc.collect()
    gc.freeze()  # what is there stays: collections between turns look at new objects alone
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def time_in_turn(
    calls: Mapping[str, Call],
    reference: str,
    *,
    rounds: int = 20,
    seconds: float = 0.1,
    report: Callable[[str], None] = lambda label: None,
) -> dict[str, Timing]:
    """Latency of each call, without gradients, on one thread of torch.

    They take turns, short ones: a busy moment of the machine meets all of them, and ratios are taken within a round.
    Where another program shares the core all the time, wall-clock ratios are wrong too, for a short call fits between
    two interruptions and a long one does not; ratios of processor times still hold.

    Args:
        calls: what is timed, by label.
        reference: the label of the one whose time is the unit of ratios.
        rounds: turns of each.
        seconds: how long a turn lasts; at least one call. Before it goes a tenth more, for caches, but for calls that
            are longer than a turn.
        report: is told the label of each turn.
    """
    turns: dict[str, list[Turn]] = {label: [] for label in calls}
    with without_collector(), cpu_threads(1), threadpool_limits(1, "blas"), torch.inference_mode():
        once = {}
        for label, call in calls.items():
            report(label)
            call()  # what is set up only once
            once[label] = _turn(call, 0).median
        for _ in range(rounds):
            for label, call in calls.items():
                report(label)
                if once[label] < seconds:
                    _turn(call, seconds / 10)
                turns[label].append(_turn(call, seconds))
                gc.collect()  # what this turn left
    return {label: _timing(of, turns[reference]) for label, of in turns.items()}


def _turn(call: Call, seconds: float) -> Turn:
    """Calls for about ``seconds``."""
    found, processor, clock = [], time.thread_time(), time.perf_counter
    end = clock() + seconds
    while True:
        start = clock()
        call()
        now = clock()
        found.append(now - start)
        if now >= end:
            return Turn(found, time.thread_time() - processor)


def _timing(turns: list[Turn], unit: list[Turn]) -> Timing:
    every = np.concatenate([turn.seconds for turn in turns])
    p50, p99 = (float(x) for x in 1e3 * np.quantile(every, [0.5, 0.99]))
    both = list(zip(turns, unit, strict=True))
    return Timing(
        p50,
        p99,
        ratio=statistics.median(turn.median / of.median for turn, of in both),
        cpu_ms=1e3 * statistics.median(turn.processor_mean for turn in turns),
        cpu_ratio=statistics.median(turn.processor_mean / of.processor_mean for turn, of in both),
        cpu_share=min(1.0, sum(turn.processor for turn in turns) / float(every.sum())),
        calls=len(every),
    )
