"""The port of the archive: decisions copied to where other systems can query them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from zaslon.domain.events import TransactionId
from zaslon.domain.recorded import Recorded


class ArchivedDecision(NamedTuple):
    """A decision as it is archived.

    `day` is a day number, `event_time` as in the outcome's JSON, `score` None where there was no time for the model.
    `entities` are (name in the catalogue, key as in the log), of those that the transaction has.
    """

    day: int
    position: int
    transaction_id: str
    event_time: str
    action: str
    score: float | None
    model: str
    policy: str
    outcome: bytes
    entities: tuple[tuple[str, int], ...] = ()


class ServedDecisions(Protocol):
    """Decisions as they were given, where they can be looked up by their transactions: a log or the archive."""

    def newest_decisions(
        self, transactions: Sequence[tuple[TransactionId, int]]
    ) -> Sequence[tuple[TransactionId, Recorded]]:
        """The newest decision about each of these transactions, one from each log that is kept here.

        Args:
            transactions: (id, event time in seconds since 1970). An id may have been used for other times too: the
                decision says which is meant.

        Raises:
            ZaslonError: it cannot be read.
        """

    def close(self) -> None:
        """Let go of what is open."""


class Archive(ServedDecisions, Protocol):
    """Decisions by day, each of them once. It is derived from logs, and may be begun again.

    Every method raises a ServerError where the server does not answer or refuses us.
    """

    def next_position(self, log: str) -> int:
        """Position up to which a log is archived; 0 for a new one. `log` is its identity."""

    def keep(
        self, log: str, decisions: Sequence[ArchivedDecision], from_position: int, next_position: int
    ) -> None:
        """Keep the decisions of a part of a log and its end, together, or nothing.

        Raises:
            BusyError: another process has archived from `from_position` on.
        """

    def decisions_of(
        self, log: str, entity: str, key: int, before_position: int | None, count: int
    ) -> list[Recorded]:
        """Up to `count` decisions of a log about an entity before a position (None: the end), newest first."""

    def forget_before(self, log: str, day: int) -> int:
        """Remove a log's days before one; returns how many had decisions of it. Other logs keep theirs."""
