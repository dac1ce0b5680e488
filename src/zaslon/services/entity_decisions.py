"""Decisions about one customer, terminal or other entity, found by an index that is derived from the log."""

from __future__ import annotations

from collections.abc import Callable

from zaslon.domain.errors import BusyError, InputError, did_you_mean
from zaslon.domain.events import NO_KEY, Kind, RecordBatch
from zaslon.domain.recorded import Recorded
from zaslon.intake import clean_batch
from zaslon.intake.examples import EXAMPLE_SECONDS, example_record
from zaslon.services.context import Context
from zaslon.services.logs import GrowingLog

INDEXED_RECORDS = 20_000  # read on at once


def entity_key(context: Context, entity: str, value: str) -> tuple[str, int]:
    """An entity's name in the catalogue, and the key by which the log knows an entity: what admission makes of the value in a record.

    Args:
        context: whose catalogue names the entity, and whose key makes the pseudonym.
        entity: its name in the catalogue, or that of its field.
        value: as a record has it.

    Raises:
        InputError: the catalogue has no such entity, or the value names none.
    """
    catalogue = context.catalogue
    fields = [f for f in catalogue.fields if f.entity is not None]
    named = [f for f in fields if f.entity == entity] or [f for f in fields if f.name == entity]
    field = named[0] if named else None
    if field is None or field.entity is None:
        raise InputError(
            f"The catalogue has no entity '{entity[:60]}'.", hint=did_you_mean(entity, catalogue.entities)
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"No {field.entity} is called so: the value is not UTF-8.") from error
    record = example_record(catalogue, given={field.name: value})
    batch = RecordBatch.of([record], [Kind.TRANSACTION_JSON], [EXAMPLE_SECONDS])
    cleaned = clean_batch(batch, catalogue, context.key)
    if len(cleaned.rejected):
        raise InputError(f"No {field.entity} is called so. {cleaned.rejected.detail[0]}")
    key = int(cleaned.transactions.entity_keys[field.entity][0])
    if key == NO_KEY:
        raise InputError(f"'{value[:60]}' names no {field.entity}.", hint="The catalogue takes it for empty.")
    return field.entity, key


class EntityDecisions:
    """Looks decisions up by entity in the log of a home; for one thread.

    Args:
        context: with the log that is meant.

    Raises:
        ZaslonError: the log or its index cannot be read.
    """

    def __init__(self, context: Context) -> None:
        self._log = GrowingLog(context)
        self._index = context.open_entity_index()

    def catch_up(self, is_over: Callable[[], bool], progress: Callable[[int], None] = lambda _: None) -> None:
        """Read the log on into the index.

        Args:
            is_over: asked after each part; True ends it.
            progress: given the records of a part when they are read.

        Raises:
            BusyError: it was over, and the log has more.
        """
        log = self._log.reader()
        end = left = log.next_position
        while True:
            before, left = left, self._index.catch_up(log, INDEXED_RECORDS)
            progress(min(before - left, INDEXED_RECORDS))
            if not left:
                return
            if is_over():
                raise BusyError(
                    f"The index by entity still lacks {left} of {end} records.", hint="Try again in a moment."
                )

    def page(self, entity: str, key: int, before_position: int | None, count: int) -> list[Recorded]:
        """Outcomes of up to `count` of its transactions before a position, newest first."""
        log = self._log.reader()
        positions = self._index.positions(entity, key, before_position, count)
        found = ((position, log.outcome(position)) for position in positions)
        return [Recorded(position, json) for position, json in found if json is not None]

    def close(self) -> None:
        """Close log and index."""
        self._log.close()
        self._index.close()
