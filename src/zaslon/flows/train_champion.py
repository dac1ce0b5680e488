"""Train and evaluate on the home's clean days, without cleaning or deciding again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zaslon.domain.ledger import TRAIN
from zaslon.features.plan import plan_features
from zaslon.flows.gate import Gated, pass_gate
from zaslon.intake import clean_days
from zaslon.models.dataset import Days
from zaslon.models.model import Model
from zaslon.models.training import TrainSettings
from zaslon.models.tune import check_installed, tune
from zaslon.services.context import Context, Stopwatch
from zaslon.services.home import load_champion
from zaslon.services.model_training import (
    evaluate_sample,
    evaluation_values,
    reviews_per_day,
    train_and_evaluate,
    trained_values,
)
from zaslon.services.run_warnings import (
    check_samples,
    noted,
    warnings_of_figures,
    warnings_of_rules,
    warnings_of_samples,
    warnings_of_seen_days,
)
from zaslon.services.samples import collect_samples, time_split
from zaslon.services.training_record import publish_training


@dataclass(frozen=True)
class TrainReport:
    """Metrics of the test period, the limits in words, and where the model is; `gated` where one was trained."""

    values: dict[str, Any]
    gated: Gated | None = None

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return self.values


def train_champion(context: Context, *, tune_trials: int = 0) -> TrainReport:
    """Train on the clean days; with trials, search parameters on the validation period first.

    The model serves if it is the first one and keeps the guards, or is better than the champion and keeps them.
    """
    if tune_trials:
        check_installed()
    options, watch = context.options, Stopwatch()
    days = clean_days(context.home / "clean", context.catalogue)
    context.progress.start("features", None)
    with watch.stage("features"):
        samples = collect_samples(context, days, label_delay_seconds=options.label_delay_seconds)
    settings = TrainSettings(seed=options.seed, threads=options.threads)
    if tune_trials:
        context.progress.start("tune", tune_trials)
        with watch.stage("tune"):
            settings = tune(
                samples.train, samples.validation, settings, trials=tune_trials,
                progress=context.progress.advance,
            )  # fmt: skip
    with watch.stage("train"):
        warnings = warnings_of_samples(samples)
        with noted(warnings):
            check_samples(samples)
            trained = train_and_evaluate(context, samples, settings)
    with watch.stage("compare"):
        gated = pass_gate(context, trained, samples, days, TRAIN)
    paths = {"model": str(trained.path)}
    with watch.stage("registry"):
        registry = publish_training(context, trained, settings, days, promoted=gated.promoted)
        paths |= {"registry": registry.place} if registry and registry.place else {}
    warnings += warnings_of_rules(trained.policy)
    return TrainReport(
        {
            **trained_values(trained),
            **gated.to_json_dict(),
            "warnings": [warning.to_json_dict() for warning in warnings],
            "seconds": watch.seconds,
            "paths": paths,
        },
        gated,
    )


def evaluate_champion(context: Context) -> TrainReport:
    """Evaluate the serving model and policy on the test period of the clean days.

    Where these are other days than the model was trained on, it may have learned from some of them:
    then the report has a warning, and `test_days_seen` has the number.
    """
    options, watch = context.options, Stopwatch()
    model, policy = load_champion(context, plan_features(context.catalogue))
    days = clean_days(context.home / "clean", context.catalogue)
    delay = options.label_delay_seconds
    split = time_split(context, days, delay, new_after=max((p.last for p in _learned(model)), default=None))
    context.progress.start("features", None)
    with watch.stage("features"):
        samples = collect_samples(context, days, label_delay_seconds=delay, split=split, in_home=False)
    test, period = samples.test, samples.split.test
    seen = _days_seen(model, period)
    warnings = [*warnings_of_seen_days(period, seen), *warnings_of_rules(policy), *warnings_of_figures(test)]
    with watch.stage("evaluate"):
        score, thresholds = model.score(test.x), policy.thresholds
        found = evaluate_sample(score, test, thresholds.review, thresholds.block, options.seed)
    return TrainReport(
        {
            **evaluation_values(found),
            "periods": samples.split.to_json_dict(),
            "reviews_per_day": round(reviews_per_day(score, test, policy).value, 1),
            "thresholds": {"review": thresholds.review, "block": thresholds.block},
            "model": model.artefact_id,
            "policy": policy.hash,
            "test_days_seen": seen,
            "left_out": list(samples.left_out),
            "warnings": [warning.to_json_dict() for warning in warnings],
            "seconds": watch.seconds,
            "paths": {"model": str(context.home / "models" / model.artefact_id)},
        }
    )


def _days_seen(model: Model, period: Days) -> int:
    """Days of a period from which the model, its calibration or its thresholds were learned."""
    return sum(learned.shared_with(period) for learned in _learned(model))


def _learned(model: Model) -> list[Days]:
    learned = (model.facts.train_days, model.facts.validation_days)
    return [Days.parse(days) for days in learned if days]
