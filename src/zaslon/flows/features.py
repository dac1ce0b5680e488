"""Features of clean days as Parquet, for notebooks: exactly what training and serving see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from zaslon.engine import Engine
from zaslon.features.plan import FeaturePlan
from zaslon.flows.context import Context
from zaslon.flows.featurise import FeaturisedPart, featurise
from zaslon.intake import clean_days
from zaslon.labels.feedback import DelayedLabels


@dataclass(frozen=True)
class FeaturesReport:
    """What was written."""

    rows: int
    days: int
    features: tuple[str, ...]
    remembered: int
    bytes_per_event: float
    path: str

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rows": self.rows, "days": self.days, "features": list(self.features),
            "remembered": self.remembered, "bytes_per_event": round(self.bytes_per_event, 1),
            "paths": {"features": self.path},
        }  # fmt: skip


def write_features(context: Context, out: Path) -> FeaturesReport:
    """Fold the home's clean days and write `out/day=YYYY-MM-DD/part-NNNNN.parquet`."""
    days = clean_days(context.home / "clean", context.catalogue)
    engine = Engine(context.catalogue, key=context.key)
    feedback = DelayedLabels(context.options.label_delay_seconds)
    context.progress.start("features", None)
    rows = 0
    for day in days:
        directory = out / day[1].parent.name
        directory.mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(featurise(engine, [day], context.catalogue, feedback)):
            if not len(part.transactions):
                continue
            path = directory / f"part-{number:05d}.parquet"
            partial = path.with_suffix(".partial")
            _frame(part, engine.plan).write_parquet(partial, compression="zstd")
            partial.replace(path)
            rows += len(part.transactions)
            context.progress.advance(len(part.transactions))
    remembered = max(len(engine.history), 1)
    return FeaturesReport(
        rows, len(days), engine.plan.names, len(engine.history),
        engine.history.bytes_used() / remembered, str(out),
    )  # fmt: skip


def _frame(part: FeaturisedPart, plan: FeaturePlan) -> pl.DataFrame:
    return pl.DataFrame(dict(_columns(part, plan)))


def _columns(part: FeaturisedPart, plan: FeaturePlan) -> Iterator[tuple[str, Any]]:
    yield "transaction_id", part.transactions.transaction_id
    yield "event_time_seconds", part.transactions.event_time_seconds
    yield "is_fraud", part.transactions.is_fraud
    for column, name in enumerate(plan.names):
        yield name, part.matrix[:, column]
