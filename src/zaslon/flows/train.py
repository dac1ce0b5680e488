"""Train: history folded once, a sample of every period, a model, thresholds, what it is worth.

    days ──► train ── delay ── validation ── delay ── test
              │                   │                    │
              └ fit               ├ early stopping     └ evaluated once
                                  ├ calibration
                                  └ thresholds
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zaslon.decisions.policy import Limits, Policy, load_policy
from zaslon.decisions.thresholds import ChosenThresholds, choose_thresholds
from zaslon.domain.errors import DataError
from zaslon.domain.time import SECONDS_PER_DAY, day_text
from zaslon.engine import Engine
from zaslon.features.plan import FeaturePlan
from zaslon.flows.context import Context
from zaslon.flows.featurise import Day, FeaturisedPart, featurise
from zaslon.labels.feedback import DelayedLabels
from zaslon.models.artefact import save_model
from zaslon.models.dataset import Sample, TimeSplit, kept_by_sampling
from zaslon.models.metrics import Evaluation, evaluate
from zaslon.models.model import Model
from zaslon.models.train import TrainSettings, train
from zaslon.monitoring.scorecard import unseeable_share


@dataclass(frozen=True)
class Samples:
    """Sampled rows of the three periods, with the engine's own features."""

    split: TimeSplit
    train: Sample
    validation: Sample
    test: Sample


@dataclass(frozen=True)
class Trained:
    """A model with its policy, and how both did on the test period."""

    model: Model
    policy: Policy
    thresholds: ChosenThresholds
    evaluation: Evaluation
    samples: Samples
    test_score: np.ndarray[Any, np.dtype[np.float64]]
    unseeable_share: float
    path: Path


def time_split(context: Context, days: Sequence[Day], label_delay_seconds: int) -> TimeSplit:
    """The periods for these days; DataError in words if they are too few."""
    if not days:
        raise DataError("There are no clean days to train on.", hint="Run `zaslon clean` first.")
    delay_days = -(-label_delay_seconds // SECONDS_PER_DAY)
    options = context.options
    return TimeSplit.of(
        days[0][0], days[-1][0], delay_days, options.validation_days, options.test_days
    )


def collect_samples(
    context: Context,
    days: Sequence[Day],
    *,
    label_delay_seconds: int,
    split: TimeSplit | None = None,
    before_day: Callable[[int, Engine], None] | None = None,
) -> Samples:
    """Fold all days once and keep a sample of each period.

    `split` takes other periods than those that the delay asks for, to compare delays on the same
    days. `before_day(day, engine)` is called before a day is folded: the place for a snapshot.
    """
    split = split or time_split(context, days, label_delay_seconds)
    engine = Engine(context.catalogue, key=context.key)
    shares = _shares(context, days, split)
    kept: dict[str, list[Sample]] = {"train": [], "validation": [], "test": []}
    feedback = DelayedLabels(label_delay_seconds)
    for day in days:
        if before_day is not None:
            before_day(day[0], engine)
        period = _period(split, day[0])
        for part in featurise(engine, [day], context.catalogue, feedback):
            if period is not None:
                kept[period].append(_sampled(part, engine.plan, shares[period], context.options.seed))
            context.progress.advance(len(part.transactions))
    return Samples(split, *(_joined(name, kept[name]) for name in ("train", "validation", "test")))


def _period(split: TimeSplit, day: int) -> str | None:
    for name in ("train", "validation", "test"):
        first, last = getattr(split, name)
        if first <= day <= last:
            return name
    return None


def _shares(context: Context, days: Sequence[Day], split: TimeSplit) -> dict[str, float]:
    """Which share of good rows keeps each period's sample within its maximum."""
    rows = {"train": 0, "validation": 0, "test": 0}
    for day, path in days:
        period = _period(split, day)
        if period is not None:
            rows[period] += int(pl.scan_parquet(path).select(pl.len()).collect().item())
    options = context.options
    most = {
        "train": options.train_rows_max,
        "validation": options.test_rows_max,
        "test": options.test_rows_max,
    }
    return {period: min(1.0, most[period] / max(rows[period], 1)) for period in rows}


def _sampled(part: FeaturisedPart, plan: FeaturePlan, share: float, seed: int) -> Sample:
    transactions = part.transactions
    answered = transactions.is_fraud >= 0
    kept = answered & kept_by_sampling(
        transactions.transaction_id, transactions.is_fraud, share, seed
    )
    rows = transactions.take(kept)
    columns = list(plan.model_columns)
    return Sample(
        names=tuple(plan.names[c] for c in columns),
        x=np.ascontiguousarray(part.matrix[kept][:, columns]),
        is_fraud=rows.is_fraud,
        weight=np.where(rows.is_fraud == 1, 1.0, 1.0 / share).astype(np.float32),
        event_time_seconds=rows.event_time_seconds,
        amount_minor=rows.amount_minor,
        transaction_id=rows.transaction_id,
        customer_key=rows.entity_keys[plan.catalogue.entities[0]],
        scenario=rows.scenario,
    )


def _joined(period: str, parts: list[Sample]) -> Sample:
    if not parts or not sum(len(p) for p in parts):
        raise DataError(
            f"The {period} period has no transactions with a known answer.",
            hint="The source must carry fraud answers (`tx_fraud`) to train on.",
        )
    return Sample.concatenate(parts)


def fit(context: Context, samples: Samples, train_settings: TrainSettings) -> tuple[Model, Policy, ChosenThresholds]:
    """Fit, calibrate and choose thresholds, without a look at the test period."""
    catalogue = context.catalogue
    model = train(
        samples.train, samples.validation, train_settings,
        catalogue_hash=catalogue.hash, catalogue_label=catalogue.label,
    )  # fmt: skip
    known = [*samples.train.names, "score"]
    policy_path = context.home / "policy.toml"
    policy = load_policy(policy_path if policy_path.exists() else None, known)
    validation = samples.validation
    chosen = choose_thresholds(
        model.score(validation.x), validation.is_fraud == 1, validation.amount_minor,
        validation.weight.astype(np.float64), validation.event_time_seconds,
        limits(context), policy.costs, minor_digits=catalogue.minor_digits,
    )  # fmt: skip
    return model, policy.with_thresholds(chosen.review, chosen.block), chosen


def limits(context: Context) -> Limits:
    """The business limits of the settings, money in minor units."""
    options = context.options
    return Limits(
        false_positive_rate_max=options.false_positive_rate_max,
        missed_frauds_max=options.missed_frauds_max,
        loss_minor_per_month_max=round(
            options.loss_per_month_max * 10**context.catalogue.minor_digits
        ),
        reviews_per_day_max=options.reviews_per_day_max,
    )


def train_and_evaluate(context: Context, samples: Samples, train_settings: TrainSettings) -> Trained:
    """Fit on the first periods, evaluate once on the test period, save the artefact."""
    model, policy, chosen = fit(context, samples, train_settings)
    test = samples.test
    score = model.score(test.x)
    evaluation = evaluate(
        score, test.is_fraud, test.amount_minor, test.weight, test.event_time_seconds,
        test.customer_key, test.scenario, chosen.review, chosen.block, seed=context.options.seed,
    )  # fmt: skip
    path = save_model(
        model, context.home / "models",
        metrics=evaluation.to_json_dict(), thresholds=dict(chosen.report()),
        training={
            "train": _range(samples.split.train), "validation": _range(samples.split.validation),
            "test": _range(samples.split.test), "rows": len(samples.train),
            "frauds": int(samples.train.is_fraud.sum()),
        },
    )  # fmt: skip
    return Trained(
        model, policy, chosen, evaluation, samples, score, _unseeable(context, test), path
    )


def _range(days: tuple[int, int]) -> list[str]:
    return [day_text(days[0]), day_text(days[1])]


def _unseeable(context: Context, test: Sample) -> float:
    """Share of the test frauds that left no evidence before they happened."""
    frauds = test.take(test.is_fraud == 1)
    column = {name: i for i, name in enumerate(frauds.names)}
    known = [frauds.x[:, i] for name, i in column.items() if "_frauds_" in name]
    ordinary = np.ones(len(frauds), np.bool_)
    if "customer_q90_30d" in column:
        ordinary = ~(frauds.x[:, column["amount"]] > 2 * frauds.x[:, column["customer_q90_30d"]])
    ordinary &= frauds.amount_minor <= 200 * 10**context.catalogue.minor_digits
    return unseeable_share(known, ordinary, frauds.weight)
