"""What the registry keeps of a training: parameters, data, metrics with intervals, report, example."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from zaslon import __version__
from zaslon.domain.time import day_text
from zaslon.engine import ENGINE_VERSION
from zaslon.intake import clean_fingerprint
from zaslon.models.time_split import TimeSplit
from zaslon.models.training import TrainSettings
from zaslon.ports.registry import ARTEFACT, RunRecord
from zaslon.services.context import Context
from zaslon.services.featurising import Day
from zaslon.services.model_training import Trained
from zaslon.services.publishing import (
    RegistryState,
    Waiting,
    follow_ledger,
    keep_run,
    publish,
    write_waiting,
)
from zaslon.services.run_report import training_report
from zaslon.services.samples import answers_of_day

_PERIODS = ("train", "validation", "test")


def publish_training(
    context: Context, trained: Trained, settings: TrainSettings, days: Sequence[Day],
    files: Mapping[str, bytes] | None = None, *, promoted: bool = True,
) -> RegistryState | None:  # fmt: skip
    """Tell the registry about a trained model, and what serves if it is this one; None where there is no registry.

    Args:
        trained: the model; its artefact is in the home.
        settings: that it was trained with.
        days: the clean days that were given to the training.
        files: report and plots by name; None makes those of the test period.
        promoted: whether it was promoted. If not, neither the ledger nor the alias of what serves is touched.
    """

    def keep_and_write(context: Context) -> RegistryState | None:
        if context.open_registry() is None:
            return None
        waiting = Waiting(
            _run(context, trained, settings, days), trained.model.artefact_id,
            trained.model.names, trained.example.tolist(),
        )  # fmt: skip
        keep_run(context, waiting, training_report(context, trained) if files is None else files)
        return follow_ledger(context) if promoted else write_waiting(context)

    return publish(context, keep_and_write)


def _run(context: Context, trained: Trained, settings: TrainSettings, days: Sequence[Day]) -> RunRecord:
    model, catalogue = trained.model, context.catalogue
    known = [day for day in days if day[0] <= trained.split.test.last]
    fingerprint = clean_fingerprint(known)
    params: dict[str, Any] = {
        **settings.model_dump(), **_data(trained.split, known),
        "label_delay_seconds": model.facts.label_delay_seconds, "data_fingerprint": fingerprint,
        "catalogue": catalogue.label, "catalogue_hash": catalogue.hash,
        "features": len(model.names), "policy": trained.policy.hash,
        "review_threshold": trained.thresholds.review, "block_threshold": trained.thresholds.block,
        "sampled_train_rows": model.facts.train_rows, "sampled_train_frauds": model.facts.train_frauds,
        "engine_version": ENGINE_VERSION, "zaslon_version": __version__,
    }  # fmt: skip
    tags = {
        ARTEFACT: model.artefact_id, "catalogue": catalogue.hash, "policy": trained.policy.hash,
        "data_fingerprint": fingerprint, "kind": "training",
    }  # fmt: skip
    return RunRecord(
        f"train-{model.artefact_id}", f"model {model.artefact_id}", params, _metrics(trained), tags
    )


def _data(split: TimeSplit, days: Sequence[Day]) -> dict[str, Any]:
    """Days of each period, and how many transactions with a known answer and frauds they have."""
    found: dict[str, Any] = {"data_first_day": day_text(days[0][0]), "data_days": len(days)}
    for name in _PERIODS:
        period = getattr(split, name)
        answers = [answers_of_day(path) for day, path in days if period.first <= day <= period.last]
        frauds = sum(fraud for fraud, _ in answers)
        found |= {
            f"{name}_days": str(period), f"{name}_frauds": frauds,
            f"{name}_transactions": frauds + sum(good for _, good in answers),
        }  # fmt: skip
    return found


def _metrics(trained: Trained) -> dict[str, float]:
    """All figures of the test period; `_low` and `_high` are the limits of their 95 % intervals."""
    found, money = trained.evaluation, trained.evaluation.money
    metrics = {**found.flat(), "reviews_per_day": trained.reviews_per_day.value}
    for name, estimate in (("lost", money.lost), ("saved", money.saved)):
        metrics |= {
            f"money_{name}_minor_per_month_low": estimate.low, f"money_{name}_minor_per_month_high": estimate.high,
        }  # fmt: skip
    metrics |= {f"recall_scenario_{row.scenario}": row.recall for row in found.by_scenario}
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
