"""Features of clean days as Parquet, for notebooks: exactly what training and serving see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from zaslon.domain.events import TransactionId, public_ids
from zaslon.domain.time import day_text
from zaslon.features.plan import FeaturePlan
from zaslon.intake import clean_days
from zaslon.services.context import Context, Stopwatch
from zaslon.services.featurising import Day, FeaturisedPart, Featuriser
from zaslon.system.replacing import replacing

MARK, MADE_BY = "_features.json", "zaslon features"


@dataclass(frozen=True)
class FeaturesReport:
    """What was written.

    `remembered`: transactions that a log of all days still knows at its end; `bytes_per_event`: what each of them
    takes in the memory of one process, None where a cluster did the work.
    """

    rows: int
    days: tuple[str, ...]
    features: tuple[str, ...]
    remembered: int
    bytes_per_event: float | None
    seconds: float
    path: str
    left_out: tuple[TransactionId, ...]

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rows_clean": self.rows, "days": list(self.days), "features": list(self.features),
            "remembered": self.remembered, "bytes_per_event": None if self.bytes_per_event is None else round(self.bytes_per_event, 1),
            "left_out": list(self.left_out), "seconds": {"features": self.seconds}, "paths": {"features": self.path},
        }  # fmt: skip


def write_features(context: Context, out: Path) -> FeaturesReport:
    """Apply the home's clean days and write `out/day=YYYY-MM-DD/part-NNNNN.parquet`.

    `out` appears or is replaced as a whole.

    Args:
        context, out: which home, and where to.

    Raises:
        InputError: there are no clean days, or `out` holds something else.
    """
    days = clean_days(context.home / "clean", context.catalogue)
    delay = context.options.label_delay_seconds
    featuriser = Featuriser(context.catalogue, context.key, delay, context.progress.warn)
    context.progress.start("features", None)
    rows, watch = 0, Stopwatch()
    with replacing(out, MARK, MADE_BY) as building, watch.stage("features"):
        for day in days:
            rows += _write_day(context, featuriser, day, building / day[1].parent.name)
        (building / MARK).write_bytes(orjson.dumps({"catalogue": context.catalogue.label}))
    engine = featuriser.engine
    remembered = max(len(engine.history), 1)
    return FeaturesReport(
        rows, tuple(day_text(day) for day, _ in days), engine.plan.names, len(engine.history),
        engine.history.bytes_used() / remembered, watch.seconds["features"], str(out),
        tuple(featuriser.left_out),
    )  # fmt: skip


def _write_day(context: Context, featuriser: Featuriser, day: Day, directory: Path) -> int:
    """Write the parts of one day; returns its rows."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = 0
    for number, part in enumerate(featuriser.days([day])):
        if len(part.transactions):
            path = directory / f"part-{number:05d}.parquet"
            _frame(part, featuriser.engine.plan).write_parquet(path, compression="zstd")
        rows += len(part.transactions)
        context.progress.advance(len(part.transactions))
    return rows


def _frame(part: FeaturisedPart, plan: FeaturePlan) -> pl.DataFrame:
    return pl.DataFrame(dict(_columns(part, plan)))


def _columns(part: FeaturisedPart, plan: FeaturePlan) -> Iterator[tuple[str, Any]]:
    transactions = part.transactions
    are_texts = transactions.id_text is not None
    yield "transaction_id", public_ids(transactions) if are_texts else transactions.transaction_id
    yield "event_time_seconds", transactions.event_time_seconds
    yield "is_fraud", transactions.is_fraud
    for column, name in enumerate(plan.names):
        yield name, part.matrix[:, column]
