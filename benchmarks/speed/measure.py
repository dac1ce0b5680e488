"""CPU and wall time of a task, in a process of its own, with everything that it starts."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
Task = Callable[[Path, Path], dict[str, Any]]  # (input, output directory) → what came out


@dataclass(frozen=True)
class Measured:
    """The best of some runs after a warm-up, and what the warm-up gave.

    `cpu_seconds` counts this process and its children, a JVM too.
    """

    cpu_seconds: float
    seconds: float
    result: dict[str, Any]


def measure(check: Task, run: Task, source: Path, scratch: Path, runs: int) -> Measured:
    """Run `check` once (warm-up, its output is kept), then `run` some times in the same process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, check, run, source, scratch, runs).result()


def _measure(check: Task, run: Task, source: Path, scratch: Path, runs: int) -> Measured:
    result = check(source, scratch / "checked")
    spent = []
    for number in range(runs):
        cpu, begin = cpu_seconds(), time.perf_counter()
        again = run(source, scratch / f"run-{number}")
        spent.append((cpu_seconds() - cpu, time.perf_counter() - begin))
        if again.items() - result.items():
            raise SystemExit(f"two runs of one task differ: {again} and {result}")
    best = min(spent)
    return Measured(best[0], best[1], result)


def cpu_seconds() -> float:
    """CPU of this process and of all that it started, alive or waited for (Linux)."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + _alive(os.getpid())


def _alive(parent: int) -> float:
    """CPU of the living descendants of a process."""
    ticks = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == parent:
            own = sum(int(f) for f in fields[11:15])  # with the children that it waited for
            ticks += own / _TICKS_PER_SECOND + _alive(int(path.parent.name))
    return ticks
