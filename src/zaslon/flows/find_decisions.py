"""Find decisions: those about one customer, terminal or other entity, newest first, from a log or the archive.

1. the value becomes the key by which the log knows it, as admission makes it
2. the log is read into its index from where that ends; the archive is as it was filled
3. positions are found by the index, decisions by their positions
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import orjson

from zaslon.domain.time import parse_duration_seconds
from zaslon.services.context import Context
from zaslon.services.decision_pages import DecisionFilter, DecisionsPage, decisions_page
from zaslon.services.entity_decisions import EntityDecisions, entity_key
from zaslon.services.logs import existing_log

_SCAN_MAX = 1_000_000  # transactions of one entity that are looked through


@dataclass(frozen=True)
class FoundDecisions:
    """Recorded decisions, newest first; `following` is where the next page begins, if there is one."""

    entity: str
    decisions: list[bytes]
    following: int | None

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"decisions": [orjson.loads(json) for json in self.decisions], "next": self.following}


def find_decisions(
    context: Context, entity: str, value: str, *, before: int | None, limit: int, archived: bool
) -> FoundDecisions:
    """Decisions about an entity.

    Args:
        context: with the log that is meant.
        entity: its name in the catalogue, or that of its field.
        value: which one, as transactions name it.
        before: the log position before which they are; None for the newest.
        limit: how many at most.
        archived: whether the archive of the log is asked instead of the log.

    Raises:
        InputError: there is no such entity.
        DataError: there is no log.
        ServerError: the archive does not answer.
    """
    name, key = entity_key(context, entity, value)
    existing_log(context)
    page = _archived if archived else _in_log
    found = page(context, name, key, before, limit)
    return FoundDecisions(name, found.decisions, found.following)


def _in_log(context: Context, entity: str, key: int, before: int | None, limit: int) -> DecisionsPage:
    wanted = DecisionFilter(before=before, limit=limit)
    late_within_seconds = parse_duration_seconds(context.catalogue.retention.late_within)
    context.progress.start("read the log", None)
    with closing(EntityDecisions(context)) as found, closing(context.open_journal_for_reading()) as journal:
        found.catch_up(lambda: False, context.progress.advance)
        return decisions_page(
            journal, wanted, limit_max=limit, scan_max=_SCAN_MAX, late_within_seconds=late_within_seconds,
            page=lambda before, count: found.page(entity, key, before, min(count, limit)),
        )  # fmt: skip


def _archived(context: Context, entity: str, key: int, before: int | None, limit: int) -> DecisionsPage:
    with closing(context.open_archive()) as archive, closing(context.open_journal_for_reading()) as journal:
        found = archive.decisions_of(journal.identity, entity, key, before, limit)
    following = found[-1].position if len(found) == limit else None
    return DecisionsPage([recorded.json for recorded in found], following or None)
