"""Train: history applied once, a sample of every period, a model, thresholds, an evaluation.

days ──► train ── delay ── validation ── delay ── test
          │                   │                    │
          └ fit               ├ early stopping     └ evaluated once
                              ├ calibration
                              └ thresholds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.decisions.policy import Policy
from zaslon.decisions.thresholds import ChosenThresholds, Limits, choose_thresholds
from zaslon.domain.errors import DataError
from zaslon.domain.estimates import Estimate
from zaslon.domain.events import TransactionId
from zaslon.domain.time import SECONDS_PER_DAY, day_text, parse_duration_seconds
from zaslon.engine import Engine
from zaslon.features.plan import FeaturePlan, plan_features
from zaslon.models.artefact import save_model
from zaslon.models.dataset import Days, Sample, SampleFiles, keep_by_id
from zaslon.models.metrics import REPLICATES, Evaluation, evaluate
from zaslon.models.model import Model, ModelFacts
from zaslon.models.small_counts import mean_per_day
from zaslon.models.time_split import SplitRules, TimeSplit
from zaslon.models.training import TrainSettings, train
from zaslon.monitoring.scorecard import unseeable_share
from zaslon.services.context import Context
from zaslon.services.featurising import Day, FeaturisedPart, Featuriser
from zaslon.services.home import with_chosen_thresholds, written_policy
from zaslon.system.durable import make_directory

# What counts as a large amount when frauds without evidence are counted.
_LARGE_AMOUNT_QUANTILE, _LARGE_RATIO = 0.999, 2.5
_EXAMPLE_ROWS = 5


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


@dataclass(frozen=True)
class Trained:
    """A model with its policy, and how both did on the test period.

    `test` is kept without its features: they are hundreds of megabytes that are not needed again. `example`,
    float32[rows, F], has those of the first few.
    """

    model: Model
    policy: Policy
    thresholds: ChosenThresholds
    evaluation: Evaluation
    split: TimeSplit
    test: Sample
    test_score: NDArray[np.float64]
    unseeable_share: float | None
    reviews_per_day: Estimate
    path: Path
    left_out: tuple[TransactionId, ...]
    example: NDArray[np.float32]


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


def fit(
    context: Context, samples: Samples, train_settings: TrainSettings
) -> tuple[Model, Policy, ChosenThresholds]:
    """Fit, calibrate and choose thresholds, without a look at the test period."""
    catalogue = context.catalogue
    facts = ModelFacts(
        catalogue_hash=catalogue.hash, catalogue_label=catalogue.label,
        train_days=str(samples.split.train), validation_days=str(samples.split.validation),
        data_days=str(Days(samples.split.train.first, samples.split.test.last)),
        label_delay_seconds=context.options.label_delay_seconds,
    )  # fmt: skip
    model = train(samples.train, samples.validation, train_settings, facts=facts).model
    policy = written_policy(context, plan_features(catalogue))
    validation = samples.validation
    chosen = choose_thresholds(
        model.score(validation.x), validation.is_fraud == 1, validation.amount_minor,
        validation.weight.astype(np.float64), validation.event_time_seconds,
        limits(context), policy.costs, minor_digits=catalogue.minor_digits,
        stated=policy.thresholds if policy.states_thresholds else None,
    )  # fmt: skip
    return model, with_chosen_thresholds(policy, chosen.review, chosen.block), chosen


def limits(context: Context) -> Limits:
    """The business limits of the settings, money in minor units.

    Thresholds are chosen on the validation period for a later one that is never quite the same, so
    the false-positive limit is kept with a margin.
    """
    options = context.options
    return Limits(
        false_positive_rate_max=options.false_positive_rate_max * (1 - options.limit_margin),
        missed_frauds_max=options.missed_frauds_max,
        loss_minor_per_month_max=round(options.loss_per_month_max * 10**context.catalogue.minor_digits),
        reviews_per_day_max=options.reviews_per_day_max,
    )


def train_and_evaluate(context: Context, samples: Samples, train_settings: TrainSettings) -> Trained:
    """Fit on the first periods, evaluate once on the test period, save the artefact."""
    model, policy, chosen = fit(context, samples, train_settings)
    test = samples.test
    score = model.score(test.x)
    evaluation = evaluate_sample(score, test, chosen.review, chosen.block, context.options.seed)
    model = model.with_facts(
        metrics=evaluation.flat(), thresholds={"review": chosen.review, "block": chosen.block}
    )
    path = context.home / "models" / model.artefact_id
    save_model(model, path)
    return Trained(
        model, policy, chosen, evaluation, samples.split, test.without_features(), score,
        _unseeable(context, samples),
        reviews_per_day(score, test, policy), path, samples.left_out, test.x[:_EXAMPLE_ROWS].copy(),
    )  # fmt: skip


def reviews_per_day(score: NDArray[np.float64], sample: Sample, policy: Policy) -> Estimate:
    """What the thresholds give the analysts on an average day of the sample."""
    review, block = policy.thresholds.review, policy.thresholds.block
    if review >= block:
        return Estimate(0.0, 0.0, 0.0)  # no score is reviewed
    reviewed = (score >= review) & (score < block)
    return mean_per_day(reviewed, sample.weight.astype(np.float64), sample.event_time_seconds)


def evaluate_sample(
    score: NDArray[np.float64], sample: Sample, review: float, block: float, seed: int,
    replicates: int = REPLICATES,
) -> Evaluation:  # fmt: skip
    """`evaluate` for a sample."""
    return evaluate(
        score, sample.is_fraud, sample.amount_minor, sample.weight, sample.event_time_seconds,
        sample.entity_keys, sample.scenario,
        review=review, block=block, seed=seed, replicates=replicates,
    )  # fmt: skip


def _unseeable(context: Context, samples: Samples) -> float | None:
    """Share of the test frauds that had no evidence when they happened; None if unknown.

    Evidence is a known fraud of one of the entities, or an amount that is large: larger than all but
    one in a thousand good ones of the training period, or `_LARGE_RATIO` times a mean that the
    catalogue keeps. Of an entity with a condition on frauds only those under it count. A catalogue
    that counts no frauds cannot answer this.
    """
    plan = plan_features(context.catalogue)
    frauds = samples.test.take(samples.test.is_fraud == 1)
    column = {name: i for i, name in enumerate(frauds.names)}
    known = [frauds.x[:, column[name]] for name in _longest(plan, "frauds") if name in column]
    if not known or not len(frauds):
        return None
    good = samples.train.amount_minor[samples.train.is_fraud == 0]
    ordinary = frauds.amount_minor <= (np.quantile(good, _LARGE_AMOUNT_QUANTILE) if len(good) else np.inf)
    for name in _longest(plan, "mean"):
        if name in column:
            mean_minor = frauds.x[:, column[name]] * 10.0**context.catalogue.minor_digits
            ordinary &= ~(frauds.amount_minor > _LARGE_RATIO * mean_minor)
    return unseeable_share(known, ordinary, frauds.weight)


def _longest(plan: FeaturePlan, compute: str) -> list[str]:
    """Of each entity the aggregate of a kind with the longest window, under a condition if any."""
    chosen: dict[str | None, tuple[bool, int, str]] = {}
    for info in plan.infos:
        if info.compute == compute and info.window is not None:
            rank = (info.where is not None, parse_duration_seconds(info.window), info.name)
            chosen[info.entity] = max(chosen.get(info.entity, rank), rank)
    return [name for _, _, name in chosen.values()]


# At the policy's thresholds is what the short names mean everywhere.
_METRIC_NAMES = {
    "recall_at_review": "recall",
    "recall_by_amount_at_review": "recall_by_amount",
    "precision_at_review": "precision",
    "false_positive_rate_at_review": "false_positive_rate",
}


def evaluation_values(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation by the names that every command uses."""
    estimates = {_METRIC_NAMES.get(n, n): e for n, e in evaluation.headline.items()}
    estimates |= {
        "loss_minor_per_month": evaluation.money.lost, "saved_minor_per_month": evaluation.money.saved,
    }  # fmt: skip
    return {
        **{name: estimate.value for name, estimate in estimates.items()},
        "intervals": {name: [e.low, e.high] for name, e in estimates.items()},
        "calibration_error": evaluation.calibration_error,
        "by_scenario": {
            str(r.scenario): {"frauds": r.frauds, "recall": r.recall} for r in evaluation.by_scenario
        },
        "test_rows": evaluation.rows,
        "test_frauds": evaluation.frauds,
    }


def trained_values(trained: Trained) -> dict[str, Any]:
    """A trained model on its test period by the names that every command uses."""
    return {
        **evaluation_values(trained.evaluation),
        "periods": trained.split.to_json_dict(),
        "reviews_per_day": round(trained.reviews_per_day.value, 1),
        "thresholds": {"review": trained.policy.thresholds.review, "block": trained.policy.thresholds.block},
        "limits": [limit.sentence for limit in trained.thresholds.limits],
        "model": trained.model.artefact_id,
        "policy": trained.policy.hash,
        "left_out": list(trained.left_out),
    }
