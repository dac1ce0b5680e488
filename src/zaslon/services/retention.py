"""Retention: original bytes leave logs and quarantines after `original_retention_days`; typed records stay.

Decisions stay explainable and are replayed from the typed records. Only logs that are kept here are
concerned: how long a broker keeps records is its own affair.
"""

from __future__ import annotations

from contextlib import closing
from threading import Thread

from polars.exceptions import PolarsError

from zaslon.domain.errors import ZaslonError
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.intake.quarantine import QUARANTINES, forget_raw_rows
from zaslon.ports import Clock, Journal
from zaslon.services.context import SCORED, Context
from zaslon.services.logs import discard_outputs, logs_put_aside

_RECORDS_AT_ONCE = 10_000  # about 20 ms
_LOOK_SECONDS = 3600.0  # between two looks for what is due
_PAUSE_SECONDS = 0.2  # between two parts of what is due, so that no decision waits for more than one


def forget_old_originals(context: Context, journal: Journal) -> None:
    """Remove what is due from a log, from the archived logs and from the quarantines of the home."""
    days = context.options.original_retention_days
    if not days:
        return
    before = _cutoff_seconds(context.adapters.clock, days)
    _forget(journal, before)
    for aside in logs_put_aside(context):
        try:
            with closing(aside.open_journal()) as old:
                _forget(old, before)
        except ZaslonError as error:  # as of an earlier format
            context.progress.warn(f"The original bytes in log '{aside.log}' were not removed: {error}")
    _forget_in_quarantines(context, before)


def _forget_in_quarantines(context: Context, before_seconds: int) -> None:
    """Remove the bytes of rejected rows from what was written before a time; why they were rejected stays.

    What a killed process left of clean data is removed, whenever it was written.
    """
    try:
        discard_outputs(context)
    except OSError as error:
        context.progress.warn(f"What a killed process left in '{context.home}' was not removed: {error}")
    for path in (
        *(context.home / "clean").glob(QUARANTINES),
        *(context.home / SCORED).glob(f"*/{QUARANTINES}"),
    ):
        try:
            if path.exists() and path.stat().st_mtime < before_seconds:
                forget_raw_rows(path)
        except (OSError, PolarsError) as error:
            context.progress.warn(f"The original bytes in '{path}' were not removed: {error}")


class OriginalRetention:
    """Removes what is due from the log in use, a little between two groups of the decision worker."""

    def __init__(self, context: Context, journal: Journal) -> None:
        self._days, self._clock = context.options.original_retention_days, context.adapters.clock
        self._journal, self._warn, self._context = journal, context.progress.warn, context
        self._quarantines: Thread | None = None  # their files may be large, and no decision waits for them
        self._next_seconds = self._clock.monotonic_seconds()

    def step(self) -> None:
        """Remove a part of what is due, if it is time."""
        if not self._days or self._clock.monotonic_seconds() < self._next_seconds:
            return
        pause = _LOOK_SECONDS
        try:
            before = _cutoff_seconds(self._clock, self._days)
            if self._journal.forget_originals(before, _RECORDS_AT_ONCE):
                pause = _PAUSE_SECONDS
            else:
                self._forget_in_quarantines(before)
        except ZaslonError as error:  # deciding continues; the next check tries again
            self._warn(f"Original bytes were not removed from the log: {error}")
        self._next_seconds = self._clock.monotonic_seconds() + pause

    def _forget_in_quarantines(self, before_seconds: int) -> None:
        if self._quarantines is None or not self._quarantines.is_alive():
            arguments = (self._context, before_seconds)
            self._quarantines = Thread(target=_forget_in_quarantines, args=arguments, daemon=True)
            self._quarantines.start()


def _cutoff_seconds(clock: Clock, days: int) -> int:
    return int(clock.now_seconds()) - days * SECONDS_PER_DAY


def _forget(journal: Journal, before_seconds: int) -> None:
    while journal.forget_originals(before_seconds, _RECORDS_AT_ONCE):
        pass
