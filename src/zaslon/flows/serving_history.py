"""What decided at a moment: from the records of the log, with who and why from the promotion ledger.

The ledger says what people decided, the log what was done: a process may refuse a model, a crash may come between
the two, and a policy that was edited is in the log only. A moment that no log can answer for is answered from the
ledger, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import orjson

from zaslon.domain.errors import DataError, ZaslonError
from zaslon.domain.ledger import IMPORT, LedgerEntry, entries_that_served
from zaslon.domain.outcomes import Serving
from zaslon.domain.time import time_text
from zaslon.ports import LogReader
from zaslon.services.context import STREAM, Context
from zaslon.services.logs import logs_put_aside, with_named_log
from zaslon.services.promotion_ledger import entry_of

LOG = "log"


@dataclass(frozen=True)
class Served:
    """What decided at a moment.

    Attributes:
        model, policy, catalogue: by their ids.
        since_seconds, until_seconds: from when to when; `since` is None where neither log nor ledger has it, `until`
            where nothing has followed.
        position: in the log: of the change, or of its first record.
        log: identity of the log; None where it is not known.
        entry: of the ledger, that made it decide; None where the ledger does not have it.
        by, reason: who and why, in words.
        waiting: a later entry that had not taken effect at the moment: refused, or interrupted.
        note: why this is the ledger's view; None for an answer from the log.
    """

    model: str
    policy: str
    catalogue: str
    since_seconds: int | None
    until_seconds: int | None
    position: int | None
    log: str | None
    entry: LedgerEntry | None
    by: str | None
    reason: str | None
    waiting: LedgerEntry | None = None
    note: str | None = None

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, times as text."""
        promotion = None if self.entry is None else self.entry.promotion
        return {
            "model": self.model, "policy": self.policy, "catalogue": self.catalogue,
            "since": _text(self.since_seconds), "until": _text(self.until_seconds),
            "position": self.position, "log": self.log,
            "source": "log" if self.note is None else "ledger", "note": self.note,
            "entry": None if self.entry is None else self.entry.number, "by": self.by, "reason": self.reason,
            "approval": None if promotion is None else promotion.approval,
            "verdict": None if promotion is None else promotion.verdict,
            "evidence": None if promotion is None else orjson.loads(promotion.evidence),
            "entry_not_taken_over": None if self.waiting is None else self.waiting.number,
        }  # fmt: skip


def _text(seconds: int | None) -> str | None:
    return None if seconds is None else time_text(seconds)


def served_at(context: Context, seconds: int, log: str | None = None) -> Served:
    """What decided at a moment.

    Args:
        context: of the home.
        seconds: the moment, since 1970.
        log: its name; None for the stream's in a home that has one, otherwise for the log in use and those before it.

    Raises:
        DataError: neither a log nor the ledger knows anything from then.
        ZaslonError: there is no log of such a name, or the store cannot be used.
    """
    entries = context.open_ledger().entries()
    try:
        found = _in_logs(_logs(context, log), entries, seconds)
        note = "No log has a record from before that moment."
    except ZaslonError as error:
        found, note = None, f"The log cannot be read: {error.message}"
    return found or _in_ledger(entries, seconds, note)


def _logs(context: Context, name: str | None) -> list[Context]:
    if name is None and not (context.home / STREAM).is_dir():
        name = LOG
    named = with_named_log(context, name or STREAM)
    logs = [*logs_put_aside(context), named] if name == LOG else [named]
    return [log for log in logs if log.log == STREAM or (log.home / log.log).is_dir()]


def _in_logs(logs: Sequence[Context], entries: Sequence[LedgerEntry], seconds: int) -> Served | None:
    """From the log that was begun last before the moment: a new run puts the one before it aside."""
    found = [period for log in logs for period in _periods_back_to(log, entries, seconds)]
    begun = [period for period in found if period.since_seconds is None or period.since_seconds <= seconds]
    if not begun:
        return None
    served = max(begun, key=lambda period: period.since_seconds or 0)
    later = [since for period in found if (since := period.since_seconds or 0) > seconds]
    waiting = _waiting(served, entries, seconds)
    return replace(served, until_seconds=min(later, default=None), waiting=waiting)


def _periods_back_to(log: Context, entries: Sequence[LedgerEntry], seconds: int) -> Iterator[Served]:
    """Newest first, down to the one of the moment: in Kafka earlier ones would have to be looked for."""
    with closing(log.open_journal_for_reading()) as reader:
        for served in _periods(reader, entries):
            yield served
            if served.since_seconds is None or served.since_seconds <= seconds:
                return


def _periods(reader: LogReader, entries: Sequence[LedgerEntry]) -> Iterator[Served]:
    """Newest first. What another release of the engine, or the same promoted again, has continued is one."""
    until: int | None = None
    for (model, policy, catalogue), same in groupby(reader.servings(), _champion):
        *_, first = same
        entry, since = _begin(first, entries, reader.identity, until)
        by, reason = None, None
        if first.change is not None:
            by, reason = first.change.by, first.change.reason
        elif entry is not None:
            by, reason = entry.promotion.actor, f"{entry.promotion.action}, entry {entry.number}"
        yield Served(
            model, policy, catalogue, since, until, first.position, reader.identity, entry, by, reason
        )
        until = since


def _champion(serving: Serving) -> tuple[str, str, str]:
    return serving.versions.model, serving.versions.policy, serving.versions.catalogue


def _begin(
    first: Serving, entries: Sequence[LedgerEntry], log: str, until: int | None
) -> tuple[LedgerEntry | None, int | None]:
    """The entry that something decided by, and since when it did.

    A log begins without a change, and the rows of files have the times of their transactions: what began it is the
    newest fitting entry from before its first record, or before what followed. An import of later only notes what had
    served since the log began.
    """
    if first.change is not None:
        return entry_of(first.change, entries), first.seconds
    fitting = [
        entry
        for entry in entries
        if entry.promotion.serving[:2] == (first.versions.model, first.versions.policy)
        and (until is None or entry.promotion.recorded_seconds <= until)
    ]
    own = [entry for entry in fitting if entry.promotion.log == log and not entry.promotion.position]
    before = [entry for entry in fitting if entry.promotion.recorded_seconds <= (first.seconds or 0)]
    if not fitting:
        return None, first.seconds
    entry = (own or before or fitting)[-1]
    is_late = not own and not before and entry.promotion.action == IMPORT
    if is_late and first.seconds is not None:  # else the log has lost its beginning, and what served then
        return entry, first.seconds
    return entry, max(entry.promotion.recorded_seconds, first.seconds or 0)


def _waiting(served: Served, entries: Sequence[LedgerEntry], seconds: int) -> LedgerEntry | None:
    """The newest entry at a moment, if it names something else than what decided then."""
    newest = [entry for entry in entries if entry.promotion.recorded_seconds <= seconds][-1:]
    for entry in newest:
        is_later = entry.promotion.recorded_seconds >= (served.since_seconds or 0)
        if is_later and entry.promotion.serving[:2] != (served.model, served.policy):
            return entry
    return None


def _in_ledger(entries: Sequence[LedgerEntry], seconds: int, note: str) -> Served:
    served = entries_that_served(entries)
    begun = [entry for entry in served if entry.promotion.recorded_seconds <= seconds]
    if not begun:
        raise DataError(
            f"Neither a log nor the ledger has anything from before {time_text(seconds)}.",
            hint="`zaslon history` lists its entries; `zaslon store migrate` records a champion from before it.",
        )
    entry, later = begun[-1], served[len(begun) :]
    promotion = entry.promotion
    return Served(
        *promotion.serving, promotion.recorded_seconds,
        later[0].promotion.recorded_seconds if later else None, promotion.position, promotion.log, entry,
        promotion.actor, f"{promotion.action}, entry {entry.number}", note=note,
    )  # fmt: skip
