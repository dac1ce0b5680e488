"""What Spark's own log of events says of a run: bytes exchanged and spilled, and how even the tasks were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass
class Stage:
    """One stage of a run.

    Attributes:
        tasks: how many.
        seconds_longest, seconds_median: of its tasks, by the clock.
        read_mib_largest, read_mib_median: what a task got from an exchange.
    """

    tasks: int
    seconds_longest: float
    seconds_median: float
    read_mib_largest: float
    read_mib_median: float


@dataclass
class Exchanged:
    """A whole run.

    Attributes:
        shuffle_mib: written for exchanges.
        spilled_mib: to disk, because memory was short.
        stages: those that read an exchange, in order.
    """

    shuffle_mib: float
    spilled_mib: float
    stages: list[Stage]

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def exchanged(events: Sequence[dict[str, Any]]) -> Exchanged:
    """The figures of the events of one run."""
    tasks: dict[int, list[tuple[float, float]]] = {}
    shuffled = spilled = 0
    for event in events:
        metrics = event.get("Task Metrics") if event["Event"] == "SparkListenerTaskEnd" else None
        if not metrics:
            continue
        shuffled += metrics["Shuffle Write Metrics"]["Shuffle Bytes Written"]
        spilled += metrics["Disk Bytes Spilled"]
        read = metrics["Shuffle Read Metrics"]
        size = _mib(read["Local Bytes Read"] + read["Remote Bytes Read"])
        tasks.setdefault(event["Stage ID"], []).append((metrics["Executor Run Time"] / 1_000, size))
    reading = [of for _, of in sorted(tasks.items()) if any(size for _, size in of)]
    return Exchanged(_mib(shuffled), _mib(spilled), [_stage(of) for of in reading])


def _stage(tasks: Sequence[tuple[float, float]]) -> Stage:
    seconds, sizes = zip(*tasks, strict=True)
    return Stage(len(tasks), max(seconds), round(median(seconds), 3), max(sizes), round(median(sizes), 2))


def _mib(count: int) -> float:
    return round(count / (1 << 20), 2)
