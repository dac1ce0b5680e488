"""What `Engine.apply` costs on one core: the handbook's 15 features, and the default catalogue by part.

The clean transactions are in memory, ordered, with the labels that arrive among them; a part is
applied at a time, as `Featuriser` does. The first tenth is not measured: it compiles and fills.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.speed.ours import LABEL_DELAY_SECONDS, handbook_catalogue
from benchmarks.speed.rows import DAYS
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue, load_catalogue
from zaslon.domain.events import Labels, Transactions
from zaslon.engine import Engine
from zaslon.features.history import merge_by_time
from zaslon.features.plan import plan_features
from zaslon.intake import clean_days, clean_files, read_clean_day
from zaslon.services.featurising import BATCH_EVENTS
from zaslon.simulate import simulation_profile, write_simulation

_WARM_UP = 0.1
_PARTS_ROWS, _TURNS = 300_000, 4
_KERNEL_TURNS = 5


@dataclass(frozen=True)
class Events:
    """Ordered transactions and labels, and which comes next."""

    transactions: Transactions
    labels: Labels
    is_label: NDArray[np.bool_]

    def parts(self) -> Iterator[tuple[Transactions, Labels, NDArray[np.bool_]]]:
        """In parts of bounded size."""
        label_ends = np.concatenate([[0], np.cumsum(self.is_label)])
        for begin in range(0, len(self.is_label), BATCH_EVENTS):
            end = min(begin + BATCH_EVENTS, len(self.is_label))
            labels = slice(int(label_ends[begin]), int(label_ends[end]))
            rows = slice(begin - labels.start, end - labels.stop)
            yield self.transactions.take(rows), self.labels.take(labels), self.is_label[begin:end]


def simulated_events(profile: str, rows: int, scratch: Path) -> Events:
    """About `rows` clean transactions; the handbook's world is of fixed size, the mission's scales."""
    raw, clean = scratch / f"{profile}.txt", scratch / profile
    customers = 5_000 if profile == "handbook" else max(100, int(rows / DAYS / 1.6))
    days = max(10, rows // 9_500) if profile == "handbook" else DAYS
    write_simulation(simulation_profile(profile, customers=customers, defects=0), days, 3, raw)
    catalogue = load_catalogue()
    clean_files(
        [str(raw)], clean, catalogue, key=b"benchmark", arrival_time_seconds=int(time.time()),
        chunk_bytes=32 << 20, repeat_filter_bytes=32 << 20,
    )  # fmt: skip
    found = Transactions.concatenate([read_clean_day(p, catalogue) for _, p in clean_days(clean, catalogue)])
    arrivals = found.event_time_seconds + LABEL_DELAY_SECONDS
    known = arrivals <= found.event_time_seconds[-1]
    labels = Labels(found.transaction_id[known], found.is_fraud[known] == 1, arrivals[known])
    return Events(found, labels, merge_by_time(found.event_time_seconds, labels.arrival_time_seconds))


def best_cost(catalogue: Catalogue, events: Events, turns: int = 2) -> float:
    """The lowest `apply_cost` of a few: time taken by other work on the machine is not ours."""
    return min(apply_cost(catalogue, events)[0] for _ in range(turns))


def apply_cost(catalogue: Catalogue, events: Events) -> tuple[float, Engine]:
    """CPU seconds per transaction, labels included, and the engine after it."""
    engine = Engine(catalogue, key=b"benchmark")
    seconds, measured, seen = 0.0, 0, 0
    for transactions, labels, is_label in events.parts():
        begin = time.process_time()
        engine.apply(transactions, labels, is_label)
        if seen >= _WARM_UP * len(events.transactions) or len(events.is_label) <= BATCH_EVENTS:
            seconds += time.process_time() - begin
            measured += len(transactions)
        seen += len(transactions)
    return seconds / max(measured, 1), engine


def kernel_costs(rows: int, scratch: Path) -> dict[str, Any]:
    """Rows per second on one core for the handbook's 15 features."""
    found = {}
    for profile in ("handbook", "mission"):
        events = simulated_events(profile, rows, scratch)
        cost = best_cost(handbook_catalogue(), events, _KERNEL_TURNS)
        found[profile] = {
            "rows": len(events.transactions), "labels": len(events.labels),
            "us_per_row": round(1e6 * cost, 3), "rows_per_cpu_second": round(1 / cost),
        }  # fmt: skip
    return found


def catalogue_costs(rows: int, scratch: Path) -> dict[str, Any]:
    """The default catalogue: per row, per feature, by part; bytes per remembered event."""
    events = simulated_events("mission", rows, scratch)
    default = load_catalogue()
    first, engine = apply_cost(default, events)
    cost = min(first, best_cost(default, events, _KERNEL_TURNS - 1))
    features = len(engine.plan.names)
    few = events if rows <= _PARTS_ROWS else simulated_events("mission", _PARTS_ROWS, scratch)
    return {
        "rows": len(events.transactions), "features": features, "us_per_row": round(1e6 * cost, 3),
        "us_per_feature": round(1e6 * cost / features, 4), "parts": _parts(default, few),
        "remembered": len(engine.history),
        "bytes_per_event": round(engine.history.bytes_used() / max(len(engine.history), 1), 1),
    }  # fmt: skip


def _parts(default: Catalogue, events: Events) -> list[dict[str, Any]]:
    """The time with a part minus the time without it; parts share windows, so their sum is not the whole.

    Conditions must not need the aggregates that are left out, so they are simpler here.
    """
    simple = {"derived": {}, "conditions": dict.fromkeys(default.conditions, "amount <= 200")}
    bare = default.model_copy(update=simple)
    empty = bare.model_copy(update={"aggregates": ()})
    own = len(plan_features(empty).names)
    parts = [
        _part("transaction, ids, keys, labels", best_cost(empty, events), own),
        _part("derived and conditions", _difference(default, bare, events), len(default.derived)),
    ]
    for number, block in enumerate(default.aggregates):
        others = default.aggregates[:number] + default.aggregates[number + 1 :]
        cost = _difference(bare, bare.model_copy(update={"aggregates": others}), events)
        where = f" where {block.where}" if block.where else ""
        name = f"{block.entity} {', '.join(block.compute)}{where} over {', '.join(block.windows)}"
        parts.append(_part(name, cost, len(block.compute) * len(block.windows)))
    return parts


def _difference(whole: Catalogue, less: Catalogue, events: Events) -> float:
    """Between the best of some runs each, taken in turns: what else the machine does comes and goes."""
    runs = [(apply_cost(whole, events)[0], apply_cost(less, events)[0]) for _ in range(_TURNS)]
    return min(w for w, _ in runs) - min(n for _, n in runs)


def _part(name: str, seconds: float, features: int) -> dict[str, Any]:
    micro = 1e6 * seconds
    return {
        "part": name, "features": features, "us_per_row": round(micro, 3),
        "us_per_feature": round(micro / features, 4),
    }  # fmt: skip
