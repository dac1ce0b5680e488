"""Metrics of micro-batches, written regularly to a run of the tracker, on a separate thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from zaslon.domain.errors import ZaslonError
from zaslon.services.context import Context


@dataclass(frozen=True)
class BatchMetrics:
    """One micro-batch: what it held and how long its stages took.

    `engine_errors` are those of its rejections that our own code could not process.
    """

    records: int
    decisions: int
    rejections: int
    labels: int
    answers_not_taken: int
    engine_errors: int
    take_seconds: float
    decide_seconds: float
    hand_over_seconds: float
    commit_seconds: float
    lag_records: int
    next_position: int


Observe = Callable[[BatchMetrics], None]


class Totals:
    """Batches added up since they were last read. Any thread may add, one reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: list[BatchMetrics] = []
        self._since = time.monotonic()

    def add(self, metrics: BatchMetrics) -> None:
        """One more micro-batch."""
        with self._lock:
            self._batches.append(metrics)

    def take(self) -> dict[str, float]:
        """Metrics since the last call; empty where nothing has happened."""
        now = time.monotonic()
        with self._lock:
            batches, self._batches = self._batches, []
            seconds, self._since = now - self._since, now
        if not batches:
            return {}
        count = len(batches)
        return {
            "transactions_per_second_scored_from_kafka": sum(b.decisions for b in batches) / seconds,
            "records_per_batch": sum(b.records for b in batches) / count,
            "rejections": float(sum(b.rejections for b in batches)),
            "engine_errors": float(sum(b.engine_errors for b in batches)),
            "decide_ms": 1000 * sum(b.decide_seconds for b in batches) / count,
            "commit_ms": 1000 * sum(b.commit_seconds for b in batches) / count,
            "lag_records": float(batches[-1].lag_records),
        }


@contextmanager
def reported(
    context: Context, name: str, params: Mapping[str, object], look: Callable[[], Mapping[str, float]]
) -> Iterator[None]:
    """While the block runs, write `look()` into a run every `stream_report_seconds`, on a thread.

    A tracker that fails is reported once and not used again: the stream continues.
    """
    every = context.options.stream_report_seconds
    if not every:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_report, args=(context, name, params, look, every, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


def _report(
    context: Context, name: str, params: Mapping[str, object], look: Callable[[], Mapping[str, float]],
    every: float, over: threading.Event,
) -> None:  # fmt: skip
    try:
        tracker = context.run_tracker()
        if tracker is None:
            return
        run = tracker.start_run(name, params)
        step, is_last = 0, False
        while not is_last:
            is_last = over.wait(every)
            metrics = look()
            if metrics:
                run.log(metrics, step)
            step += 1
        run.end()
    except ZaslonError as error:
        context.progress.warn(f"Metrics are no longer written to the tracker: {error}")
