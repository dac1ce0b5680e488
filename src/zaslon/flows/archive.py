"""Archive: the decisions of a log, copied to PostgreSQL as they come, each once.

The archive is a copy. It is filled by a process of its own that reads the log, so nothing on the deciding path knows of
it, and a server that is away only makes it late.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice, takewhile
from typing import Any

from zaslon.domain.errors import ServerError
from zaslon.domain.events import NO_KEY, LogBatch
from zaslon.domain.outcomes import Decision
from zaslon.domain.recorded import Recorded
from zaslon.domain.time import SECONDS_PER_DAY, time_text
from zaslon.ports import LogReader
from zaslon.ports.archives import Archive, ArchivedDecision
from zaslon.services.context import Context
from zaslon.services.logs import GrowingLog, existing_log

_OUTCOMES = 5_000  # in one transaction
_POLL_SECONDS, _RETRY_SECONDS = 1.0, 5.0


@dataclass
class ArchiveReport:
    """What was archived.

    Attributes:
        decisions: that were copied.
        days_dropped: because they were older than asked for.
        next_position: of the log.
    """

    decisions: int = 0
    days_dropped: int = 0
    next_position: int = 0

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def archive(
    context: Context, *, keep_days: int | None, is_over: Callable[[float], bool], notify: Callable[[str], None],
    waits: bool,
) -> ArchiveReport:  # fmt: skip
    """Copy the decisions of a log until it is over.

    Args:
        context: the home and its log.
        keep_days: days that are kept, back from the newest decision; None for all.
        is_over: called after everything was copied, with seconds to wait for more; True ends it.
        notify: given a sentence when the server is away, and when it is back.
        waits: whether a server that is away is waited for.

    Raises:
        BusyError: another process archives the same log.
        DataError: there is no log.
        ServerError: there is no PostgreSQL, or it is away and is not waited for.
    """
    existing_log(context)
    report = ArchiveReport()
    is_away = False
    with closing(context.open_archive()) as kept, closing(GrowingLog(context)) as log:
        while True:
            try:
                _catch_up(log.reader(), kept, report, keep_days)
                if is_away:
                    notify("The archive's server answers again.")
                is_away = False
            except ServerError as error:
                if not waits:
                    raise
                log.close()
                if not is_away:
                    notify(str(error))
                is_away = True
            if is_over(_RETRY_SECONDS if is_away else _POLL_SECONDS):
                return report


def _catch_up(journal: LogReader, kept: Archive, report: ArchiveReport, keep_days: int | None) -> None:
    newest_day, identity = 0, journal.identity
    place = kept.next_position(identity)
    for decisions, next_position in _parts(journal, place, journal.next_position):
        kept.keep(identity, decisions, place, next_position)
        place = next_position
        report.decisions += len(decisions)
        newest_day = max([newest_day, *(decision.day for decision in decisions)])
    report.next_position = place
    if keep_days is not None and newest_day:
        report.days_dropped += kept.forget_before(identity, newest_day - keep_days + 1)


def _parts(journal: LogReader, place: int, end: int) -> Iterator[tuple[list[ArchivedDecision], int]]:
    """Decisions of [place, end) in parts, each with the position after it."""
    if place >= end:
        return
    outcomes = takewhile(lambda recorded: recorded.position < end, journal.outcomes(place))
    entities = _Entities(journal.read(place, end, originals=False))
    while part := list(islice(outcomes, _OUTCOMES)):
        yield list(_decisions(part, entities)), part[-1].position + 1


class _Entities:
    """Whose transactions are, by log position. Positions are asked for in order.

    Args:
        batches: of the log, from the first position that is asked for on.
    """

    def __init__(self, batches: Iterator[LogBatch]) -> None:
        self._batches, self._end = batches, 0
        self._found: dict[int, tuple[tuple[str, int], ...]] = {}

    def at(self, position: int) -> tuple[tuple[str, int], ...]:
        """(entity, key) of each that the transaction has."""
        while position >= self._end:
            batch = next(self._batches)
            self._end, keys = batch.end_position, batch.transactions.entity_keys
            rows = zip(*(column.tolist() for column in keys.values()), strict=True)
            positions = (batch.first_position + batch.transaction_index).tolist()
            self._found = {
                at: tuple((name, key) for name, key in zip(keys, row, strict=True) if key != NO_KEY)
                for at, row in zip(positions, rows, strict=True)
            }
        return self._found[position]


def _decisions(outcomes: Iterable[Recorded], entities: _Entities) -> Iterator[ArchivedDecision]:
    for recorded in outcomes:
        decision = recorded.outcome
        if not isinstance(decision, Decision):
            continue
        moment, score = decision.event_time_seconds, decision.score
        yield ArchivedDecision(
            moment // SECONDS_PER_DAY, decision.position, str(decision.transaction_id), time_text(moment),
            decision.action.code, None if math.isnan(score) else score, decision.versions.model,
            decision.versions.policy, recorded.json, entities.at(decision.position),
        )  # fmt: skip
