"""The ports: what the engine and the flows ask of the world outside.

Each docstring states when a method is called, what it must never do and what a crash means.
Adapters are in `zaslon.adapters`; only `zaslon.bootstrap` and `zaslon.testing` choose them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.answers import Answer
from zaslon.domain.api_keys import ApiKey
from zaslon.domain.errors import ZaslonError
from zaslon.domain.events import Kind, LogBatch, TransactionId
from zaslon.domain.ledger import LedgerEntry, Promotion
from zaslon.domain.outcomes import Outcome, Rejection, Serving, Versions
from zaslon.domain.recorded import Recorded


class Outcomes(Protocol):
    """Recorded outcomes, for those who only look. Every thread opens its own."""

    def find(self, transaction_id: TransactionId) -> list[Recorded]:
        """Every outcome that concerns a transaction, oldest first."""

    def newest_decision(
        self, transaction_id: TransactionId, before_position: int | None = None
    ) -> Recorded | None:
        """The newest decision about a transaction before a position (None: the end)."""

    def page(self, before_position: int | None, count: int) -> list[Recorded]:
        """Up to `count` outcomes before a position (None: the end), newest first."""

    def close(self) -> None:
        """Let go of what is open. Called once, last; everything recorded stays."""


class LogReader(Outcomes, Protocol):
    """The event log and the outcomes of its records, for replays and audits."""

    @property
    def identity(self) -> str:
        """Names this log and no other, not even a new one in the same place.

        States belong to the log that they were computed from, and are kept under its name.
        """

    @property
    def next_position(self) -> int:
        """Position of the next record; every record before it has its outcome.

        For a reader beside the writer: of the record after those that were there at its opening, or at `refresh`.
        """

    def refresh(self) -> bool:
        """Let `next_position` be that of now, for a reader that reads a log on as it grows.

        Returns:
            False where another log is in this place now: close this reader and open that log.
        """

    def read(
        self, from_position: int, to_position: int | None = None, *, originals: bool = True
    ) -> Iterator[LogBatch]:
        """The records of [from_position, to_position) as they were appended, in order.

        Args:
            originals: whether the original bytes are wanted too, where they are kept; applying the
                log needs none.
        """

    def outcome(self, position: int) -> bytes | None:
        """The recorded JSON of one outcome, or None for an unknown position."""

    def outcomes(self, from_position: int = 0) -> Iterator[Recorded]:
        """All outcomes from a position on, in order."""

    def serving(self, position: int) -> Versions | None:
        """Which versions decided at a position."""

    def servings(self) -> Iterator[Serving]:
        """Everything that has decided, newest first; the same versions may follow each other."""


class Journal(LogReader, Protocol):
    """The event log and the outcomes of its records, kept in step.

    After a crash the journal holds either both a batch and all its outcomes or neither.
    """

    def record(
        self, batch: LogBatch, outcomes: Sequence[Outcome], cursor: tuple[str, int] | None
    ) -> list[bytes]:
        """Append a batch with its outcomes, one per record in order, in one transaction.

        Returns the JSON of each outcome, as it is in the log now.

        `batch.first_position` must be `next_position`. `cursor` names a source and how many of
        its records are done after this batch; it is kept in the same transaction, so that a
        source read again continues exactly where it stopped.

        Must never return before the batch is durable. When it raises (a `ZaslonError` where the
        medium fails), nothing was recorded and the engine that made the outcomes is ahead of the
        log: discard it.
        """

    def cursor(self, source: str) -> int:
        """How many records of a source are done; 0 for a new one."""

    def serve(self, versions: Versions) -> None:
        """Note that from `next_position` on these versions decide. Repeats are not noted twice."""

    def forget_originals(self, before_seconds: int, records_max: int) -> bool:
        """Remove the original bytes of the oldest batches that arrived before a moment.

        Their typed records and decisions stay as they are; rejections lose the original bytes and the
        sentence that quotes them. After the call that returns False, nothing of what was removed is left on
        the medium. What a crash interrupts is done by the next call.

        Args:
            records_max: no more records than that lose their bytes, fewer where they are large, rejected or
                in small batches; but at least one batch does.

        Returns:
            Whether there are more.
        """


class DecisionStore(Outcomes, Protocol):
    """Decisions copied from a log that is kept elsewhere, so that they can be looked up: derived.

    What is lost of it is copied again. Older decisions make room for newer ones.
    """

    @property
    def checkpoint(self) -> bytes:
        """What was given with the newest decisions that are kept; empty for a new store."""

    def keep(self, decisions: Sequence[tuple[int, TransactionId, bytes]], checkpoint: bytes) -> None:
        """Keep (position, transaction id, JSON) of decisions and where the log is read next, together.

        A decision given again changes nothing.
        """

    def clear(self) -> None:
        """Forget all: another log begins."""


class SnapshotStore(Protocol):
    """Saved states of the engine, each with the log position up to which it has been applied."""

    def save(self, position: int, content: Mapping[str, NDArray[np.generic]]) -> None:
        """Keep a state. A crash while saving leaves the older ones untouched and no half one.

        Called from one thread at a time, which need not be the one that reads.

        Raises:
            ZaslonError: it cannot be kept: no space, no permission, no answer of a server.
        """

    def newest(
        self, up_to_position: int | None = None
    ) -> tuple[int, dict[str, NDArray[Any]], list[str]] | None:
        """(position, content, complaints) of the newest readable state at or before a position.

        A damaged one is passed over; the complaint names it. None if there is none at all.

        Raises:
            ArtefactError: there are some, and none of them can be read.
            ServerError: the server that keeps them does not answer, or refuses us.
        """

    def forget_after(self, position: int) -> int:
        """Remove the states after a position and return how many there were.

        For a log that ends there: such states were computed from records that it no longer has.
        """


def repeated_decision(rejection: Rejection, outcomes: Outcomes) -> Recorded | None:
    """The decision that a record repeats, which is the answer to it.

    That is the newest decision about the transaction before the repeat. None where the record is no
    repeat, or the decision is not in this log, as of a transaction from before it began.
    """
    if not rejection.repeats or rejection.transaction_id is None:
        return None
    return outcomes.newest_decision(rejection.transaction_id, rejection.position)


Answered = Callable[[list[Answer] | ZaslonError], None]


@dataclass(frozen=True)
class Call:
    """One call's records, all of one kind, as they are handed to the decision worker.

    `number` names the call; the times are seconds of the monotonic clock.
    """

    number: int
    records: Sequence[bytes]
    kind: Kind
    deadline_seconds: float
    asked_seconds: float


class Calls(Protocol):
    """The calls that wait for a decision worker: what it is asked, and where it answers."""

    def take(self, records_max: int, wait_seconds: float) -> Sequence[Call] | None:
        """The calls that wait, until they are `records_max` records or more; a call is never split.

        Waits a while for the first one. None when there will be no more.
        """

    def answer(self, answers: Sequence[tuple[int, list[Answer] | ZaslonError]]) -> None:
        """Answer calls by their number, all of a group at once."""

    def ready(self, is_ready: bool) -> None:
        """Report whether calls are decided from now on."""

    def notify(self, topic: str, content: object) -> None:
        """Send the other side a message that answers no call."""


@dataclass(frozen=True)
class DeliveryTiming:
    """A record's way through a log that is kept elsewhere.

    `repeated` as in its answer; `logged_seconds` until it was in the log, `decided_seconds` from there to its outcome.
    """

    outcome: Outcome
    repeated: bool
    logged_seconds: float
    decided_seconds: float


class Decider(Protocol):
    """Gives durable outcomes of records: what decides for the service."""

    @property
    def is_ready(self) -> bool:
        """Whether records are decided now, as fast as later ones."""

    @property
    def obstacle(self) -> str:
        """A sentence for people: why it is not ready, when it is not."""

    @property
    def serving(self) -> Versions | None:
        """What decides now; None where that is what this process was started with."""

    def open_outcomes(self) -> Outcomes:
        """What was decided, for a thread that only looks.

        Raises:
            ZaslonError: it cannot be read, or is not there yet.
        """

    def submit(
        self, records: Sequence[bytes], kind: Kind, deadline_seconds: float, answered: Answered
    ) -> Callable[[], bool]:
        """Take the records of one call; never blocks.

        `answered` is called once, from another thread: with one answer per record, in order, after
        all of them are durable; or with the error that kept one of them from being decided, which is
        `UncertainError` where that is not known. It must return at once.

        Args:
            records: original bytes, all of one kind.
            kind: what they hold.
            deadline_seconds: on the monotonic clock; what cannot be had until then is left out.
            answered: called with the outcomes.

        Returns:
            tells, whenever it is called, whether all of them are known to be in the log: then they
            will be decided even if no caller waits any more.

        Raises:
            BusyError: the queue is full, or nothing is decided yet; nothing was taken.
            TooLargeError: a record is larger than the log takes; nothing was taken.
        """

    @property
    def is_alive(self) -> bool:
        """False when only a new process helps."""

    @property
    def waiting_records(self) -> int:
        """Records that were taken and have no outcome yet."""

    def start(self) -> None:
        """Wait until records are decided as fast as later ones.

        Raises:
            ZaslonError: why they cannot be.
        """

    def close(self) -> None:
        """Decide what was taken, then stop. Nothing can be submitted afterwards."""


class ApiKeys(Protocol):
    """The keys of the service. A revoked one is kept, so that its owner is still known.

    Every method raises a ZaslonError where the store cannot be used.
    """

    @property
    def version(self) -> object:
        """Changes whenever the keys do, in whatever process. Asked once a second: cheap."""

    def all(self) -> list[ApiKey]:
        """All keys, also those that are valid no more, oldest first.

        Raises:
            ArtefactError: the stored keys are damaged. A part of them must not grant access.
        """

    def add(self, key: ApiKey) -> None:
        """Keep a new key; it is durable when this returns. Of several added at once none is lost."""

    def revoke(self, identifier: str, now_seconds: int) -> ApiKey | None:
        """Revoke a key permanently, durably when this returns; None for an unknown key.

        A key that was revoked before keeps its time.
        """


class Ledger(Protocol):
    """The promotion ledger: entries are appended, none is ever changed or removed.

    Every method raises a ZaslonError where the store cannot be used: a ServerError where it is a server's.
    """

    def newest(self) -> LedgerEntry | None:
        """The newest entry; None for an empty ledger."""

    def entries(self) -> list[LedgerEntry]:
        """All entries, oldest first, as they are stored: the chain is not checked."""

    def append(self, promotion: Promotion, after: int) -> LedgerEntry:
        """Append an entry behind the one with the number `after`, 0 for an empty ledger; durable on return.

        Raises:
            BusyError: that is no longer the newest; nothing was appended.
        """


class Clock(Protocol):
    """The time, for those who may know it: ingress paths and the order in which they let records in."""

    def now_seconds(self) -> float:
        """Seconds since 1970."""

    def monotonic_seconds(self) -> float:
        """Seconds from some moment on, never backwards."""


class RunTracker(Protocol):
    """Where work in progress is written down, on a thread of its own. Never on the scoring path."""

    def start_run(self, name: str, params: Mapping[str, Any]) -> LiveRun:
        """Begin a run that is logged while it goes on. Raises ServerError where it cannot."""


class LiveRun(Protocol):
    """A run in progress. Every method may raise a `ZaslonError`; the work that it logs must continue."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One point of each metric; steps count up."""

    def end(self) -> None:
        """It is over."""
