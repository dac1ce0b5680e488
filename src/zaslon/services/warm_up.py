"""Warm-up: the whole path once through, beside the real state, so that no first call is slow.

It loads compiled code, the trees and their contributions, the sentences of reasons, and measures
what a group costs on this machine with more and more left out.
"""

from __future__ import annotations

import gc
import statistics

import numpy as np

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import ID_TEXT, Degradation, Kind, RecordBatch, Transactions, terms
from zaslon.engine import Engine
from zaslon.intake.records import json_records
from zaslon.ports import Clock
from zaslon.services.latency_budget import Cost, LatencyBudget

_GROUP = 64
_ROUNDS = 5
_MOMENT = 1_500_000_000
_COST_SECONDS_MIN = 1e-6


def run_once(engine: Engine) -> None:
    """Run every branch on an engine with an empty history; `engine` itself remembers nothing of it."""
    scratch = _scratch(engine)
    _odd_records(scratch)
    records = json_records(_transactions(engine.catalogue, _GROUP), engine.catalogue, engine.key)
    scratch.process(_batch(scratch, records, Kind.TRANSACTION_JSON))
    _explain(engine)


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
    records = iter(json_records(_transactions(engine.catalogue, 10_000), engine.catalogue, engine.key))
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
    kind = terms(Kind.TRANSACTION_JSON, degradation)
    engine.process(_batch(engine, records, kind))
    return clock.monotonic_seconds() - begin


def _batch(engine: Engine, records: list[bytes], kind: int) -> RecordBatch:
    return RecordBatch.of(records, [kind] * len(records), [2 * _MOMENT] * len(records), engine.position)


def _odd_records(engine: Engine) -> None:
    """A repeat, a conflict, labels, nonsense: what goes other ways than an ordinary transaction."""
    (first,) = json_records(_transactions(engine.catalogue, 1), engine.catalogue, engine.key)
    named = b'"1000000"' if engine.catalogue.has_text_ids else b"1000000"
    label = b'{"transaction_id":%s,"is_fraud":true}' % named
    for kind, records in (
        (Kind.TRANSACTION_JSON, [first, first, b"{}", b"nonsense"]),
        (Kind.LABEL_JSON, [label, label, b"{}"]),
        (Kind.CONFLICT_JSON, [first]),
    ):
        engine.process(_batch(engine, records, kind))
    engine.history.remembered.certainly_knows(1_000_000, _MOMENT)


def _explain(engine: Engine) -> None:
    """What only stopped transactions need, on the engine that serves."""
    assert engine.model is not None
    row = np.zeros((1, len(engine.model.names)), np.float32)
    contributions = engine.model.contributions(row)
    engine.reason_writer.explain(row, contributions, np.zeros(1, np.int64))


def _transactions(catalogue: Catalogue, count: int) -> Transactions:
    """Ordinary transactions of a hundred customers, one a second."""
    number = np.arange(count, dtype=np.int64)
    return Transactions(
        number + 1_000_000, number + _MOMENT, number % 97 * 100 + 100,
        dict.fromkeys(catalogue.entities, number % 100 + 1),
        {name: np.full(count, 1.0) for name in catalogue.number_fields},
        np.zeros(count, np.uint32), np.zeros(count, np.uint32),
        np.full(count, -1, np.int8), np.full(count, -1, np.int8),
        (number + 1_000_000).astype(ID_TEXT) if catalogue.has_text_ids else None,
    )  # fmt: skip
