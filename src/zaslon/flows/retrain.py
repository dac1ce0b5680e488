"""Train and evaluate on the home's clean days, without cleaning or deciding again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zaslon.features.plan import plan_features
from zaslon.flows.context import Context, Stopwatch
from zaslon.flows.home import keep_champion, load_champion
from zaslon.flows.train import (
    collect_samples,
    evaluate_sample,
    evaluation_values,
    reviews_per_day,
    train_and_evaluate,
    trained_values,
)
from zaslon.intake import clean_days
from zaslon.models.train import TrainSettings
from zaslon.models.tune import tune


@dataclass(frozen=True)
class TrainReport:
    """Metrics of the test period, the limits in words, and where the model is."""

    values: dict[str, Any]

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return self.values


def retrain(context: Context, *, tune_trials: int = 0) -> TrainReport:
    """Train on the clean days; with trials, search parameters on the validation period first."""
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
        trained = train_and_evaluate(context, samples, settings)
        keep_champion(context, trained.model, trained.policy)
    return TrainReport(
        {**trained_values(trained), "seconds": watch.seconds, "paths": {"model": str(trained.path)}}
    )


def evaluate_champion(context: Context) -> TrainReport:
    """Evaluate the serving model and policy on the test period."""
    options, watch = context.options, Stopwatch()
    model, policy = load_champion(context, plan_features(context.catalogue))
    days = clean_days(context.home / "clean", context.catalogue)
    context.progress.start("features", None)
    with watch.stage("features"):
        test = collect_samples(context, days, label_delay_seconds=options.label_delay_seconds).test
    with watch.stage("evaluate"):
        score, thresholds = model.score(test.x), policy.thresholds
        found = evaluate_sample(score, test, thresholds.review, thresholds.block, options.seed)
    return TrainReport(
        {
            **evaluation_values(found),
            "reviews_per_day": round(reviews_per_day(score, test, policy), 1),
            "thresholds": {"review": thresholds.review, "block": thresholds.block},
            "model": model.artefact_id,
            "policy": policy.hash,
            "seconds": watch.seconds,
            "paths": {"model": str(context.home / "models" / model.artefact_id)},
        }
    )
