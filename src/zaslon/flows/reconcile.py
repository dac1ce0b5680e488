"""Reconcile: every record of the log has one outcome, every accepted transaction one decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import InputError
from zaslon.domain.events import TransactionId
from zaslon.ports import Journal
from zaslon.services.context import Context
from zaslon.services.logs import existing_log

_SHOWN_MAX = 100


@dataclass
class Reconciled:
    """What a log holds, and what it lacks.

    Attributes:
        without_outcome: positions of records that have none.
        decided_twice: ids of transactions with more than one decision.
        unanswered: of the ids that were sent, those with neither a decision nor a rejection.
    """

    records: int = 0
    decisions: int = 0
    labels: int = 0
    rejections: dict[str, int] = field(default_factory=dict)
    degraded: dict[str, int] = field(default_factory=dict)
    without_outcome: list[int] = field(default_factory=list)
    decided_twice: list[TransactionId] = field(default_factory=list)
    sent: int = 0
    unanswered: list[TransactionId] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing and nothing is double."""
        return not (self.without_outcome or self.decided_twice or self.unanswered)

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values; of what is wrong the first hundred, and in `counts` how many there are."""
        wrong: dict[str, Sequence[TransactionId]] = {
            "without_outcome": self.without_outcome, "decided_twice": self.decided_twice,
            "unanswered": self.unanswered,
        }  # fmt: skip
        return {
            "is_whole": self.is_whole, "records": self.records, "decisions": self.decisions,
            "labels": self.labels, "rejections": self.rejections, "degraded": self.degraded,
            "sent": self.sent, "counts": {name: len(found) for name, found in wrong.items()},
            **{name: found[:_SHOWN_MAX] for name, found in wrong.items()},
        }  # fmt: skip


def reconcile(context: Context, sent: Path | None = None) -> Reconciled:
    """Go through the log; `sent` names a file with one transaction id a line that must be known.

    An id counts as answered where the log has a decision about it or a rejection that names it.

    Raises:
        InputError: the file cannot be read.
        DataError: there is no log.
    """
    journal = existing_log(context).open_journal_for_reading()
    found = Reconciled()
    try:
        decided = _go_through(journal, found)
        if sent is not None:
            ids = _ids(sent, context.catalogue)
            found.sent = len(ids)
            found.unanswered = [i for i in ids if i not in decided]
            if found.unanswered:
                rejected = _rejected_ids(journal, context.catalogue)
                found.unanswered = [i for i in found.unanswered if i not in rejected]
    finally:
        journal.close()
    return found


def _go_through(journal: Journal, found: Reconciled) -> Counter[TransactionId]:
    """Count outcomes beside the positions of records; the decisions by transaction."""
    rejections: Counter[str] = Counter()
    degraded: Counter[str] = Counter()
    decided: Counter[TransactionId] = Counter()
    outcomes = journal.outcomes()
    next_outcome = next(outcomes, None)
    for batch in journal.read(0):
        found.records += len(batch)
        for position in range(batch.first_position, batch.first_position + len(batch)):
            if next_outcome is None or next_outcome[0] != position:
                found.without_outcome.append(position)
                continue
            content = orjson.loads(next_outcome[1])
            if content["outcome"] == "decision":
                decided[content["transaction_id"]] += 1
                degraded[content["degraded"] or ""] += 1
            elif content["outcome"] == "label":
                found.labels += 1
            else:
                rejections[content["reason"]] += 1
            next_outcome = next(outcomes, None)
    found.decisions = decided.total()
    found.decided_twice = [i for i, times in decided.items() if times > 1]
    found.rejections = dict(sorted(rejections.items()))
    found.degraded = {what: count for what, count in sorted(degraded.items()) if what}
    return decided


def _rejected_ids(journal: Journal, catalogue: Catalogue) -> set[TransactionId]:
    """Ids that stand in rejected records, as far as they can be read."""
    rejections = (orjson.loads(outcome) for _, outcome in journal.outcomes())
    words = (
        word.strip(" \t")
        for content in rejections
        if content["outcome"] == "rejection" and "raw" in content
        for word in _words_of_id(content["raw"], catalogue)
    )
    if catalogue.has_text_ids:
        return set(words)
    return {int(word) for word in words if word.isascii() and word.removeprefix("-").isdecimal()}


def _words_of_id(raw: str, catalogue: Catalogue) -> list[str]:
    """What stands where a record has its transaction's id: a JSON object or a line without header."""
    field_of_id = catalogue.field_of("transaction_id")
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError:
        values = raw.split(catalogue.record.separator)
        columns = map(catalogue.find_field, catalogue.record.columns)
        return [value for column, value in zip(columns, values, strict=False) if column == field_of_id]
    named = content.items() if isinstance(content, dict) else ()
    return [str(value) for name, value in named if catalogue.find_field(name) == field_of_id]


def _ids(path: Path, catalogue: Catalogue) -> list[TransactionId]:
    try:
        text = path.read_text("utf-8")
        if catalogue.has_text_ids:
            return [found for line in text.splitlines() if (found := line.strip(" \t"))]
        return [int(line) for line in text.split()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"'{path}' cannot be read: {error}.", hint="Expected one transaction id a line."
        ) from error
