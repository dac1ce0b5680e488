"""The public benchmark: the Fraud Detection Handbook's protocol through Zaslon's own engine.

    python benchmarks/handbook.py DATA [--train-start YYYY-MM-DD]… [--history week|all]
        [--label-delay-days N] --scores OUT.parquet

DATA is the handbook's transactions as one Parquet file. It is cleaned, applied by the engine with
the default catalogue in order of time, labels arriving after the delay, and a model is trained
for every train start: on that week, or on all history up to its end. The test week begins a week
after the train week. Parameters are fixed (chosen on the train starts 2018-06-20 … 07-11, never
on the test weeks) and the same for all. One JSON object on standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from zaslon.domain.catalogue import Catalogue, load_catalogue
from zaslon.domain.errors import DataError, ZaslonError
from zaslon.domain.time import SECONDS_PER_DAY, day_text, parse_day
from zaslon.intake import clean_days, clean_files
from zaslon.models.card_precision import card_precision_by_day
from zaslon.models.dataset import Sample
from zaslon.models.training import TrainSettings, train
from zaslon.services.featurising import Featuriser

BOOK_STARTS = ("2018-07-25", "2018-08-01", "2018-08-08", "2018-08-15")
WEEK_DAYS = 7
# History from here on can be trained on: the first three weeks only fill the windows.
FIRST_TRAINED_DAY = parse_day("2018-04-22")
# Chosen on the earlier folds: more trees where there is more to learn from.
SETTINGS_BY_HISTORY: dict[str, dict[str, Any]] = {
    "all": {"rounds": 300, "leaves": 15, "leaf_rows_min": 50, "learning_rate": 0.05, "l2": 30.0},
    "week": {"rounds": 150, "leaves": 15, "leaf_rows_min": 50, "learning_rate": 0.05, "l2": 10.0},
}


@dataclass(frozen=True)
class Fold:
    """One train week with its delay and test week, as day numbers."""

    train_start: int
    delay_days: int

    @property
    def test_start(self) -> int:
        """First day of the test week."""
        return self.train_start + WEEK_DAYS + self.delay_days


def features_of(data: Path, catalogue: Catalogue, delay_days: int, scratch: Path) -> Sample:
    """Every transaction with the engine's features, as one sample in log order."""
    clean = scratch / "clean"
    clean_files(
        [str(data)], clean, catalogue, key=b"benchmark", arrival_time_seconds=int(time.time()),
        chunk_bytes=32 << 20, repeat_filter_bytes=16 << 20,
    )  # fmt: skip
    featuriser = Featuriser(catalogue, b"benchmark", delay_days * SECONDS_PER_DAY, print)
    return Sample.concatenate(list(_samples(featuriser, clean_days(clean, catalogue))))


def _samples(featuriser: Featuriser, days: Sequence[tuple[int, Path]]) -> Iterator[Sample]:
    plan = featuriser.engine.plan
    columns = list(plan.model_columns)
    names = tuple(plan.names[c] for c in columns)
    for part in featuriser.days(days):
        rows = part.transactions
        yield Sample(
            names, np.ascontiguousarray(part.matrix[:, columns]), rows.is_fraud,
            np.ones(len(rows), np.float32), rows.event_time_seconds, rows.amount_minor,
            rows.transaction_id, rows.entity_keys["customer"][:, None], rows.scenario,
        )  # fmt: skip


def folds_of(everything: Sample, starts: Sequence[str], delay_days: int) -> list[Fold]:
    """The folds that begin on `starts`.

    Raises:
        DataError: names the start whose train or test week the data do not hold.
    """
    day = everything.event_time_seconds // SECONDS_PER_DAY
    first, last = int(day.min()), int(day.max())
    folds = [Fold(parse_day(start), delay_days) for start in starts]
    for fold in folds:
        if fold.train_start < first or fold.test_start + WEEK_DAYS - 1 > last:
            raise DataError(
                f"A train week from {day_text(fold.train_start)} with {delay_days} days of delay and a "
                f"test week do not fit into the data, {day_text(first)} to {day_text(last)}."
            )
    return folds


def test_rows(everything: Sample, fold: Fold) -> NDArray[np.bool_]:
    """The test week without known compromised cards (the book's card removal)."""
    day = everything.event_time_seconds // SECONDS_PER_DAY
    fraud_day = np.where(everything.is_fraud == 1, day, -1)
    kept = np.zeros(len(day), np.bool_)
    for test_day in range(fold.test_start, fold.test_start + WEEK_DAYS):
        in_train = (fraud_day >= fold.train_start) & (fraud_day < fold.train_start + WEEK_DAYS)
        in_delay = (fraud_day >= fold.train_start + WEEK_DAYS) & (fraud_day <= test_day - fold.delay_days - 1)
        known = np.unique(everything.customer_key[in_train | in_delay])
        kept |= (day == test_day) & ~np.isin(everything.customer_key, known)
    return kept


def train_rows(everything: Sample, fold: Fold, history: str) -> NDArray[np.bool_]:
    """The train week, or all history up to its end."""
    day = everything.event_time_seconds // SECONDS_PER_DAY
    first = fold.train_start if history == "week" else min(FIRST_TRAINED_DAY, fold.train_start)
    return np.asarray((day >= first) & (day < fold.train_start + WEEK_DAYS))


def run_fold(everything: Sample, fold: Fold, history: str) -> tuple[dict[str, Any], pl.DataFrame]:
    """Train, score the test week, and measure it."""
    learned = everything.take(train_rows(everything, fold, history))
    week = everything.take(
        np.asarray(everything.event_time_seconds // SECONDS_PER_DAY >= fold.train_start)
        & np.asarray(everything.event_time_seconds // SECONDS_PER_DAY < fold.train_start + WEEK_DAYS)
    )
    test = everything.take(test_rows(everything, fold))
    model = train(learned, None, TrainSettings.of(SETTINGS_BY_HISTORY[history])).model
    score = model.score(test.x)
    metrics = {
        "train_start": day_text(fold.train_start),
        "train_rows": len(learned), "train_frauds": learned.frauds,
        "train_week_rows": len(week), "train_week_frauds": week.frauds,
        "test_rows": len(test), "test_frauds": test.frauds,
        **measured(score, test),
    }  # fmt: skip
    scores = pl.DataFrame({"TRANSACTION_ID": test.transaction_id, "score": score})
    return metrics, scores


def measured(score: NDArray[np.float64], test: Sample) -> dict[str, float]:
    """The protocol's metrics of one test week."""
    by_day = card_precision_by_day(score, test.is_fraud, test.event_time_seconds, test.customer_key)
    found = {
        "roc_auc": float(roc_auc_score(test.is_fraud, score)),
        "average_precision": float(average_precision_score(test.is_fraud, score)),
        "card_precision_100": float(np.mean(by_day)),
    }
    fraud = test.is_fraud == 1
    for name, rate in (("5pct", 0.05), ("1pct", 0.01), ("0_1pct", 0.001)):
        stopped = fraud & (score > np.quantile(score[~fraud], 1 - rate, method="higher"))
        found[f"recall_at_fpr_{name}"] = float(stopped.sum() / fraud.sum())
        amount = test.amount_minor
        found[f"recall_by_amount_at_fpr_{name}"] = float(amount[stopped].sum() / amount[fraud].sum())
    return found


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train-start", action="append", default=[], metavar="YYYY-MM-DD")
    parser.add_argument("--history", choices=("week", "all"), default="all")
    parser.add_argument("--label-delay-days", type=int, default=7)
    parser.add_argument("--scores", type=Path, required=True, metavar="OUT.parquet")
    given = parser.parse_args()
    if not given.data.exists():
        parser.error(f"{given.data} does not exist: name the handbook's transactions as Parquet.")
    if given.label_delay_days < 0:
        parser.error("--label-delay-days must be 0 or more.")
    begin = time.perf_counter()
    catalogue = load_catalogue()
    weeks, scores = [], []
    try:
        for start in given.train_start:
            parse_day(start)
        with tempfile.TemporaryDirectory(prefix="handbook-") as scratch:
            everything = features_of(given.data, catalogue, given.label_delay_days, Path(scratch))
        for fold in folds_of(everything, given.train_start or BOOK_STARTS, given.label_delay_days):
            metrics, scored = run_fold(everything, fold, given.history)
            weeks.append(metrics)
            scores.append(scored)
            print(f"{metrics['train_start']}: AP {metrics['average_precision']:.4f}", file=sys.stderr)
    except ZaslonError as error:
        raise SystemExit(str(error)) from error
    given.scores.parent.mkdir(parents=True, exist_ok=True)
    pl.concat(scores).write_parquet(given.scores)
    names = [n for n in weeks[0] if isinstance(weeks[0][n], float)]
    print(
        json.dumps(
            {
                "history": given.history,
                "label_delay_days": given.label_delay_days,
                "catalogue": catalogue.label,
                "weeks": weeks,
                "mean": {n: float(np.mean([w[n] for w in weeks])) for n in names},
                "seconds": round(time.perf_counter() - begin, 1),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
