"""Retrain: a challenger where there are new days; if it is better and passes every guard, the new champion.

clean days ─► mature? ─► newer than the champion's? ──no──► nothing (exit code 99)
                                  │ yes
                                  ▼
            challenger ─► test period ─► comparison ─► guards ─► promoted, or kept beside the champion
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from zaslon.domain.errors import DataError
from zaslon.domain.ledger import RETRAIN
from zaslon.domain.retraining import EXPANDING, VALIDATED, window_days
from zaslon.domain.time import SECONDS_PER_DAY, day_text
from zaslon.features.plan import plan_features
from zaslon.flows.compare import first_new_day, last_day_learned
from zaslon.flows.gate import Gated, conclude, judge_trained
from zaslon.intake import clean_arrival_seconds, clean_days
from zaslon.models.dataset import Days, Sample
from zaslon.models.model import Model
from zaslon.models.time_split import WINDOW, Period
from zaslon.models.training import TrainSettings
from zaslon.models.verdict import Verdict
from zaslon.services.context import Context, Stopwatch
from zaslon.services.featurising import Day
from zaslon.services.home import champion_or_none
from zaslon.services.model_training import Trained, fit, train_and_evaluate, trained_values
from zaslon.services.publishing import publish
from zaslon.services.samples import Samples, collect_samples, time_split
from zaslon.services.training_record import publish_training
from zaslon.system.durable import write_file

_VALIDATED_SHARES = (1.0, 0.5, 0.25)  # of the days to train on, newest first
_WINDOW_DAYS_MIN = 7  # a shorter one has not seen every weekday


@dataclass(frozen=True)
class RetrainReport:
    """What `retrain` found and did.

    Attributes:
        news: days newer than the champion's, whose answers are mature; None where there are none.
        mature_until: the newest day whose answers are mature, as text.
        champion: the model that served before; None in a new home.
        trained: the challenger's metrics; None without news.
        window: the days that it has learned from.
        gated: the verdict, the guards and whether it was promoted; None without news.
    """

    news: Days | None
    mature_until: str
    champion: str | None
    trained: Trained | None = None
    window: Days | None = None
    gated: Gated | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)

    @property
    def no_news(self) -> str:
        """Why nothing was trained, in one sentence."""
        than = "" if self.champion is None else f" is newer than those of model {self.champion}"
        return f"No news: no clean day with mature answers (up to {self.mature_until}){than}."

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, the same keys with news and without."""
        found = self.gated
        judged = (
            {**_NOTHING, "champion": self.champion, "reasons": [self.no_news]}
            if found is None
            else found.to_json_dict()
        )
        return {
            "news": self.news is not None,
            "news_days": None if self.news is None else str(self.news),
            "mature_until": self.mature_until,
            "challenger": None if self.trained is None else self.trained.model.artefact_id,
            **judged,
            "window": None if self.window is None else str(self.window),
            "trained": None if self.trained is None else trained_values(self.trained),
            "seconds": dict(self.seconds),
            "paths": dict(self.paths),
        }


# Without a new day there is no evidence for another model: one of the five verdicts, as scripts expect.
_NOTHING: dict[str, Any] = {
    "verdict": Verdict.NOT_ENOUGH_EVIDENCE.value, "days_needed": None, "guards": [], "not_checked": [],
    "measures": {}, "period": None, "frauds": 0, "transactions": 0, "refusals": [], "promoted": False, "entry": None,
}  # fmt: skip


def retrain(context: Context, *, may_promote: bool = True, as_of_seconds: int | None = None) -> RetrainReport:
    """Train a challenger on the home's clean days if some are new, and promote it if it has earned it.

    The same days give the same challenger and the same verdict. Whoever promotes another model or policy meanwhile wins:
    the challenger was not compared with that one.

    Args:
        context: its clean days, champion and limits.
        may_promote: False reports what would be done.
        as_of_seconds: only what was known by then, seconds since 1970; None for when the files arrived.

    Raises:
        DataError: there are no clean days, or they do not allow a training.
        BusyError: another model became the champion, or `policy.toml` changed, meanwhile.
        ServerError: the ledger's store does not answer. The champion serves on.
    """
    watch = Stopwatch()
    champion = champion_or_none(context, plan_features(context.catalogue))
    before = None if champion is None else champion[0]
    arrival = _arrival_seconds(context, as_of_seconds)
    days, mature_until = mature_days(context, arrival)
    news = _news(days, before, context.options.retrain_days_min)
    known = RetrainReport(news, mature_until, None if before is None else before.artefact_id)
    if news is None:
        return known
    context.progress.start("features", None)
    with watch.stage("features"):
        samples = _samples(context, days, before)
    with watch.stage("train"):
        samples = in_best_window(context, samples)
        trained = train_and_evaluate(context, samples, _settings(context))
    with watch.stage("compare"):
        found = judge_trained(context, trained, champion, samples, days, arrival)
    publish_training(context, trained, _settings(context), days, promoted=False)
    gated = conclude(context, trained, champion, found, RETRAIN, may_promote=may_promote)
    if gated.promoted:
        publish(context)
    report = replace(
        known, trained=trained, window=samples.split.train, gated=gated, seconds=watch.seconds,
        paths={"model": str(trained.path), "report": str(_report_path(context, trained.model))},
    )  # fmt: skip
    _keep(context, report)
    return report


def _samples(context: Context, days: Sequence[Day], champion: Model | None) -> Samples:
    """The periods; for its frauds alone the test period takes no day that is not new to the champion."""
    delay = context.options.label_delay_seconds
    known = None if champion is None else first_new_day(champion) - 1
    split = time_split(context, days, delay, new_after=known)
    return collect_samples(context, days, label_delay_seconds=delay, split=split)


def _arrival_seconds(context: Context, as_of_seconds: int | None) -> int:
    arrived = clean_arrival_seconds(context.home / "clean", context.catalogue)
    return arrived if as_of_seconds is None else min(arrived, as_of_seconds)


def mature_days(context: Context, arrival_seconds: int) -> tuple[list[Day], str]:
    """The clean days whose answers had the label delay to arrive, and the last possible one as text.

    Raises:
        DataError: there are no clean days.
    """
    days = clean_days(context.home / "clean", context.catalogue)
    if not days:
        raise DataError("There are no clean days to train on.", hint="Run `zaslon clean` first.")
    last = (arrival_seconds - context.options.label_delay_seconds) // SECONDS_PER_DAY - 1
    return [day for day in days if day[0] <= last], day_text(max(last, 0))


def _news(days: Sequence[Day], champion: Model | None, days_min: int) -> Days | None:
    """The mature days that are newer than all that the champion was made from, if they are enough."""
    if not days:
        return None
    known = -1 if champion is None else _last_day_of_data(champion)
    new = [day for day, _ in days if day > known]
    return Days(new[0], new[-1]) if len(new) >= days_min else None


def _last_day_of_data(model: Model) -> int:
    """Models from before their test days were noted are known by what they have learned from."""
    return Days.parse(model.facts.data_days).last if model.facts.data_days else last_day_learned(model)


def _settings(context: Context) -> TrainSettings:
    return TrainSettings(seed=context.options.seed, threads=context.options.threads)


def in_best_window(context: Context, samples: Samples) -> Samples:
    """The samples with the days to learn from that the settings ask for, see `ZASLON_RETRAIN_WINDOW`.

    The test period is not looked at.
    """
    wanted = context.options.retrain_window
    everything = samples.split.train
    if wanted == EXPANDING:
        return samples
    if wanted != VALIDATED:
        return in_window(samples, min(window_days(wanted), len(everything)))
    shares = {max(round(len(everything) * share), _WINDOW_DAYS_MIN) for share in _VALIDATED_SHARES}
    lengths = [days for days in sorted(shares, reverse=True) if _is_learnable(in_window(samples, days).train)]
    if len(lengths) <= 1:
        return samples
    context.progress.start("window", len(lengths))
    best = max(lengths, key=lambda days: _validated(context, in_window(samples, days)))
    return in_window(samples, best)  # the longest one of equals


def _is_learnable(sample: Sample) -> bool:
    return 0 < sample.frauds < len(sample)


def in_window(samples: Samples, days: int) -> Samples:
    """The samples with only the newest days to learn from."""
    last = samples.split.train.last
    first = last - days + 1
    if first <= samples.split.train.first:
        return samples
    train = samples.train.take(samples.train.event_time_seconds >= first * SECONDS_PER_DAY)
    frauds, transactions = float(train.weight @ train.is_fraud), float(train.weight.sum())
    window = Period(first, last, round(frauds), round(transactions), WINDOW)
    return replace(samples, train=train, split=replace(samples.split, train=window))


def _validated(context: Context, samples: Samples) -> float:
    """ROC-AUC on the validation period of a model of these samples."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  slow to import

    model, _, _ = fit(context, samples, _settings(context))
    validation = samples.validation
    context.progress.advance(1)
    return float(
        roc_auc_score(validation.is_fraud, model.raw_score(validation.x), sample_weight=validation.weight)
    )


def _report_path(context: Context, model: Model) -> Path:
    return context.home / "reports" / f"retrain-{model.artefact_id}.json"


def _keep(context: Context, report: RetrainReport) -> None:
    assert report.trained is not None
    content = orjson.dumps(report.to_json_dict(), option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
    write_file(_report_path(context, report.trained.model), content)
