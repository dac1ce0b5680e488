"""Warm-up: the whole path once through, beside the real state, so that no first call is slow.

It loads compiled code, the trees and their contributions, the sentences of reasons, and measures
what a group costs on this machine with more and more left out.
"""

from __future__ import annotations

import gc
import statistics
from itertools import count

import numpy as np

from zaslon.admission import admit
from zaslon.admission.log_format import encode
from zaslon.domain.events import Degradation, Kind, LogBatch, RecordBatch, terms
from zaslon.engine import Engine
from zaslon.intake.examples import EXAMPLE_SECONDS, example_label, example_record
from zaslon.ports import Clock
from zaslon.services.latency_budget import Cost, LatencyBudget

_GROUP = 64
_ROUNDS = 5
_COST_SECONDS_MIN = 1e-6


def run_once(engine: Engine) -> None:
    """Run every branch on an engine with an empty history; `engine` itself remembers nothing of it."""
    scratch = _scratch(engine)
    _odd_records(scratch)
    records = [example_record(engine.catalogue, number) for number in range(_GROUP)]
    for outcome in scratch.process(_admitted(scratch, records, Kind.TRANSACTION_JSON)).outcomes:
        outcome.to_json()
    _explain(engine)


def apply_once(engine: Engine) -> None:
    """Apply ordinary records to an engine with an empty history; `engine` itself remembers nothing of it."""
    scratch = _scratch(engine)
    records = [example_record(engine.catalogue, number) for number in range(_GROUP)]
    for kind, given in (
        (Kind.TRANSACTION_JSON, records),
        (Kind.LABEL_JSON, [example_label(engine.catalogue)]),
    ):
        batch = _admitted(scratch, given, kind)
        scratch.apply(batch.transactions, batch.labels, batch.is_label)


def freeze_garbage_collector() -> None:
    """Take all objects that live now out of the sight of Python's collector.

    Looking through them would stop decisions for 100 ms and more. What was taken out at an earlier call
    and is no longer used is given back first.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def warm_up(engine: Engine, clock: Clock) -> LatencyBudget:
    """`run_once`, and what groups cost by what is left out."""
    run_once(engine)
    scratch = _scratch(engine)
    records = (example_record(engine.catalogue, number) for number in count())
    costs = {}
    for degradation in Degradation:
        small, large = (
            statistics.median(_seconds(scratch, clock, [next(records) for _ in range(size)], degradation)
                              for _ in range(_ROUNDS))
            for size in (1, _GROUP)
        )  # fmt: skip
        record = max((large - small) / (_GROUP - 1), _COST_SECONDS_MIN)
        costs[degradation] = Cost(max(small - record, _COST_SECONDS_MIN), record)
    return LatencyBudget(costs)


def _scratch(engine: Engine) -> Engine:
    return Engine(
        engine.catalogue, key=engine.key, model=engine.model, policy=engine.policy, plan=engine.plan
    )


def _seconds(engine: Engine, clock: Clock, records: list[bytes], degradation: Degradation) -> float:
    begin = clock.monotonic_seconds()
    engine.process(_admitted(engine, records, terms(Kind.TRANSACTION_JSON, degradation)))
    return clock.monotonic_seconds() - begin


def _admitted(engine: Engine, records: list[bytes], kind: int) -> LogBatch:
    arrivals = [2 * EXAMPLE_SECONDS] * len(records)
    batch = RecordBatch.of(records, [kind] * len(records), arrivals, engine.position)
    return admit(batch, engine.catalogue, engine.key)


def _odd_records(engine: Engine) -> None:
    """A repeat, labels, nonsense: what goes other ways than an ordinary transaction."""
    first, label = example_record(engine.catalogue), example_label(engine.catalogue)
    for kind, records in (
        (Kind.TRANSACTION_JSON, [first, first, b"{}", b"nonsense"]),
        (Kind.LABEL_JSON, [label, label, b"{}"]),
    ):
        batch = _admitted(engine, records, kind)
        for outcome in engine.process(batch).outcomes:
            outcome.to_json()
        encode(batch, engine.catalogue)


def _explain(engine: Engine) -> None:
    """What only stopped transactions need, on the engine that serves."""
    assert engine.model is not None
    row = np.zeros((1, len(engine.model.names)), np.float32)
    contributions = engine.model.contributions(row)
    engine.reason_writer.explain(row, contributions, np.zeros(1, np.int64))
