"""The order record: which records a micro-batch folded, in which order, and what decided.

Transactions and labels arrive in separate topics, and topics have partitions: what is folded first
is a choice of the process that decides. It writes its choice into topic `order`, one message per
micro-batch, in the transaction of the outcomes. Whoever folds the log later reads these messages and
never chooses. See docs/decisions/0009-the-apply-order-is-a-topic.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
from confluent_kafka import Message
from numpy.typing import NDArray

from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import Kind, RecordBatch
from zaslon.domain.outcomes import Versions

Int64 = NDArray[np.int64]
_BLANKS = np.frombuffer(b" \t\r\n", np.uint8)


@dataclass(frozen=True)
class Range:
    """Messages of one partition: offsets [begin, end), but for the `gaps`, which hold no record.

    A gap is (offset, length): marks of transactions, and what was sent in one that was aborted.
    """

    topic: str
    partition: int
    begin: int
    end: int
    gaps: tuple[tuple[int, int], ...] = ()

    def place_of(self, offset: int) -> int | None:
        """Which record of the range has an offset, counted from 0; None if none has."""
        before = [(first, length) for first, length in self.gaps if first <= offset]
        if not self.begin <= offset < self.end or (before and offset < sum(before[-1])):
            return None
        return offset - self.begin - sum(length for _, length in before)


@dataclass(frozen=True)
class Order:
    """One message of topic `order`.

    Attributes:
        position: log position of the first record.
        ranges: of every partition that is folded, whether or not it gave records to this batch.
        source: int[n], index into `ranges` of the n records in the order in which they were folded.
        arrival_time_seconds: int64[n], when each reached the log.
        versions: what decided.
        history: hash of the state from which the log began.
        kinds: uint8[n] as in `RecordBatch`, where they do not follow from topic and content.
        cursors: how many records of each named source are done; only in logs fed from files.
    """

    position: int
    ranges: tuple[Range, ...]
    source: Int64
    arrival_time_seconds: Int64
    versions: Versions
    history: str
    kinds: NDArray[np.uint8] | None = None
    cursors: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def counts(self) -> list[int]:
        """Records of each range."""
        return [int(n) for n in np.bincount(self.source, minlength=len(self.ranges))]

    def position_of(self, topic: str, partition: int, offset: int) -> int | None:
        """Log position of the record at an offset; None if it is not one of this micro-batch."""
        for index, r in enumerate(self.ranges):
            if (r.topic, r.partition) == (topic, partition):
                place = r.place_of(offset)
                found = np.flatnonzero(self.source == index)
                tells_all = r.end - r.begin - sum(length for _, length in r.gaps) == len(found)
                return self.position + int(found[place]) if tells_all and place is not None else None
        return None

    def to_json(self) -> bytes:
        """Runs of the same source, and of the same second, as pairs of value and length."""
        more: dict[str, object] = {} if self.kinds is None else {"kinds": _as_runs(self.kinds)}
        if self.cursors:
            more["cursors"] = self.cursors
        return orjson.dumps(
            {
                "position": self.position,
                "count": len(self),
                "ranges": [
                    [r.topic, r.partition, r.begin, r.end, *(n for gap in r.gaps for n in gap)]
                    for r in self.ranges
                ],
                "sources": _as_runs(self.source),
                "arrivals": _as_runs(self.arrival_time_seconds),
                "model": self.versions.model,
                "policy": self.versions.policy,
                "catalogue": self.versions.catalogue,
                "engine": self.versions.engine,
                "history": self.history,
                **more,
            }
        )

    @staticmethod
    def from_json(content: bytes | None) -> Order:
        """Read a message back.

        Raises:
            ArtefactError: somebody else wrote it.
        """
        try:
            found = orjson.loads(content or b"")
            order = Order(
                int(found["position"]),
                tuple(
                    Range(str(t), int(p), int(b), int(e), tuple(zip(gaps[::2], gaps[1::2], strict=True)))
                    for t, p, b, e, *gaps in found["ranges"]
                ),
                _from_runs(found["sources"]),
                _from_runs(found["arrivals"]),
                Versions(
                    str(found["model"]), str(found["policy"]), str(found["catalogue"]), int(found["engine"])
                ),
                str(found["history"]),
                _from_runs(found["kinds"]).astype(np.uint8) if "kinds" in found else None,
                {str(source): int(done) for source, done in found.get("cursors", {}).items()},
            )
            if not len(order.source) == len(order.arrival_time_seconds) == found["count"]:
                raise ValueError("its runs do not add up")
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ArtefactError(
                f"A message of the topic that holds the order cannot be read: {error}.",
                hint="Only Zaslon may write there.",
            ) from error
        return order


def is_barrier(message: Message) -> bool:
    """Whether a message of topic `order` orders nothing: see `commit.py`."""
    return message.value() is None


def _as_runs(values: Int64 | NDArray[np.uint8]) -> list[int]:
    if not len(values):
        return []
    begins = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.append(begins, len(values)))
    runs: list[int] = np.stack([values[begins], lengths], axis=1).ravel().tolist()
    return runs


def _from_runs(runs: Sequence[int]) -> Int64:
    pairs = np.asarray(runs, np.int64).reshape(-1, 2)
    return np.repeat(pairs[:, 0], pairs[:, 1])


def batch_in_order(order: Order, records: Sequence[Sequence[bytes]], labels_topic: str) -> RecordBatch:
    """The records of a micro-batch as the log folds them.

    Args:
        order: says which range each record comes from.
        records: by range, its records in the order of their offsets.
        labels_topic: whose records are labels; all others are transactions.
    """
    bodies = _interleaved(order.source, records)
    lengths = np.fromiter(map(len, bodies), np.int64, len(bodies))
    buffer = np.frombuffer(b"".join(bodies), np.uint8)
    starts = np.cumsum(lengths) - lengths
    kinds = order.kinds
    if kinds is None:
        of_labels = np.array([r.topic == labels_topic for r in order.ranges], np.bool_)[order.source]
        is_json = _is_json(buffer, starts, lengths)
        kinds = np.where(is_json, Kind.TRANSACTION_JSON, Kind.TRANSACTION_LINE).astype(np.uint8)
        kinds[of_labels] = Kind.LABEL_JSON
    return RecordBatch(order.position, kinds, order.arrival_time_seconds, buffer, starts, lengths)


def _interleaved(source: Int64, records: Sequence[Sequence[bytes]]) -> Sequence[bytes]:
    filled = [part for part in records if part]
    if len(filled) <= 1:
        return filled[0] if filled else ()
    parts = [iter(part) for part in records]
    return [next(parts[s]) for s in source.tolist()]


def _is_json(buffer: NDArray[np.uint8], starts: Int64, lengths: Int64) -> NDArray[np.bool_]:
    """Whether the first byte that is no blank opens a JSON object."""
    first = np.zeros(len(starts), np.uint8)
    filled = lengths > 0
    first[filled] = buffer[starts[filled]]
    for i in np.flatnonzero(np.isin(first, _BLANKS)).tolist():
        text = buffer[starts[i] : starts[i] + lengths[i]].tobytes().lstrip()
        first[i] = text[0] if text else 0
    return np.asarray(first == ord("{"))
