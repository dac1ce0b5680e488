"""What one transaction costs end to end, by stage: CPU microseconds in micro-batches.

Lines of the mission as they come from Kafka or REST go through `admit`, `Engine.process` and
`Outcome.to_json`. A second engine over the same records runs the same public steps one by one
(features, score) under a clock; what is left of the whole is deciding: rules, thresholds,
contributions, reasons and the outcome objects. `log` writes the typed records as the log does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.admission import admit
from zaslon.admission.log_format import encode
from zaslon.bootstrap import build_context
from zaslon.decisions.policy import load_policy
from zaslon.domain.events import Kind, LogBatch, RecordBatch
from zaslon.domain.outcomes import Action, Decision, Outcome
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.engine import Engine
from zaslon.features.plan import plan_features
from zaslon.intake import clean_days, clean_files
from zaslon.labels.feedback import DelayedLabels
from zaslon.models.artefact import save_model
from zaslon.models.model import ModelFacts
from zaslon.models.training import TrainSettings, train
from zaslon.services.context import Context
from zaslon.services.decision_loop import records_of_days
from zaslon.services.home import keep_champion, load_champion
from zaslon.services.samples import Samples, collect_samples
from zaslon.settings import load_settings
from zaslon.simulate import simulation_profile, write_simulation

TREES = 300
STOPPED, BLOCKED = 0.07, 0.035  # of transactions: all frauds of the mission's data and a few others
DAYS, DECIDED_DAYS = 45, 10  # the split of the periods needs 35 days and more
BATCHES = (1, 100, 1_000, 5_000)
_RECORDS_MAX = {1: 1_000, 100: 20_000}


@dataclass(frozen=True)
class Trained:
    """A home with a champion, and the clean days that it was made from."""

    context: Context
    days: list[tuple[int, Path]]

    def engine(self) -> Engine:
        """An engine with the champion and an empty history."""
        plan = plan_features(self.context.catalogue)
        model, policy = load_champion(self.context, plan)
        return Engine(self.context.catalogue, key=self.context.key, model=model, policy=policy, plan=plan)


def train_champion(scratch: Path, rows: int, trees: int = TREES) -> Trained:
    """Simulate 45 days of about `rows` mission rows and train the model that will decide."""
    profile = simulation_profile("mission", customers=max(300, int(rows / DAYS / 1.6)), defects=10)
    raw = scratch / "engine.txt"
    write_simulation(profile, DAYS, 7, raw)
    context = build_context(load_settings(home=scratch / "home", threads=1))
    options = context.options
    clean_files(
        [str(raw)], scratch / "clean", context.catalogue, key=context.key,
        arrival_time_seconds=int(time.time()), chunk_bytes=options.chunk_bytes, repeat_filter_bytes=1 << 20,
    )  # fmt: skip
    days = clean_days(scratch / "clean", context.catalogue)
    samples = collect_samples(context, days, label_delay_seconds=7 * SECONDS_PER_DAY)
    return _kept(context, days, samples, trees)


def _kept(context: Context, days: list[tuple[int, Path]], samples: Samples, trees: int) -> Trained:
    """A model of exactly `trees` trees, and thresholds that stop a given share of the test period."""
    facts = ModelFacts(catalogue_hash=context.catalogue.hash, catalogue_label=context.catalogue.label)
    settings = TrainSettings(rounds=trees, threads=2)
    model = train(samples.train, None, settings, facts=facts).model
    score, weight = model.score(samples.test.x), samples.test.weight
    policy = load_policy(None, [*model.names, "score"])
    policy = policy.with_thresholds(*(_quantile(score, weight, 1 - s) for s in (STOPPED, BLOCKED)))
    save_model(model, context.home / "models" / model.artefact_id)
    keep_champion(context, model, policy)
    return Trained(context, days)


def _quantile(value: NDArray[np.float64], weight: NDArray[np.float32], share: float) -> float:
    order = np.argsort(value)
    cumulated = np.cumsum(weight[order])
    return float(value[order][np.searchsorted(cumulated, share * cumulated[-1])])


def engine_costs(trained: Trained) -> dict[str, Any]:
    """Microseconds of CPU per record by size of batch and by stage."""
    feedback = DelayedLabels(7 * SECONDS_PER_DAY)
    whole, parts = trained.engine(), trained.engine()
    warm = list(records_of_days(trained.context, trained.days[:-DECIDED_DAYS], feedback))
    for batch in warm:
        whole.replay(batch)
        parts.replay(batch)
    last = list(records_of_days(trained.context, trained.days[-DECIDED_DAYS:], feedback))
    rest = _Lines.of(last, trained.context.catalogue.minor_digits)
    model = whole.model
    assert model is not None
    found: dict[str, Any] = {"trees": model.trees.count("Tree="), "remembered": len(whole.history)}
    found["batches"] = [_measure(whole, parts, rest, size) for size in BATCHES]
    return found


class _Lines:
    """Records without labels, taken from the front."""

    def __init__(self, records: list[bytes], arrivals: list[int]) -> None:
        self.records, self.arrivals, self.at = records, arrivals, 0

    @staticmethod
    def of(batches: list[LogBatch], minor_digits: int) -> _Lines:
        """The transactions of some batches as the mission writes them."""
        records: list[bytes] = []
        arrivals: list[int] = []
        for batch in batches:
            rows = batch.transactions
            moments = np.datetime_as_string(rows.event_time_seconds.astype("datetime64[s]")).tolist()
            keys = [column.tolist() for column in rows.entity_keys.values()]
            amounts = (rows.amount_minor / 10**minor_digits).tolist()
            columns = zip(rows.transaction_id.tolist(), moments, *keys, amounts, strict=True)
            records += [
                f"{i},{moment},{customer},{terminal},{amount:.{minor_digits}f},,,,".encode()
                for i, moment, customer, terminal, amount in columns
            ]
            arrivals += rows.event_time_seconds.tolist()
        return _Lines(records, arrivals)

    def __len__(self) -> int:
        return len(self.records) - self.at

    def take(self, size: int, position: int) -> RecordBatch:
        """The next records as a batch at this log position."""
        part = slice(self.at, self.at + size)
        self.at += size
        records = self.records[part]
        kinds = [Kind.TRANSACTION_LINE] * len(records)
        return RecordBatch.of(records, kinds, self.arrivals[part], position)


def _measure(whole: Engine, parts: Engine, lines: _Lines, size: int) -> dict[str, Any]:
    """Continue with batches of one size; an eighth of them warms up."""
    available = len(lines) if size == BATCHES[-1] else len(lines) // 3
    batches = max(3, min(available, _RECORDS_MAX.get(size, 100_000)) // size)
    warm_up = max(1, batches // 8)
    cpu = dict.fromkeys(("clean", "features", "score", "process", "encode", "log"), 0.0)
    records = stopped = 0
    for number in range(batches):
        batch = lines.take(size, whole.position)
        begin = time.process_time()
        admitted = admit(batch, whole.catalogue, whole.key)
        spent = {"clean": time.process_time() - begin} | _stages(parts, admitted)
        outcomes = _whole(whole, admitted, spent)
        if number >= warm_up:
            records += len(batch)
            stopped += _stopped(outcomes)
            for name, seconds in spent.items():
                cpu[name] += seconds
    micro = {name: 1e6 * seconds / records for name, seconds in cpu.items()}
    micro["decide"] = micro["process"] - micro["features"] - micro["score"]
    total = micro["clean"] + micro.pop("process") + micro["encode"]
    names = ("clean", "features", "score", "decide", "encode", "log")
    stages = {name: round(micro[name], 2) for name in names}
    return {
        "batch": size, "records": records, "stopped_share": round(stopped / records, 4),
        "us_per_record": stages | {"total": round(total, 2)},
        "decisions_per_cpu_second": round(1e6 / total),
    }  # fmt: skip


def _stages(engine: Engine, batch: LogBatch) -> dict[str, float]:
    """CPU seconds of the steps of the engine before deciding, and of writing the log's record."""
    assert engine.model is not None
    begin = time.process_time()
    applied = engine.apply(batch.transactions, batch.labels, batch.is_label)
    after_features = time.process_time()
    engine.model.score(engine.for_model(applied.matrix))
    after_score = time.process_time()
    encode(batch, engine.catalogue)
    return {
        "features": after_features - begin, "score": after_score - after_features,
        "log": time.process_time() - after_score,
    }  # fmt: skip


def _whole(engine: Engine, batch: LogBatch, spent: dict[str, float]) -> list[Outcome]:
    """The product's own path, and its answer as bytes."""
    begin = time.process_time()
    outcomes = engine.process(batch).outcomes
    after_process = time.process_time()
    for outcome in outcomes:
        outcome.to_json()
    spent["encode"] = time.process_time() - after_process
    spent["process"] = after_process - begin
    return outcomes


def _stopped(outcomes: list[Outcome]) -> int:
    return sum(isinstance(o, Decision) and o.action != Action.ALLOW for o in outcomes)
