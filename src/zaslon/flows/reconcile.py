"""Reconcile: every record of the log has one outcome, every accepted transaction one decision."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import InputError
from zaslon.domain.events import TransactionId
from zaslon.domain.outcomes import ChangeMade, Decision, LabelAccepted, Rejection
from zaslon.domain.time import parse_duration_seconds
from zaslon.intake.characters import display_text
from zaslon.intake.splitting import split_line
from zaslon.ports import LogReader
from zaslon.services.context import Context
from zaslon.services.logs import existing_log

_LISTED_MAX = 100


@dataclass
class Reconciled:
    """What a log holds, and what it lacks.

    Attributes:
        without_outcome: positions of records that have none.
        decided_twice: ids of transactions with a second decision while the first must have been known.
        unanswered: of the ids that were sent, those with neither a decision nor a rejection.
        not_checkable: those of them that may have been in a rejected record whose bytes have left the log.
    """

    records: int = 0
    decisions: int = 0
    labels: int = 0
    changes: int = 0
    rejections: dict[str, int] = field(default_factory=dict)
    degraded: dict[str, int] = field(default_factory=dict)
    without_outcome: list[int] = field(default_factory=list)
    decided_twice: list[TransactionId] = field(default_factory=list)
    sent: int = 0
    unanswered: list[TransactionId] = field(default_factory=list)
    not_checkable: list[TransactionId] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing and nothing is double."""
        return not (self.without_outcome or self.decided_twice or self.unanswered)

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values; of what is wrong the first hundred, and in `counts` how many there are."""
        wrong: dict[str, Sequence[TransactionId]] = {
            "without_outcome": self.without_outcome, "decided_twice": self.decided_twice,
            "unanswered": self.unanswered, "not_checkable": self.not_checkable,
        }  # fmt: skip
        return {
            "is_whole": self.is_whole, "records": self.records, "decisions": self.decisions,
            "labels": self.labels, "changes": self.changes, "rejections": self.rejections, "degraded": self.degraded,
            "sent": self.sent, "counts": {name: len(found) for name, found in wrong.items()},
            **{name: found[:_LISTED_MAX] for name, found in wrong.items()},
        }  # fmt: skip


def reconcile(context: Context, sent: Path | None = None) -> Reconciled:
    """Go through the log; `sent` names a file with one transaction id a line that must be known.

    An id counts as answered where the log has a decision about it or a rejection that names it. After
    `original_retention_days` a rejection may no longer do so. Ids that have no other outcome are then not
    checkable, unless they are more than such rejections.

    Raises:
        InputError: the file cannot be read.
        DataError: there is no log.
    """
    journal = existing_log(context).open_journal_for_reading()
    found = Reconciled()
    try:
        decided = _go_through(journal, found, context.catalogue)
        if sent is not None:
            ids = _ids(sent, context.catalogue)
            found.sent = len(ids)
            found.unanswered = [i for i in ids if str(i) not in decided]
            if found.unanswered:
                rejected, nameless = _rejected_ids(journal, context.catalogue)
                found.unanswered = [i for i in found.unanswered if str(i) not in rejected]
                if len(found.unanswered) <= nameless:
                    found.unanswered, found.not_checkable = [], found.unanswered
    finally:
        journal.close()
    return found


def _go_through(journal: LogReader, found: Reconciled, catalogue: Catalogue) -> dict[str, int]:
    """Count outcomes beside the positions of records; the decided ids with their newest event time.

    Ids are kept as texts: a client can choose numbers that Python's hash puts in one place.
    """
    rejections: Counter[str] = Counter()
    degraded: Counter[str] = Counter()
    decided: dict[str, int] = {}
    known_seconds = _certainly_known_seconds(catalogue)
    outcomes = journal.outcomes()
    next_outcome = next(outcomes, None)
    for batch in journal.read(0, originals=False):
        found.records += len(batch)
        moments = dict(
            zip(batch.transaction_index.tolist(), batch.transactions.event_time_seconds.tolist(), strict=True)
        )
        for index in range(len(batch)):
            position = batch.first_position + index
            if next_outcome is None or next_outcome.position != position:
                found.without_outcome.append(position)
                continue
            outcome = next_outcome.outcome
            if isinstance(outcome, Decision):
                identifier, moment = outcome.transaction_id, moments[index]
                if decided.get(str(identifier), moment - known_seconds) > moment - known_seconds:
                    found.decided_twice.append(identifier)
                decided[str(identifier)] = moment
                found.decisions += 1
                degraded[outcome.degraded or ""] += 1
            elif isinstance(outcome, LabelAccepted):
                found.labels += 1
            elif isinstance(outcome, ChangeMade):
                found.changes += 1
            else:
                rejections[outcome.code] += 1
            next_outcome = next(outcomes, None)
    found.rejections = dict(sorted(rejections.items()))
    found.degraded = {what: count for what, count in sorted(degraded.items()) if what}
    return decided


def _certainly_known_seconds(catalogue: Catalogue) -> int:
    """For how long an id is known whatever else was in the log; it may be used again after `remember`.

    A transaction may itself come `late_within` after a newer one, which counts for what is known.
    """
    retention = catalogue.retention
    return parse_duration_seconds(retention.remember) - parse_duration_seconds(retention.late_within)


def _rejected_ids(journal: LogReader, catalogue: Catalogue) -> tuple[set[str], int]:
    """Ids of rejected records as texts, and of how many records nothing is kept that could have one."""
    named: set[str] = set()
    nameless = 0
    for recorded in journal.outcomes():
        rejection = recorded.outcome
        if not isinstance(rejection, Rejection):
            continue
        raw = _text_of(rejection.raw)
        if rejection.transaction_id is not None:
            named.add(str(rejection.transaction_id))
        elif raw is None:
            nameless += 1
        else:
            words = [word.strip(" \t") for word in _words_of_id(raw, catalogue)]
            named.update(words if catalogue.has_text_ids else filter(None, map(_as_number, words)))
    return named, nameless


def _text_of(raw: bytes | None) -> str | None:
    """Original bytes as text; None where they are not kept, or are no text."""
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def _as_number(word: str) -> str | None:
    """A whole number as the log writes it, however many digits it has; None for another word."""
    digits = word.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()):
        return None
    digits = digits.lstrip("0") or "0"
    return f"-{digits}" if word.startswith("-") and digits != "0" else digits


def _words_of_id(raw: str, catalogue: Catalogue) -> list[str]:
    """The value of a record's transaction id: of a JSON object or a line without header."""
    field_of_id = catalogue.field_of("transaction_id")
    try:
        # Numbers as they are written: one of more than 64 bits would become another one as a float.
        content = json.loads(raw, object_pairs_hook=_Members, parse_int=str, parse_float=_whole)
    except (ValueError, RecursionError):
        values = [word.decode() for word in split_line(raw.encode(), catalogue.record.separator)]
        columns = map(catalogue.find_field, catalogue.record.columns)
        return [value for column, value in zip(columns, values, strict=False) if column == field_of_id]
    named = content if isinstance(content, _Members) else ()
    return [str(value) for name, value in named if catalogue.find_field(name) == field_of_id]


class _Members(list[tuple[str, Any]]):
    """The members of a JSON object, those with one name too: a record that has two ids is about both."""


def _whole(number: str) -> str:
    """A JSON number with a point or an exponent; without a fraction of zeros, which means nothing."""
    return re.sub(r"\.0+$", "", number)


def _ids(path: Path, catalogue: Catalogue) -> list[TransactionId]:
    try:
        text = path.read_text("utf-8")
        if catalogue.has_text_ids:
            return [found for line in text.splitlines() if (found := line.strip(" \t"))]
    except (OSError, ValueError) as error:
        raise InputError(
            f"'{path}' cannot be read: {error}.", hint="Expected one transaction id a line."
        ) from error
    return [_number_in(path, word) for word in text.split()]


def _number_in(path: Path, word: str) -> TransactionId:
    """An id that was sent: a number, or as text one that no transaction can have.

    Raises:
        InputError: it is not a whole number.
    """
    number = _as_number(word)
    if number is None:
        raise InputError(
            f"'{path}' has {display_text(word.encode())}, which is not a whole number.",
            hint="Expected one transaction id a line.",
        )
    fits = len(number) <= len(str(-(2**63))) and -(2**63) <= int(number) < 2**63
    return int(number) if fits else number
