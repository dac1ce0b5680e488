"""Memory per remembered event while history fills, and memory while customers come and go.

    python benchmarks/memory.py [--only events] [--customers 1000000] [--terminals 1000] [--days 50] [--json]
    python benchmarks/memory.py --only keys [--customers 20000] [--horizons 120] [--json]

events  Simulated payments in the mission's shape, each with its label 7 days later, go through
        `Engine.apply` of the default catalogue, day by day. History is full when its first transactions
        are forgotten: after 45 days. A million customers make 1.6 million payments a day, need 5 GB of
        memory and take some ten minutes.
keys    Every 45 days there are --customers new customers and a tenth as many new terminals; each pays
        twice within 20 days and never again. After --horizons times 45 days that many times more keys
        were seen than are new in one.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.speed.kernel_speed import Events
from benchmarks.speed.ours import LABEL_DELAY_SECONDS

from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.events import Transactions
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.engine import Engine
from zaslon.features.history import merge_by_time
from zaslon.labels.feedback import DelayedLabels
from zaslon.simulate import simulation_profile
from zaslon.simulate.world import SimulatedDay, simulate_days

_KIB = 1024
_FIRST_DAY = 11_000  # of the passing customers, in days since 1970
_VISIT_DAYS = 20
_KEYS_MIN = 100


def memory_by_day(customers: int, terminals: int, days: int) -> Iterator[dict[str, Any]]:
    """After each day: what is remembered, bytes per event, the most so far, CPU of applying it."""
    profile = simulation_profile("mission", customers=customers, terminals=terminals)
    engine, feedback = Engine(load_catalogue(), key=b"benchmark"), DelayedLabels(LABEL_DELAY_SECONDS)
    for number, simulated in enumerate(simulate_days(profile, days, seed=1), start=1):
        transactions = _ordered(simulated)
        feedback.add(transactions)
        labels = feedback.due((simulated.day + 1) * SECONDS_PER_DAY)
        is_label = merge_by_time(transactions.event_time_seconds, labels.arrival_time_seconds)
        begin, most = time.process_time(), 0.0
        for part in Events(transactions, labels, is_label).parts():
            engine.apply(*part)
            most = max(most, engine.history.bytes_used() / len(engine.history))
        yield {
            "day": number,
            "remembered": len(engine.history),
            "bytes_per_event": round(engine.history.bytes_used() / len(engine.history), 1),
            "bytes_per_event_most": round(most, 1),
            "us_per_row": round(1e6 * (time.process_time() - begin) / len(transactions), 2),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _KIB,
        }


def _ordered(day: SimulatedDay) -> Transactions:
    """A day's payments as clean transactions in log order."""
    order = np.lexsort((day.transaction_id, day.event_time_seconds))
    flags, digests = np.zeros(len(day), np.uint32), np.zeros((len(day), 2), np.uint64)
    return Transactions(
        day.transaction_id[order], day.event_time_seconds[order], day.amount_minor[order],
        {"customer": day.customer_id[order], "terminal": day.terminal_id[order]}, {}, flags, digests,
        day.is_fraud[order].astype(np.int8), day.scenario[order],
    )  # fmt: skip


def memory_by_horizon(customers: int, horizons: int) -> Iterator[dict[str, Any]]:
    """After each horizon of the catalogue: keys that were seen, that are alive and that have a slot; bytes."""
    engine, feedback = Engine(load_catalogue(), key=b"benchmark"), DelayedLabels(LABEL_DELAY_SECONDS)
    horizon_days = engine.plan.keep_seconds // SECONDS_PER_DAY
    days = horizons * horizon_days
    passing = _passing(customers // horizon_days, days)
    newest = {name: np.zeros(int(keys.max()) + 1, np.int64) for name, keys in passing.entity_keys.items()}
    ends = np.searchsorted(
        passing.event_time_seconds, np.arange(_FIRST_DAY, _FIRST_DAY + days + 1) * SECONDS_PER_DAY
    )
    seconds = 0.0
    for day in range(days):
        transactions = passing.take(slice(int(ends[day]), int(ends[day + 1])))
        feedback.add(transactions)
        end = (_FIRST_DAY + day + 1) * SECONDS_PER_DAY
        labels = feedback.due(end)
        is_label = merge_by_time(transactions.event_time_seconds, labels.arrival_time_seconds)
        begin = time.process_time()
        engine.apply(transactions, labels, is_label)
        seconds += time.process_time() - begin
        for name, keys in transactions.entity_keys.items():
            newest[name][keys] = end
        if (day + 1) % horizon_days == 0:
            since = end - engine.plan.keep_seconds
            yield {
                "horizons": (day + 1) // horizon_days,
                "seen": {name: int(np.count_nonzero(moments)) for name, moments in newest.items()},
                "alive": {n: int(np.count_nonzero(m > since)) for n, m in newest.items()},
                "slots": {e.plan.entity: len(e.keys) for e in engine.history.entities},
                "mib": round(engine.history.bytes_used() / _KIB**2, 2),
                "cpu_seconds": round(seconds, 2),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _KIB,
            }


def _passing(customers_a_day: int, days: int) -> Transactions:
    """Payments of customers who come and go, in log order, with answers; ten customers share a terminal."""
    random = np.random.default_rng(1)
    customer = np.repeat(np.arange(customers_a_day * days), 2)
    moment = (_FIRST_DAY + customer // customers_a_day) * SECONDS_PER_DAY
    moment += random.integers(0, _VISIT_DAYS * SECONDS_PER_DAY, len(moment))
    order = np.argsort(moment, kind="stable")
    customer, moment, count = customer[order], moment[order], len(order)
    keys = {"customer": customer, "terminal": customer // 10}
    return Transactions(
        np.arange(count), moment, random.integers(1, 20_000, count), keys, {},
        np.zeros(count, np.uint32), np.zeros((count, 2), np.uint64),
        (random.random(count) < 0.06).astype(np.int8), np.zeros(count, np.int8),
    )  # fmt: skip


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=("events", "keys"), default="events")
    parser.add_argument("--customers", type=int, help="1,000,000 for events, 20,000 for keys")
    parser.add_argument("--terminals", type=int, default=1_000, help="for events")
    parser.add_argument("--days", type=int, default=50, help="for events")
    parser.add_argument("--horizons", type=int, default=120, help="for keys")
    parser.add_argument("--json", action="store_true", help="only one JSON object on standard output")
    given = parser.parse_args()
    customers = given.customers or (1_000_000 if given.only == "events" else 20_000)
    if min(customers, given.terminals, given.days, given.horizons) < 1:
        parser.error("--customers, --terminals, --days and --horizons must be at least 1.")
    if given.only == "keys" and customers < _KEYS_MIN:
        parser.error(f"--customers must be at least {_KEYS_MIN} for keys: some have to come every day.")
    rows = (
        memory_by_day(customers, given.terminals, given.days)
        if given.only == "events"
        else memory_by_horizon(customers, given.horizons)
    )
    found = []
    for row in rows:
        found.append(row)
        if not given.json:
            print(row, flush=True)
    if given.json:
        by = "days" if given.only == "events" else "horizons"
        print(json.dumps({"customers": customers, "terminals": given.terminals, by: found}))


if __name__ == "__main__":
    main()
