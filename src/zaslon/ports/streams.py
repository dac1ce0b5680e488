"""The ports of a log that a broker keeps: its topics, the stream that scorers decide, who sends into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from zaslon.domain.events import LogBatch, RecordBatch
from zaslon.domain.outcomes import Outcome, Versions


@dataclass(frozen=True)
class TopicState:
    """How a topic is. Without complaints it is as it should be; `note` is for people."""

    name: str
    partitions: int
    complaints: tuple[str, ...]
    note: str = ""


class Topics(Protocol):
    """The topics of a stream."""

    def create(self) -> list[TopicState]:
        """Create the missing ones, never change existing ones; return the state of all."""

    def check(self) -> list[TopicState]:
        """Return the state of all; change nothing."""


class SupersededError(Exception):
    """Another process decides now, or this one has lost touch: the engine may be ahead of the log.

    The caller discards the engine and begins again from a snapshot.
    """


class Stream(Protocol):
    """A log that others feed, with several scorers, of which one decides.

    The one that decides takes records in micro-batches, in an order that it chooses and records.
    All others, the standbys, replay what it recorded. After a crash the log holds either both a
    micro-batch's records and all its outcomes or neither.
    """

    def open(self, checkpoint: bytes) -> None:
        """Begin at a saved state, as a standby: `checkpoint` was saved with it, or names only its `history`."""

    def recorded_since(self, checkpoint: bytes, is_over: Callable[[], bool]) -> Iterator[LogBatch]:
        """Everything recorded after a saved state, for the process that decides, when its engine has failed.

        It starts to decide. What it took and has not recorded is not among this, and can still be recorded.

        Raises:
            SupersededError: another process decides now, or `is_over` is true and this one stops.
        """

    def replay(self, is_over: Callable[[], bool]) -> Iterator[LogBatch | None]:
        """What was recorded after the saved state, in order; None when nothing new has come for a while.

        Ends when this process has become the one that decides and nothing recorded is left, or
        when `is_over` is true. From the first on no other process can record any more.

        Raises:
            ArtefactError: another engine version decides, and no setting allows to take over from it.
        """

    def take(
        self, admit: Callable[[RecordBatch], LogBatch], records_max: int, is_over: Callable[[], bool]
    ) -> Iterator[LogBatch | None]:
        """New records in micro-batches, until `is_over`. Each must be recorded before the next is taken.

        None when nothing new has come for a while.

        Args:
            admit: makes typed records; may be given more of them than are taken.
            records_max: most records of a micro-batch.

        Raises:
            SupersededError: another process decides now.
        """

    def record(
        self, batch: LogBatch, outcomes: Sequence[Outcome], content: Sequence[bytes], versions: Versions,
        number: int,
    ) -> None:  # fmt: skip
        """Hand over the batch that `take` gave, or its next part, with outcomes. It may return before that is durable.

        At most one batch is in flight: the call waits for the previous one.

        Args:
            outcomes: of each record, in order.
            content: the JSON of each outcome.
            versions: what decided.
            number: of its promotion.

        Raises:
            SupersededError: this or an earlier batch was not recorded, and never will be.
        """

    def insert(self, change: LogBatch) -> None:
        """Let a change of what decides be the next record; `record` must be called with it before the next `take`."""

    @property
    def serving(self) -> tuple[str, str, int] | None:
        """Model and policy of the newest replayed or settled batch, and the number of their promotion.

        None for a log without records. The number is 0 where an earlier version decided.
        """

    def settle(self) -> None:
        """Wait until everything handed over is durable (raises as `record`)."""

    @property
    def checkpoint(self) -> bytes:
        """Where the log is after the last replayed or settled batch; to be saved with the state."""

    @property
    def lag_records(self) -> int:
        """Records that have arrived and were not taken yet."""

    @property
    def commit_seconds(self) -> float:
        """How long the newest durable batch took to become so."""

    def close(self) -> None:
        """Leave: a standby takes over at once."""


class Sender(Protocol):
    """Sends raw records to a topic in order, each once while the process lives."""

    def send(self, records: Sequence[bytes]) -> None:
        """Hand over records; waits while too many are unacknowledged."""

    @property
    def acknowledged(self) -> int:
        """How many of the records handed over are durable; always the first ones.

        Raises:
            ServerError: the broker has refused one.
        """

    def finish(self) -> int:
        """Wait until all are durable; returns how many that are."""
