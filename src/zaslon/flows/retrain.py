"""Train and evaluate on the home's clean days, without cleaning or deciding again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zaslon.features.plan import plan_features
from zaslon.flows.context import Context
from zaslon.flows.home import keep_champion, load_champion
from zaslon.flows.train import (
    collect_samples,
    evaluate_sample,
    evaluation_values,
    train_and_evaluate,
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
    options = context.options
    days = clean_days(context.home / "clean", context.catalogue)
    context.progress.start("features", None)
    samples = collect_samples(context, days, label_delay_seconds=options.label_delay_seconds)
    settings = TrainSettings(seed=options.seed, threads=options.threads)
    if tune_trials:
        context.progress.start("tune", tune_trials)
        settings = tune(
            samples.train, samples.validation, settings, trials=tune_trials,
            progress=context.progress.advance,
        )  # fmt: skip
    trained = train_and_evaluate(context, samples, settings)
    keep_champion(context, trained.model, trained.policy)
    return TrainReport(
        {
            **evaluation_values(trained.evaluation),
            "thresholds": {"review": trained.thresholds.review, "block": trained.thresholds.block},
            "limits": [limit.sentence for limit in trained.thresholds.limits],
            "paths": {"model": str(trained.path)},
        }
    )


def evaluate_champion(context: Context) -> TrainReport:
    """Evaluate the serving model and policy on the test period."""
    options = context.options
    model, policy = load_champion(context, plan_features(context.catalogue))
    days = clean_days(context.home / "clean", context.catalogue)
    context.progress.start("features", None)
    test = collect_samples(context, days, label_delay_seconds=options.label_delay_seconds).test
    evaluation = evaluate_sample(
        model.score(test.x), test, policy.thresholds.review, policy.thresholds.block, options.seed
    )
    return TrainReport(
        {
            **evaluation_values(evaluation),
            "model": model.artefact_id, "policy": policy.hash,
            "paths": {"model": str(context.home / "models" / model.artefact_id)},
        }
    )  # fmt: skip
