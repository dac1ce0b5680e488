"""The port of the shadow store: what challengers would have decided, beside what the champion decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]


class Contender(NamedTuple):
    """A model with a policy, by their ids."""

    model: str
    policy: str


@dataclass(frozen=True)
class Match:
    """A challenger beside a champion, over a part of the log.

    Attributes:
        number: names it in the store.
        champion, challenger: who they are.
        first_position, next_position: log positions [first, next) that both have decided.
        transactions: how many there were among them.
        late: how many of these the challenger decided later than it was asked to.
    """

    number: int
    champion: Contender
    challenger: Contender
    first_position: int
    next_position: int
    transactions: int
    late: int


@dataclass(frozen=True)
class Shadowed:
    """n transactions as both have decided them. Arrays are in log order.

    Attributes:
        position, transaction_id, event_time_seconds, amount_minor: int64[n]; ids as inside the log, also of texts.
        score_champion, score_challenger: float64[n], NaN where there was no time for the model.
        action_champion, action_challenger: uint8[n], `Action` values.
        entity_keys: int64[n, entities] in the catalogue's order, keyed hashes of whose they are; `NO_KEY` for none.
    """

    position: Int64
    transaction_id: Int64
    event_time_seconds: Int64
    amount_minor: Int64
    score_champion: Float64
    score_challenger: Float64
    action_champion: UInt8
    action_challenger: UInt8
    entity_keys: Int64

    def __len__(self) -> int:
        """How many transactions."""
        return len(self.position)

    def before(self, seconds: int) -> Shadowed:
        """Those that happened before a moment."""
        chosen = self.event_time_seconds < seconds
        return Shadowed(*(getattr(self, field.name)[chosen] for field in fields(self)))


class Stopped(NamedTuple):
    """Good transactions of a match that are old enough to be believed: how many, and how many each stops."""

    good: int
    champion: int
    challenger: int


class ShadowLabel(NamedTuple):
    """A label that the log has accepted.

    Attributes:
        position: in the log; negative for those that came before the store was begun, in any order.
        transaction_id: as in `Shadowed`.
        is_fraud: the verdict.
        waits: whether no transaction with this id was known: the label then concerns the next one.
    """

    position: int
    transaction_id: int
    is_fraud: bool
    waits: bool


class ShadowStore(Protocol):
    """What a shadow keeps of one log. It is derived: a lost store is begun again, from then on.

    Everything that belongs to one part of the log is kept in one transaction, so that a shadow that was killed goes
    on exactly where it stopped. Every method raises a ZaslonError where the medium fails.
    """

    @property
    def next_position(self) -> int | None:
        """Log position from which a shadow goes on; None for a new store."""

    def begin(self, champion: Contender, challenger: Contender, position: int) -> int:
        """The number of the match of these two that is going on at a position, or of a new one that begins there."""

    def keep(
        self, rows: Sequence[tuple[int, Shadowed, int]], labels: Sequence[ShadowLabel],
        next_position: int,
    ) -> None:  # fmt: skip
        """Keep what a part of the log brought, and where the next one begins.

        Args:
            rows: by match: its number, its transactions, and how many of them were late.
            labels: in log order. Each concerns the newest transaction before it, or the one that it waits for.
            next_position: of the log.
        """

    def forget_before(self, event_time_seconds: int) -> None:
        """Remove transactions that happened before a moment and are no known frauds.

        Frauds stay: a verdict that is valid at every look must not lose what it has looked at.
        """

    def match(self, champion: str, challenger: str) -> Match | None:
        """The newest match of two models, by their ids."""

    def frauds(self, match: Match) -> Shadowed:
        """The transactions of a match whose newest label says fraud, in log order."""

    def good(self, match: Match, before_seconds: int, rows_max: int) -> Shadowed:
        """At most about so many transactions of a match that happened before a moment and are no known frauds."""

    def stopped(self, match: Match, before_seconds: int) -> Stopped:
        """All of these, counted."""

    def judged_stops(self, match: Match, before_seconds: int) -> tuple[int, int]:
        """Transactions before a moment that the champion stopped, and how many of them have any label."""

    def days(self, match: Match, before_seconds: int) -> int:
        """Days from its first transaction to its last before a moment; 0 without any."""

    def close(self) -> None:
        """Let go of what is open."""
