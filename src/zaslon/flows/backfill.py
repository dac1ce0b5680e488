"""Backfill: let a new log begin with what years of clean days leave in memory.

A state holds only what a window, a label or a repeat can still ask for, so the days before that are not read:
the state decides what comes as the state of all days would (tests/laws/test_backfill_laws.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zaslon.domain.errors import DataError
from zaslon.domain.events import TransactionId
from zaslon.domain.time import SECONDS_PER_DAY, day_text
from zaslon.engine.entity_pass import check_label_delay
from zaslon.features.plan import FeaturePlan, plan_features
from zaslon.intake import clean_days
from zaslon.services.context import STREAM, Context, Stopwatch
from zaslon.services.featurising import Day, Featuriser
from zaslon.services.history_mark import history_mark
from zaslon.services.logs import new_log, put_in_use


@dataclass(frozen=True)
class BackfillReport:
    """What a log begins with.

    Attributes:
        rows: transactions that were applied.
        days: those that were applied, of `days_clean`.
        remembered: transactions that the state still knows.
        labels_to_come: answers that become known after the last day; the log has to get them from elsewhere.
        left_out: transactions that break Zaslon's own code.
        state: 16 hexadecimal digits, the same for the same state.
    """

    rows: int
    days: tuple[str, ...]
    days_clean: int
    remembered: int
    labels_to_come: int
    left_out: tuple[TransactionId, ...]
    state: str
    seconds: float
    path: str

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rows_applied": self.rows, "days": list(self.days), "days_clean": self.days_clean,
            "remembered": self.remembered, "labels_to_come": self.labels_to_come, "left_out": list(self.left_out),
            "state": self.state, "position": 0, "seconds": {"backfill": self.seconds}, "paths": {"log": self.path},
        }  # fmt: skip


def backfill(context: Context, clean: Path) -> BackfillReport:
    """Begin the home's log with the state after clean days, whichever engine has cleaned them.

    Raises:
        InputError: `clean` is no output of `zaslon clean` with this catalogue.
        DataError: the home has a log already, there are no days, or labels come later than what is remembered.
    """
    _check_new(context)
    plan, delay = plan_features(context.catalogue), context.options.label_delay_seconds
    check_label_delay(plan, delay)
    days = clean_days(clean, context.catalogue)
    chosen = decisive_days(plan, days, delay)
    if not chosen:
        raise DataError(f"'{clean}' has no clean days.", hint="Clean files with rows first.")
    watch = Stopwatch()
    featuriser = Featuriser(context.catalogue, context.key, delay, context.progress.warn)
    rows = 0
    context.progress.start("backfill", None)
    with watch.stage("backfill"):
        for part in featuriser.days(chosen):
            rows += len(part.transactions)
            context.progress.advance(len(part.transactions))
        log = new_log(context)
        with closing(log.open_journal()) as journal:
            featuriser.engine.save(log.open_snapshots(journal))
        put_in_use(context)
    history = featuriser.engine.history
    return BackfillReport(
        rows, tuple(day_text(day) for day, _ in chosen), len(days), len(history), featuriser.labels_to_come,
        tuple(featuriser.left_out), history_mark(context.catalogue, history), watch.seconds["backfill"],
        str(context.home / context.log),
    )  # fmt: skip


def decisive_days(plan: FeaturePlan, days: Sequence[Day], label_delay_seconds: int) -> list[Day]:
    """The newest of the days, oldest first, on which a state after all of them depends."""
    if not days:
        return []
    begin = days[-1][0] * SECONDS_PER_DAY - plan.decisive_seconds(label_delay_seconds)
    return [day for day in days if day[0] >= begin // SECONDS_PER_DAY]


def _check_new(context: Context) -> None:
    for name in (context.log, STREAM):
        if (context.home / name).is_dir():
            raise DataError(
                f"'{context.home / name}' is there already: its log has begun, and its past stays as it is.",
                hint="Backfill into a new home, or move that directory away first.",
            )
