"""Samples of periods: the days applied once by the engine, and a sample of each period kept with its features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.errors import DataError
from zaslon.domain.events import TransactionId
from zaslon.domain.time import SECONDS_PER_DAY, day_text
from zaslon.engine import Engine
from zaslon.features.plan import FeaturePlan
from zaslon.models.dataset import Days, Sample, SampleFiles, keep_by_id
from zaslon.models.time_split import SplitRules, TimeSplit
from zaslon.services.context import Context
from zaslon.services.featurising import Day, FeaturisedPart, Featuriser
from zaslon.system.durable import make_directory

_PERIODS = ("train", "validation", "test")


@dataclass(frozen=True)
class Samples:
    """Sampled rows of the three periods, with the engine's own features.

    `left_out`: transactions that break our own code while features are computed.
    """

    split: TimeSplit
    train: Sample
    validation: Sample
    test: Sample
    left_out: tuple[TransactionId, ...] = ()


def time_split(
    context: Context, days: Sequence[Day], label_delay_seconds: int, *, new_after: int | None = None
) -> TimeSplit:
    """The periods for these days, by their frauds; DataError in words if the days are too few.

    `new_after`: as in `SplitRules`.
    """
    if not days:
        raise DataError("There are no clean days to train on.", hint="Run `zaslon clean` first.")
    options = context.options
    rules = SplitRules(
        test_days=options.test_days, validation_days=options.validation_days,
        delay_days=-(-label_delay_seconds // SECONDS_PER_DAY),
        frauds_target=options.period_frauds_target, days_max=options.period_days_max,
        new_after=new_after,
    )  # fmt: skip
    return TimeSplit.of({day: answers_of_day(path) for day, path in days}, rules)


def collect_samples(
    context: Context,
    days: Sequence[Day],
    *,
    label_delay_seconds: int,
    split: TimeSplit | None = None,
    before_day: Callable[[int, Engine], None] | None = None,
    in_home: bool = True,
) -> Samples:
    """Apply all days once and keep a sample of each period.

    `split` takes other periods than those that the delay asks for, to compare delays on the same
    days. `before_day(day, engine)` is called before a day is applied: the moment for a snapshot.
    Parts of the samples lie in files meanwhile: in the home, or else where the system has its own.
    """
    split = split or time_split(context, days, label_delay_seconds)
    periods: dict[str, Days] = {name: getattr(split, name) for name in _PERIODS}
    parts, left_out = collect_periods(
        context,
        days,
        periods,
        label_delay_seconds=label_delay_seconds,
        before_day=before_day,
        in_home=in_home,
    )
    fit, validation, test = (parts[name] for name in _PERIODS)
    return Samples(split, fit, validation, test, left_out)


def collect_periods(
    context: Context,
    days: Sequence[Day],
    periods: Mapping[str, Days],
    *,
    label_delay_seconds: int,
    before_day: Callable[[int, Engine], None] | None = None,
    in_home: bool = True,
) -> tuple[dict[str, Sample], tuple[TransactionId, ...]]:
    """Apply all days once; a sample of each named period, and the transactions that were left out.

    That of `train` has at most `train_rows_max` rows, others `test_rows_max`. The rest is as in
    `collect_samples`.

    Raises:
        DataError: a period without a transaction whose answer is known.
    """
    featuriser = Featuriser(context.catalogue, context.key, label_delay_seconds, context.progress.warn)
    shares = _shares(context, days, periods)
    if in_home:
        make_directory(context.home)
    with TemporaryDirectory(prefix=".samples-", dir=context.home if in_home else None) as scratch:
        kept = {name: SampleFiles(Path(scratch) / name) for name in periods}
        for day in days:
            if before_day is not None:
                before_day(day[0], featuriser.engine)
            period = _period(periods, day[0])
            for part in featuriser.days([day]):
                if period is not None:
                    plan = featuriser.engine.plan
                    kept[period].add(_sampled(part, plan, shares[period], context.options.seed))
                context.progress.advance(len(part.transactions))
        left_out = tuple(featuriser.left_out)
        del featuriser  # its history may be gigabytes
        samples = {name: _joined(context, days, name, period, kept[name]) for name, period in periods.items()}
        return samples, left_out


def _period(periods: Mapping[str, Days], day: int) -> str | None:
    return next((name for name, days in periods.items() if days.first <= day <= days.last), None)


@dataclass(frozen=True)
class Shares:
    """Which share of a period's frauds and good transactions is kept, each over 0, at most 1."""

    fraud: float
    good: float

    @staticmethod
    def of(frauds: int, good: int, rows_max: int) -> Shares:
        """At most about `rows_max` rows: all frauds if they are no more than half of them."""
        frauds_kept = min(frauds, max(rows_max // 2, rows_max - good))
        good_kept = min(good, rows_max - frauds_kept)
        return Shares(frauds_kept / frauds if frauds else 1.0, good_kept / good if good else 1.0)

    def keep(
        self, transaction_id: NDArray[np.int64], is_fraud: NDArray[np.int8], seed: int
    ) -> NDArray[np.bool_]:
        """bool[n]: which transactions are in the sample; never one whose answer is not known."""
        kept = np.zeros(len(is_fraud), np.bool_)
        for answer, share in ((1, self.fraud), (0, self.good)):
            of_answer = is_fraud == answer
            kept |= of_answer & keep_by_id(transaction_id, share, seed) if share < 1 else of_answer
        return kept

    def weight(self, is_fraud: NDArray[np.int8]) -> NDArray[np.float32]:
        """float32[n]: how many transactions each one in the sample represents."""
        return np.where(is_fraud == 1, 1.0 / self.fraud, 1.0 / self.good).astype(np.float32)


def _shares(context: Context, days: Sequence[Day], periods: Mapping[str, Days]) -> dict[str, Shares]:
    """What keeps each period's sample within its maximum."""
    options = context.options
    shares = {}
    for name in periods:
        rows_max = options.train_rows_max if name == "train" else options.test_rows_max
        answers = [answers_of_day(path) for day, path in days if _period(periods, day) == name]
        frauds, good = sum(a[0] for a in answers), sum(a[1] for a in answers)
        shares[name] = Shares.of(frauds, good, rows_max)
    return shares


def answers_of_day(path: Path) -> tuple[int, int]:
    """(frauds, good transactions) of one clean day."""
    is_fraud = pl.col("is_fraud")
    counts = pl.scan_parquet(path).select(
        (is_fraud == 1).sum().alias("fraud"), (is_fraud == 0).sum().alias("good")
    )
    fraud, good = counts.collect().row(0)
    return int(fraud), int(good)


def rows_of_day(path: Path) -> int:
    """Rows of one clean day, from the file's footer."""
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def _sampled(part: FeaturisedPart, plan: FeaturePlan, shares: Shares, seed: int) -> Sample:
    transactions = part.transactions
    kept = shares.keep(transactions.transaction_id, transactions.is_fraud, seed)
    rows = transactions.take(kept)
    columns = list(plan.model_columns)
    return Sample(
        names=tuple(plan.names[c] for c in columns),
        x=np.ascontiguousarray(part.matrix[kept][:, columns]),
        is_fraud=rows.is_fraud,
        weight=shares.weight(rows.is_fraud),
        event_time_seconds=rows.event_time_seconds,
        amount_minor=rows.amount_minor,
        transaction_id=rows.transaction_id,
        entity_keys=np.stack([rows.entity_keys[name] for name in plan.catalogue.entities], axis=1),
        scenario=rows.scenario,
    )


def _joined(context: Context, days: Sequence[Day], name: str, period: Days, parts: SampleFiles) -> Sample:
    sample = parts.joined()
    if sample is None:
        field = context.catalogue.field_of("is_fraud")
        answers = f"in '{field.name}'" if field else "in a field with the role is_fraud"
        raise DataError(
            f"The {name} period, {period}, has no transactions with a known answer.",
            hint=f"The source must carry fraud answers ({answers}), and rows on these days: it has "
            f"{len(days)} days from {day_text(days[0][0])} to {day_text(days[-1][0])}. One row with a wrong "
            "year is enough to separate the periods.",
        )
    return sample
