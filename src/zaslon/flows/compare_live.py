"""Compare a challenger with the champion on what both have decided live, with the labels known so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import DataError
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX
from zaslon.models.comparison import Scored, compare_scores
from zaslon.models.fraud_groups import fraud_groups
from zaslon.models.fraud_series import SERIES_SECONDS, fraud_series
from zaslon.models.live import LiveComparison, LiveFrauds, compare_live, judge_live
from zaslon.models.metrics import DAYS_PER_MONTH
from zaslon.models.model import Model
from zaslon.models.verdict import Judged
from zaslon.monitoring.data_warnings import DataWarning
from zaslon.ports.shadows import Match, Shadowed, ShadowStore
from zaslon.services.context import Context
from zaslon.services.home import named_model, no_champion
from zaslon.services.logs import existing_log

_GOOD_ROWS_MAX = 200_000  # for the measures of ranking
_EVER = EVENT_TIME_SECONDS_MAX + 1


@dataclass(frozen=True)
class LiveReport:
    """What is known so far of a match, and the verdict on its challenger.

    Attributes:
        match: champion and challenger, and the part of the log that both have decided.
        found: rates with bounds that hold at every look.
        judged: the verdict.
        lost_a, lost_b: minor units lost in 30 days by each, on the days whose answers are mature.
        ranking: ROC-AUC and PR-AUC by name, values for JSON; they hold for a single look.
    """

    match: Match
    found: LiveComparison
    judged: Judged
    lost_a: float
    lost_b: float
    ranking: Mapping[str, Mapping[str, Any]]

    @property
    def warnings(self) -> list[DataWarning]:
        """What makes the challenger doubtful beside its figures."""
        late = self.match.late
        if not late:
            return []
        hint = "It would not keep up in front either: give the shadow a faster machine, or more time (`--within`)."
        return [
            DataWarning("late_decisions", f"{late:,} transactions were decided later than asked for.", hint)
        ]

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values: a key for each measure, as for `zaslon compare`."""
        found, match = self.found, self.match
        return {
            **self.ranking,
            "recall": _measure(found.recall_a, found.recall_b, [found.recall.low, found.recall.high]),
            "false_positive_rate": _measure(found.false_positive_rate_a, found.false_positive_rate_b, None),
            "loss_minor_per_month": _measure(self.lost_a, self.lost_b, None),
            "verdict": self.judged.verdict.value,
            "reasons": list(self.judged.reasons),
            "days_needed": self.judged.days_needed,
            "models": {"a": match.champion.model, "b": match.challenger.model},
            "policies": {"a": match.champion.policy, "b": match.challenger.policy},
            "positions": [match.first_position, match.next_position],
            "days": found.days,
            "transactions": match.transactions,
            "late": match.late,
            "frauds": found.frauds,
            "series": found.series,
            "good": found.good,
            "judged_share": _number(found.judged_share),
            "warnings": [warning.to_json_dict() for warning in self.warnings],
        }  # fmt: skip


def compare_live_models(context: Context, a: str, b: str) -> LiveReport:
    """Whether challenger `b` is better than champion `a` on what both have decided live. It only reads.

    Args:
        context: the home and its log.
        a, b: names as for `named_model`.

    Raises:
        DataError: they have decided nothing beside each other.
    """
    with closing(existing_log(context).open_journal_for_reading()) as journal:
        identity = journal.identity
    if not context.shadow_file(identity).exists():
        raise DataError(
            f"Nothing has decided beside '{a}' in this log.", hint=f"Start it: `zaslon shadow {b}`."
        )
    first, second = _named(context, a), _named(context, b)
    with closing(context.open_shadow(identity, reading=True)) as store:
        match = store.match(first.artefact_id, second.artefact_id)
        if match is None:
            raise DataError(
                f"Model {second.artefact_id} has decided nothing beside model {first.artefact_id}.",
                hint=f"Start it: `zaslon shadow {b}`.",
            )
        return _report(context, store, match)


def _named(context: Context, name: str) -> Model:
    model = named_model(context, name)
    if model is None:
        raise no_champion(context.home)
    return model


def _report(context: Context, store: ShadowStore, match: Match) -> LiveReport:
    options = context.options
    mature = int(context.adapters.clock.now_seconds()) - options.label_delay_seconds
    # Only among the old ones the frauds that came to light late are known too.
    frauds, good = store.frauds(match).before(mature), store.good(match, mature, _GOOD_ROWS_MAX)
    counts, days = store.stopped(match, mature), store.days(match, mature)
    stops, judged_stops = store.judged_stops(match, mature)
    found = compare_live(
        LiveFrauds(frauds.action_champion > 0, frauds.action_challenger > 0, _series(frauds, good, mature)),
        good=counts.good, good_stopped_a=counts.champion, good_stopped_b=counts.challenger,
        days=store.days(match, _EVER), days_counted=store.days(match, mature - SERIES_SECONDS),
        judged_share=judged_stops / stops if stops else math.nan,
    )  # fmt: skip
    judged = judge_live(found, false_positive_rate_max=options.false_positive_rate_max)
    lost_a, lost_b = (
        _lost(frauds, action, days) for action in (frauds.action_champion, frauds.action_challenger)
    )
    return LiveReport(
        match, found, judged, lost_a, lost_b, _ranking(context, frauds, good, counts.good, days)
    )


def _series(frauds: Shadowed, good: Shadowed, mature_seconds: int) -> NDArray[np.int64]:
    """int64[frauds]: see `fraud_series`."""
    if not len(frauds):
        return np.empty(0, np.int64)
    parts = (frauds.entity_keys, good.entity_keys) if len(good) else (frauds.entity_keys,)
    is_fraud = np.repeat(np.array([1, 0], np.int8), [len(frauds), len(good)])
    groups = fraud_groups(np.concatenate(parts), is_fraud)
    return fraud_series(groups, frauds.event_time_seconds, mature_seconds)


def _lost(frauds: Shadowed, action: NDArray[np.uint8], days: int) -> float:
    return float(frauds.amount_minor[action == 0].sum()) * DAYS_PER_MONTH / days if days else math.nan


def _ranking(
    context: Context, frauds: Shadowed, good: Shadowed, good_count: int, days: int
) -> dict[str, dict[str, Any]]:
    """ROC-AUC and PR-AUC of both, where both have scores."""
    frauds_scored, good_scored = (_with_scores(part) for part in (frauds, good))
    if not frauds_scored.any() or not good_scored.any():
        empty = {"a": None, "b": None, "difference": None, "interval": None, "p": None}
        return {"roc_auc": {**empty, "t_test_p": None, "delong_p": None}, "pr_auc": dict(empty)}
    parts = [(frauds, frauds_scored, 1.0), (good, good_scored, good_count / max(1, len(good)))]

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name)[chosen] for part, chosen, _ in parts])

    is_fraud = np.repeat([1, 0], [frauds_scored.sum(), good_scored.sum()]).astype(np.int8)
    weight = np.where(is_fraud == 1, parts[0][2], parts[1][2])
    scored = Scored(
        joined("score_champion"), joined("score_challenger"), is_fraud, joined("amount_minor"), weight, max(1, days),
        joined("entity_keys"),
    )  # fmt: skip
    found = compare_scores(
        scored, false_positive_rate_max=context.options.false_positive_rate_max, seed=context.options.seed
    )
    values = {}
    for name in ("roc_auc", "pr_auc"):
        m = found.measures[name]
        values[name] = {**_measure(m.a, m.b, [m.difference.low, m.difference.high]), "p": m.p}
    values["roc_auc"] |= {"t_test_p": found.t_test_p, "delong_p": found.delong.p}
    return values


def _with_scores(part: Shadowed) -> Any:
    return ~np.isnan(part.score_champion) & ~np.isnan(part.score_challenger)


def _measure(a: float, b: float, interval: list[float] | None) -> dict[str, Any]:
    return {
        "a": _number(a), "b": _number(b), "difference": _number(b - a),
        "interval": None if interval is None else _interval(*interval), "p": None,
    }  # fmt: skip


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _interval(low: float, high: float) -> list[float] | None:
    return [low, high] if math.isfinite(low) and math.isfinite(high) else None
