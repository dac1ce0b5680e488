"""A challenger against the champion: one verdict and the guards, on days that neither has learned from.

`retrain` and `promote` ask the same questions here, so a model that a person promotes has shown what every other
one had to show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.errors import ArtefactError, ZaslonError
from zaslon.domain.events import TransactionId
from zaslon.domain.ledger import ROLLBACK
from zaslon.domain.outcomes import Decision, Outcome
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.features.plan import plan_features
from zaslon.flows.compare import DAYS_MAX, judged_on, last_day_learned, newest_period, period_bounds
from zaslon.intake import clean_arrival_seconds, clean_days
from zaslon.models.artefact import load_model
from zaslon.models.comparison import Comparison
from zaslon.models.dataset import Days, Sample
from zaslon.models.guards import (
    Guard,
    Stops,
    age_guard,
    business_guards,
    calibration_guard,
    drift_guard,
    integrity_guard,
    leak_guard,
    not_checked,
    parity_guard,
    rollback_guard,
    segment_guards,
    size_guard,
    speed_guard,
)
from zaslon.models.metrics import Evaluation
from zaslon.models.model import Model
from zaslon.models.verdict import Judged, Verdict
from zaslon.services.context import Context
from zaslon.services.featurising import Day
from zaslon.services.home import Champion
from zaslon.services.model_training import evaluate_sample
from zaslon.services.run_warnings import warnings_of_figures
from zaslon.services.samples import collect_periods
from zaslon.services.segments import segments

_SERVED_LOOKED_AT = 2_000  # transactions looked up in the log


@dataclass(frozen=True)
class Evidence:
    """What a challenger is judged on.

    Attributes:
        days: the clean days.
        bounds: from the first day that is new to both models to the last whose answers are mature.
        period: the days of `sample` within them; None where there is none.
        sample: transactions of that period; None where there are none.
        validation: those that the challenger was calibrated on; None where they are not at hand.
    """

    days: Sequence[Day]
    bounds: Days
    period: Days | None
    sample: Sample | None
    validation: Sample | None


@dataclass(frozen=True)
class Challenge:
    """The verdict on a challenger and every guard with its number.

    Attributes:
        judged: the verdict with its reasons.
        measures: of both models by name, values for JSON.
        guards: all of them, in a fixed order.
        period: the days compared on.
        frauds, transactions: compared, not weighted.
        comparison: with the replicates; None where the models could not be compared.
    """

    judged: Judged
    measures: Mapping[str, Mapping[str, Any]]
    guards: tuple[Guard, ...]
    period: Days | None
    frauds: int
    transactions: int
    comparison: Comparison | None = None

    @property
    def may_serve(self) -> bool:
        """Whether it is better, or the first one, and passes every guard. Without a fraud, nothing is shown."""
        shown = self.judged.verdict in (Verdict.FIRST, Verdict.BETTER)
        return shown and self.frauds > 0 and not self.refusals

    @property
    def refusals(self) -> list[str]:
        """The guards that are not kept, in sentences."""
        broken = [guard for guard in self.guards if not guard.passed]
        return [f"{guard.name}: {guard.detail} The limit is {guard.limit:,g}." for guard in broken]

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "verdict": self.judged.verdict.value,
            "reasons": list(self.judged.reasons),
            "days_needed": self.judged.days_needed,
            "guards": [guard.to_json_dict() for guard in self.guards],
            "not_checked": not_checked(self.guards),
            "measures": {name: dict(values) for name, values in self.measures.items()},
            "period": None if self.period is None else str(self.period),
            "frauds": self.frauds,
            "transactions": self.transactions,
        }


def challenge(
    context: Context, challenger: Champion, champion: Champion | None, evidence: Evidence
) -> Challenge:
    """Judge a saved challenger with its policy against the champion, if there is one. It only reads."""
    sample = evidence.sample
    before = None if champion is None else champion[0]
    measures, judged, comparison = judged_on(
        context, before, challenger[0], sample, evidence.period, evidence.days, evidence.bounds
    )
    guards = [*_of_models(context, challenger[0], before, sample)]
    if sample is not None and 0 < sample.frauds < len(sample):
        guards = [*_of_sample(context, challenger, champion, sample, evidence), *guards]
    return Challenge(
        judged, measures, tuple(guards), evidence.period,
        0 if sample is None else sample.frauds, 0 if sample is None else len(sample), comparison,
    )  # fmt: skip


def evidence_for(context: Context, challenger: Model, champion: Model | None) -> Evidence:
    """What the home's clean days show of a model that was trained before; for a new one its samples are at hand.

    Raises:
        DataError: a model does not say what it learned from.
    """
    days = clean_days(context.home / "clean", context.catalogue)
    arrival = clean_arrival_seconds(context.home / "clean", context.catalogue)
    models = [challenger] if champion is None else [champion, challenger]
    bounds = period_bounds(models, arrival, context.options.label_delay_seconds)
    period = newest_period(days, bounds, DAYS_MAX)
    if period is None:
        return Evidence(days, bounds, None, None, None)
    periods = {"comparison": period}
    validation = Days.parse(challenger.facts.validation_days)
    if any(validation.first <= day <= validation.last for day, _ in days):
        periods["validation"] = validation
    context.progress.start("features", None)
    samples, _ = collect_periods(
        context, [day for day in days if day[0] <= period.last], periods,
        label_delay_seconds=context.options.label_delay_seconds, in_home=False,
    )  # fmt: skip
    return Evidence(days, bounds, period, samples["comparison"], samples.get("validation"))


def _of_sample(
    context: Context,
    challenger: Champion,
    champion: Champion | None,
    sample: Sample,
    evidence: Evidence,
) -> list[Guard]:
    """The guards that need transactions with their answers."""
    options, validation = context.options, evidence.validation
    score = challenger[0].score(sample.x)
    before = None if champion is None else champion[0].score(sample.x)
    found = _evaluated(context, challenger, score, sample)
    found_before = (
        None if champion is None or before is None else _evaluated(context, champion, before, sample)
    )
    weight = sample.weight.astype(np.float64)
    stops, parts = None, {}
    if champion is not None and before is not None:
        stops = Stops(_stopped(challenger, score), _stopped(champion, before))
        parts = segments(sample, plan_features(context.catalogue), evidence.days)
    guards = [
        *business_guards(
            found, found_before, false_positive_rate_max=options.false_positive_rate_max,
            loss_minor_per_month_max=options.loss_per_month_max * 10**context.catalogue.minor_digits,
        ),
        calibration_guard(found, options.guard_calibration_max),
        *segment_guards(
            parts, sample.is_fraud, weight, stops,
            drop_max=options.guard_segment_max, rise_max=options.guard_segment_max,
        ),
        leak_guard([warning.message for warning in warnings_of_figures(sample)]),
        served_parity(context, champion, before, sample),
    ]  # fmt: skip
    if validation is not None:
        then = challenger[0].score(validation.x)
        drift = drift_guard(
            then, validation.weight.astype(np.float64), score, weight, options.guard_drift_max
        )  # fmt: skip
        guards.append(drift)
    return guards


def _of_models(
    context: Context, challenger: Model, champion: Model | None, sample: Sample | None
) -> list[Guard]:
    """The guards of the artefact itself."""
    options = context.options
    guards = [
        age_guard(last_day_learned(challenger), None if champion is None else last_day_learned(champion)),
        size_guard(challenger, options.guard_model_bytes_max),
        rollback_guard(_rolled_back(context, challenger.artefact_id)),
    ]
    if sample is None or not len(sample):
        return guards
    try:
        saved, problem = (
            load_model(context.home / "models" / challenger.artefact_id, context.catalogue.hash),
            "",
        )
    except ArtefactError as error:
        saved, problem = None, error.message
    return [
        *guards,
        integrity_guard(saved, challenger, sample.x, problem),
        speed_guard(challenger, sample.x, options.guard_score_us_max),
    ]


def _rolled_back(context: Context, model_id: str) -> int:
    entries = [entry.promotion for entry in context.open_ledger().entries()]
    return sum(
        before.model == model_id != after.model and after.action == ROLLBACK
        for before, after in pairwise(entries)
    )


def _evaluated(
    context: Context, champion: Champion, score: NDArray[np.float64], sample: Sample
) -> Evaluation:
    thresholds = champion[1].thresholds
    return evaluate_sample(
        score, sample, thresholds.review, thresholds.block, context.options.seed, replicates=0
    )


def _stopped(champion: Champion, score: NDArray[np.float64]) -> NDArray[np.bool_]:
    stopped: NDArray[np.bool_] = score >= champion[1].thresholds.review
    return stopped


def served_parity(
    context: Context, champion: Champion | None, recomputed: NDArray[np.float64] | None, sample: Sample
) -> Guard:
    """Compare the scores that the champion gave in the home's log, or in a stream, with those of the clean data.

    Those of a stream are looked up in the archive of decisions.
    """
    nothing, share_max = np.empty(0), context.options.guard_served_max
    if champion is None or recomputed is None:
        return parity_guard(nothing, nothing, share_max)
    step = max(1, -(-len(sample) // _SERVED_LOOKED_AT))
    rows = np.arange(0, len(sample), step)
    times: list[int] = sample.event_time_seconds[rows].tolist()
    looked_at = dict(
        zip(_public_ids(context, sample, rows), zip(times, rows.tolist(), strict=True), strict=True)
    )
    served = _served_scores(context, champion[0].artefact_id, looked_at)
    of_rows = np.array([row for row, _ in served], np.int64)
    return parity_guard(np.array([score for _, score in served]), recomputed[of_rows], share_max)


def _served_scores(
    context: Context, model_id: str, looked_at: Mapping[TransactionId, tuple[int, int]]
) -> list[tuple[int, float]]:
    """(row, score) of each decision of a model about transactions, given as their times and rows."""
    wanted = [(named, moment) for named, (moment, _) in looked_at.items()]
    found: dict[tuple[int, int], float] = {}  # by log position too: the archive may copy the log
    for open_place in context.served_decisions():
        try:
            with closing(open_place()) as place:
                decisions = place.newest_decisions(wanted)
        except ZaslonError as error:  # a log of an earlier format, for example: it has nothing to compare
            context.progress.warn(f"Served scores cannot be compared: {error.message}")
            continue
        for named, recorded in decisions:
            moment, row = looked_at[named]
            if (score := _score_of(recorded.outcome, model_id, moment)) is not None:
                found[row, recorded.position] = score
    return [(row, score) for (row, _), score in found.items()]


def _score_of(outcome: Outcome, model_id: str, event_time_seconds: int) -> float | None:
    """The score that the model itself gave to this very transaction, if it did: its id may be another one's since."""
    if not isinstance(outcome, Decision) or outcome.degraded is not None:
        return None
    is_it = (outcome.versions.model, outcome.event_time_seconds) == (model_id, event_time_seconds)
    return outcome.score if is_it else None


def _public_ids(context: Context, sample: Sample, rows: NDArray[np.int64]) -> Sequence[TransactionId]:
    """What people know these rows by: the sample has numbers only, also of ids that are texts."""
    numbers: list[int] = sample.transaction_id[rows].tolist()
    if not context.catalogue.has_text_ids:
        return numbers
    days = np.unique(sample.event_time_seconds[rows] // SECONDS_PER_DAY)
    texts = _texts_of(context, days.tolist())
    return [texts[number] for number in numbers]


def _texts_of(context: Context, days: Sequence[int]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for day, path in clean_days(context.home / "clean", context.catalogue):
        if day in days:
            ids = pl.read_parquet(path, columns=["transaction_key", "transaction_id"])
            texts.update(zip(ids["transaction_key"].to_list(), ids["transaction_id"].to_list(), strict=True))
    return texts
