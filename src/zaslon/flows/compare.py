"""Compare two models on the newest days that neither has learned from and whose answers are mature.

what A learned from ── delay ──┐
what B learned from ── delay ──┴─► period ◄── delay ── arrival of the files
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zaslon.domain.errors import DataError
from zaslon.domain.events import TransactionId
from zaslon.domain.time import SECONDS_PER_DAY, day_text, duration_text
from zaslon.intake import clean_arrival_seconds, clean_days
from zaslon.models.comparison import (
    MEASURES,
    REPLICATES,
    Comparison,
    Scored,
    compare_scores,
    measure_scores,
)
from zaslon.models.dataset import Days, Sample
from zaslon.models.model import Model
from zaslon.models.time_split import DAYS_ASKED, NEW_DAYS, Period
from zaslon.models.verdict import FRAUDS_MIN, Judged, Verdict, judge
from zaslon.monitoring.data_warnings import DataWarning
from zaslon.services.comparison_record import publish_comparison
from zaslon.services.context import Context, Stopwatch
from zaslon.services.featurising import Day
from zaslon.services.home import named_model
from zaslon.services.run_warnings import warnings_of_figures
from zaslon.services.samples import answers_of_day, collect_periods

DAYS_MAX = 30


@dataclass(frozen=True)
class CompareReport:
    """Two models side by side, and the verdict on the second.

    Attributes:
        models: ids by `a` and `b`; the first is None where the home has no champion.
        measures: by name of `MEASURES`, values for JSON.
        period: the days compared on, and what decided how many; None where there are none.
        frauds, transactions: compared, not weighted.
        frauds_effective: as many single frauds would say as much about ROC-AUC; None where nothing was compared.
        judged: the verdict.
        false_positive_rate_max: at which recall and loss are measured.
        replicates: of the bootstrap.
        left_out: transactions that break our own code while features are computed.
        warnings: what makes the figures doubtful.
    """

    models: Mapping[str, str | None]
    measures: Mapping[str, Mapping[str, Any]]
    period: Period | None
    frauds: int
    frauds_effective: float | None
    transactions: int
    judged: Judged
    false_positive_rate_max: float
    replicates: int
    left_out: tuple[TransactionId, ...] = ()
    warnings: Sequence[DataWarning] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values: a key for each measure, and what they are of."""
        return {
            **self.measures,
            "verdict": self.judged.verdict.value,
            "reasons": list(self.judged.reasons),
            "days_needed": self.judged.days_needed,
            "models": dict(self.models),
            "period": None if self.period is None else str(self.period),
            "periods": {} if self.period is None else {"comparison": self.period.to_json_dict()},
            "days": 0 if self.period is None else len(self.period),
            "transactions": self.transactions,
            "frauds": self.frauds,
            "frauds_effective": self.frauds_effective,
            "false_positive_rate_max": self.false_positive_rate_max,
            "replicates": self.replicates,
            "left_out": list(self.left_out),
            "warnings": [warning.to_json_dict() for warning in self.warnings],
            "seconds": dict(self.seconds),
        }


def compare(context: Context, a: str, b: str, *, days_max: int = DAYS_MAX) -> CompareReport:
    """Whether model `b` is better than model `a`. It only reads, and tells the registry.

    Args:
        a, b: names as for `named_model`.
        days_max: compare on at most this many of the newest days.

    Raises:
        ArtefactError: a model is missing, damaged or of another catalogue.
        DataError: a model does not say what it learned from, or the champion of a home without one is `b`.
    """
    watch = Stopwatch()
    first, second = named_model(context, a), named_model(context, b)
    if second is None:
        raise DataError(
            f"'{b}' is the model to judge, but the home has no champion.", hint="Name a model by its id."
        )
    models = [second] if first is None else [first, second]
    days = clean_days(context.home / "clean", context.catalogue)
    arrival = clean_arrival_seconds(context.home / "clean", context.catalogue)
    bounds = period_bounds(models, arrival, context.options.label_delay_seconds)
    period = newest_period(days, bounds, days_max)
    sample: Sample | None = None
    left_out: tuple[TransactionId, ...] = ()
    if period is not None:
        with watch.stage("features"):
            sample, left_out = _collect(context, days, period)
    with watch.stage("compare"):
        measures, judged, found = judged_on(context, first, second, sample, period, days, bounds)
    report = CompareReport(
        {"a": None if first is None else first.artefact_id, "b": second.artefact_id},
        measures, None if period is None else _counted(days, period, bounds, days_max),
        sample.frauds if sample else 0, found.frauds_effective if found else None, len(sample) if sample else 0,
        judged, context.options.false_positive_rate_max, REPLICATES, left_out, warnings_of_figures(sample),
        watch.seconds,
    )  # fmt: skip
    publish_comparison(context, report.models, report.to_json_dict(), found)
    return report


def period_bounds(models: Sequence[Model], arrival_seconds: int, label_delay_seconds: int) -> Days:
    """From the first day that is new to every model to the last whose answers are mature; may be empty.

    A day is new when every label that the model learned from was known before it; it is mature when its last
    answer had the delay to arrive before the files did.

    Raises:
        DataError: a model does not say which days it learned from, or knows answers sooner or later than counts here.
    """
    _check_delays(models, label_delay_seconds)
    first = max(first_new_day(model) for model in models)
    return Days(first, (arrival_seconds - label_delay_seconds) // SECONDS_PER_DAY - 1)


def _check_delays(models: Sequence[Model], label_delay_seconds: int) -> None:
    """On the same day models of different label delays know different answers, so features of one mislead the other."""
    delays = {model.artefact_id: duration_text(model.facts.label_delay_seconds) for model in models}
    if len(set(delays.values())) > 1:
        listed = " and ".join(f"{name} with one of {delay}" for name, delay in delays.items())
        raise DataError(
            f"Models of different label delays cannot be compared: {listed}.",
            hint="Train both with one delay; `zaslon promote ID --unguarded` lets one serve all the same.",
        )
    for name, delay in delays.items():
        if delay != duration_text(label_delay_seconds):
            raise DataError(
                f"Model {name} was trained with a label delay of {delay}, and answers count after "
                f"{duration_text(label_delay_seconds)} here: it cannot be judged on them.",
                hint=f"Judge models of that delay with ZASLON_LABEL_DELAY={delay}.",
            )


def newest_period(days: Sequence[Day], bounds: Days, days_max: int) -> Days | None:
    """The newest days within the bounds, at most so many, the last with a known answer; None if none has."""
    within = [(day, path) for day, path in days if bounds.first <= day <= bounds.last]
    while within and not sum(answers_of_day(within[-1][1])):
        within.pop()
    if not within:
        return None
    return Days(max(within[0][0], within[-1][0] - days_max + 1), within[-1][0])


def _counted(days: Sequence[Day], period: Days, bounds: Days, days_max: int) -> Period:
    """The period with what it holds, and what decided how long it is."""
    answers = [answers_of_day(path) for day, path in days if period.first <= day <= period.last]
    frauds = sum(fraud for fraud, _ in answers)
    is_cut = any(bounds.first <= day < period.first for day, _ in days)
    return Period(
        period.first, period.last, frauds, frauds + sum(good for _, good in answers), DAYS_ASKED if is_cut else NEW_DAYS
    )  # fmt: skip


def first_new_day(model: Model) -> int:
    """Day number of the first day before which every label that a model learned from was known.

    Raises:
        DataError: as `last_day_learned`.
    """
    return last_day_learned(model) + _days(model.facts.label_delay_seconds) + 1


def last_day_learned(model: Model) -> int:
    """Day number of the newest day that a model, its calibration or its thresholds come from.

    Raises:
        DataError: the model does not say which days it learned from.
    """
    learned = (model.facts.train_days, model.facts.validation_days)
    if not all(learned):
        raise DataError(
            f"Model {model.artefact_id} does not say which days it learned from, so no days are surely new to it.",
            hint="Train it again with this version.",
        )
    return max(Days.parse(days).last for days in learned)


def _days(seconds: int) -> int:
    return -(-seconds // SECONDS_PER_DAY)


def _collect(context: Context, days: Sequence[Day], period: Days) -> tuple[Sample, tuple[TransactionId, ...]]:
    context.progress.start("features", None)
    samples, left_out = collect_periods(
        context, [day for day in days if day[0] <= period.last], {"comparison": period},
        label_delay_seconds=context.options.label_delay_seconds, in_home=False,
    )  # fmt: skip
    return samples["comparison"], left_out


def judged_on(
    context: Context, first: Model | None, second: Model, sample: Sample | None, period: Days | None,
    days: Sequence[Day], bounds: Days,
) -> tuple[dict[str, dict[str, Any]], Judged, Comparison | None]:  # fmt: skip
    """Measures of two models by name, values for JSON, the verdict on the second, and the comparison if any.

    Args:
        context, first, second: the models; the first is None for a home without champion.
        sample, period: the transactions to compare on and their days; None where there are none.
        days, bounds: the clean days, and those of them that could be compared on.
    """
    if sample is None or period is None or not 0 < sample.frauds < len(sample):
        judged = _nothing_to_compare(days, bounds, period)
        if first is None:
            judged = Judged(Verdict.FIRST, ("There is no champion to compare with.", *judged.reasons))
        return _no_measures(), judged, None
    rate = context.options.false_positive_rate_max
    score = second.score(sample.x)
    before = score if first is None else first.score(sample.x)
    scored = Scored(
        before, score, sample.is_fraud, sample.amount_minor, sample.weight, len(period), sample.entity_keys
    )
    if first is None:
        _, values = measure_scores(scored, false_positive_rate_max=rate)
        reason = f"There is no champion to compare with. Alone it has a ROC-AUC of {values['roc_auc']:.4f}."
        return _measures_of_one(values), Judged(Verdict.FIRST, (reason,)), None
    context.progress.start("compare", REPLICATES)
    found = compare_scores(
        scored, false_positive_rate_max=rate, seed=context.options.seed, progress=context.progress.advance
    )
    return _measures_of_both(found), judge(found), found


def _nothing_to_compare(days: Sequence[Day], bounds: Days, period: Days | None) -> Judged:
    if period is not None:
        why = f"On {period} there are no frauds, or only frauds."
    else:
        why = (
            "No clean day can be compared on: days that are new to the models begin on "
            f"{day_text(bounds.first)}; the clean days end on {day_text(days[-1][0]) if days else 'no day'}, "
            f"and answers are mature up to {day_text(bounds.last)}."
        )
    needed = _days_for_frauds(days)
    if needed is not None:
        why += f" About {needed:,} days would have enough frauds."
    return Judged(Verdict.NOT_ENOUGH_EVIDENCE, (why,), needed)


def _days_for_frauds(days: Sequence[Day]) -> int | None:
    """How many days have the fewest frauds to compare on, by those of the newest clean days."""
    newest = days[-DAYS_MAX:]
    frauds = sum(answers_of_day(path)[0] for _, path in newest)
    return math.ceil(FRAUDS_MIN * len(newest) / frauds) if frauds else None


def _no_measures() -> dict[str, dict[str, Any]]:
    return _measures_of_one(dict.fromkeys(MEASURES))


def _measures_of_one(values: Mapping[str, float | None]) -> dict[str, dict[str, Any]]:
    measures: dict[str, dict[str, Any]] = {
        name: {"a": None, "b": value, "difference": None, "interval": None, "p": None}
        for name, value in values.items()
    }
    measures["roc_auc"] |= dict.fromkeys(("mean_a", "mean_b", "t_test_p", "delong_p"))
    return measures


def _measures_of_both(found: Comparison) -> dict[str, dict[str, Any]]:
    measures: dict[str, dict[str, Any]] = {
        name: {
            "a": m.a, "b": m.b, "difference": m.difference.value,
            "interval": [m.difference.low, m.difference.high], "p": m.p,
        }
        for name, m in found.measures.items()
    }  # fmt: skip
    measures["roc_auc"] |= {
        "mean_a": found.mean_a, "mean_b": found.mean_b,
        "t_test_p": found.t_test_p, "delong_p": found.delong.p,
    }  # fmt: skip
    return measures
