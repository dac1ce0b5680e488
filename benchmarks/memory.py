"""Memory per remembered event in the mission's shape, day by day while it fills and when it is full.

    python benchmarks/memory.py [--customers 1000000] [--terminals 1000] [--days 50] [--json]

Simulated payments, each with its label 7 days later, go through `Engine.apply` of the default
catalogue. History is full when its first transactions are forgotten: after 45 days. A million
customers make 1.6 million payments a day, need 5 GB of memory and take some ten minutes.
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


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--terminals", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="only one JSON object on standard output")
    given = parser.parse_args()
    if min(given.customers, given.terminals, given.days) < 1:
        parser.error("--customers, --terminals and --days must be at least 1.")
    found = []
    for day in memory_by_day(given.customers, given.terminals, given.days):
        found.append(day)
        if not given.json:
            print(day, flush=True)
    if given.json:
        print(json.dumps({"customers": given.customers, "terminals": given.terminals, "days": found}))


if __name__ == "__main__":
    main()
