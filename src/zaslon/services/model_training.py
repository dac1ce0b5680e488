"""A model from the samples of three periods: fitted, calibrated, with thresholds, evaluated once.

days ──► train ── delay ── validation ── delay ── test
          │                   │                    │
          └ fit               ├ early stopping     └ evaluated once
                              ├ calibration
                              └ thresholds
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.decisions.policy import Policy
from zaslon.decisions.thresholds import ChosenThresholds, Limits, choose_thresholds
from zaslon.domain.estimates import Estimate
from zaslon.domain.events import TransactionId
from zaslon.domain.time import parse_duration_seconds
from zaslon.features.plan import FeaturePlan, plan_features
from zaslon.models.artefact import save_model
from zaslon.models.dataset import Days, Sample
from zaslon.models.metrics import REPLICATES, Evaluation, evaluate
from zaslon.models.model import Model, ModelFacts
from zaslon.models.small_counts import mean_per_day
from zaslon.models.time_split import TimeSplit
from zaslon.models.training import TrainSettings, train
from zaslon.monitoring.scorecard import unseeable_share
from zaslon.services.context import Context
from zaslon.services.home import with_chosen_thresholds, written_policy
from zaslon.services.samples import Samples

# What counts as a large amount when frauds without evidence are counted.
_LARGE_AMOUNT_QUANTILE, _LARGE_RATIO = 0.999, 2.5
_EXAMPLE_ROWS = 5


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
