"""The order message: the typed records of a micro-batch, where they came from, and what decided them.

Transactions and labels arrive in separate topics, and topics have partitions: which record is applied
first is the choice of the scorer that decides. It writes its choice, and what admission made of the
records, to topic `order`: one message per micro-batch, in the transaction of the outcomes. Standbys and
replays read these messages only; they choose nothing and clean nothing.
See docs/decisions/0009-the-apply-order-is-a-topic.md.

    prelude    magic, format, bytes of the header
    header     JSON: log position, ranges of offsets, source of each record, versions, history
    records    the batch as `admission.log_format` writes it, for SQLite too
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Message
from numpy.typing import NDArray

from zaslon.admission.log_format import decode
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import Kind, LogBatch, Originals, RecordBatch
from zaslon.domain.outcomes import Versions

FORMAT = 2  # raise it with any change of the prelude or the header; 1 was JSON without records
NO_SOURCE = -1  # of a record that comes from no partition: a change of what decides
_MAGIC = b"ZORD"
_PRELUDE = struct.Struct("<4sHI")
_BLANKS = np.frombuffer(b" \t\r\n", np.uint8)

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Range:
    """Messages of one partition: offsets [begin, end), except for `gaps`, which hold no record.

    A gap is (offset, length): transaction markers, and messages of an aborted transaction.
    """

    topic: str
    partition: int
    begin: int
    end: int
    gaps: tuple[tuple[int, int], ...] = ()

    @property
    def records(self) -> int:
        """How many messages of the range are records."""
        return self.end - self.begin - sum(length for _, length in self.gaps)

    def index_of(self, offset: int) -> int | None:
        """Which record of the range is at an offset, counted from 0; None if none is."""
        before = [(first, length) for first, length in self.gaps if first <= offset]
        if not self.begin <= offset < self.end or (before and offset < sum(before[-1])):
            return None
        return offset - self.begin - sum(length for _, length in before)


@dataclass(frozen=True)
class Order:
    """One message of topic `order`.

    Attributes:
        position: log position of the first record.
        ranges: one for every partition that is read, whether or not it gave records to this batch.
        source: int[n], index into `ranges` of each of the n records, in the order of the log, or NO_SOURCE.
        versions: what decided.
        history: hash of the state from which the log began.
        records: the typed records as bytes.
        number: of the promotion of what decided, in the home of the scorer; 0 where it is not known.
    """

    position: int
    ranges: tuple[Range, ...]
    source: Int64
    versions: Versions
    history: str
    records: bytes
    number: int = 0

    def __len__(self) -> int:
        return len(self.source)

    @property
    def counts(self) -> list[int]:
        """Records of each range."""
        return counts_of(self.source, len(self.ranges))

    @property
    def next_offsets(self) -> dict[str, int]:
        """By `topic:partition`, the offset after the last message that was applied."""
        return {f"{r.topic}:{r.partition}": r.end for r in self.ranges}

    def position_of(self, topic: str, partition: int, offset: int) -> int | None:
        """Log position of the record at an offset; None if it is not one of this micro-batch."""
        for number, r in enumerate(self.ranges):
            if (r.topic, r.partition) == (topic, partition):
                index = r.index_of(offset)
                return (
                    None
                    if index is None
                    else self.position + int(np.flatnonzero(self.source == number)[index])
                )
        return None

    def batch(self, catalogue: Catalogue) -> LogBatch:
        """The typed records, without original bytes.

        Raises:
            ArtefactError: they are damaged, of another format, or of a catalogue with other fields.
        """
        batch = decode(self.records, catalogue)
        if batch.first_position != self.position or len(batch) != len(self):
            raise _unreadable(f"its records are not those of position {self.position}")
        return batch

    def to_bytes(self) -> bytes:
        """The message; runs of the same source are written as pairs of value and length."""
        ranges = [
            [r.topic, r.partition, r.begin, r.end, *(n for gap in r.gaps for n in gap)] for r in self.ranges
        ]
        header = orjson.dumps(
            {
                "position": self.position,
                "ranges": ranges,
                "sources": _as_runs(self.source),
                "model": self.versions.model,
                "policy": self.versions.policy,
                "catalogue": self.versions.catalogue,
                "engine": self.versions.engine,
                "history": self.history,
                "number": self.number,
            }
        )
        return _PRELUDE.pack(_MAGIC, FORMAT, len(header)) + header + self.records

    @staticmethod
    def from_bytes(content: bytes | None) -> Order:
        """Read a message back; its records are decoded by `batch`.

        Raises:
            ArtefactError: an earlier or later version wrote it, or something other than Zaslon.
        """
        header, records = _split(content or b"")
        try:
            found = orjson.loads(header)
            order = Order(
                int(found["position"]), tuple(_range(values) for values in found["ranges"]),
                _from_runs(found["sources"]), _versions(found), str(found["history"]), records,
                int(found.get("number", 0)),
            )  # fmt: skip
            if order.counts != [r.records for r in order.ranges]:
                raise ValueError("its ranges and sources disagree")
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise _unreadable(str(error)) from error
        return order


def counts_of(source: Int64, partitions: int) -> list[int]:
    """Records of each partition, given the partition of each record."""
    return [int(n) for n in np.bincount(source[source != NO_SOURCE], minlength=partitions)]


def is_barrier(message: Message) -> bool:
    """Whether a message of topic `order` holds no records: see `commit.py`."""
    return message.value() is None


def _split(content: bytes) -> tuple[bytes, bytes]:
    """Header and records of a message of our format."""
    if content.startswith(b"{"):
        raise _of_format("1")
    if len(content) < _PRELUDE.size or content[:4] != _MAGIC:
        raise _unreadable("it has no header")
    _, version, length = _PRELUDE.unpack_from(content)
    if version != FORMAT:
        raise _of_format(str(version))
    end = _PRELUDE.size + length
    return content[_PRELUDE.size : end], content[end:]


def _of_format(version: str) -> ArtefactError:
    return ArtefactError(
        f"The order topic holds messages of format {version}; this version reads format {FORMAT}.",
        hint="Use the version of Zaslon that wrote them, or begin with new topics and a new group"
        " (ZASLON_KAFKA_TOPIC_…, ZASLON_KAFKA_GROUP).",
    )


def _unreadable(why: str) -> ArtefactError:
    return ArtefactError(
        f"A message of the order topic cannot be read: {why}.", hint="Only Zaslon may write to that topic."
    )


def _range(values: Sequence[Any]) -> Range:
    topic, partition, begin, end, *gaps = values
    return Range(
        str(topic), int(partition), int(begin), int(end), tuple(zip(gaps[::2], gaps[1::2], strict=True))
    )


def _versions(found: dict[str, Any]) -> Versions:
    return Versions(
        str(found["model"]), str(found["policy"]), str(found["catalogue"]), int(found["engine"])
    )  # fmt: skip


def _as_runs(values: Int64) -> list[int]:
    if not len(values):
        return []
    begins = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.append(begins, len(values)))
    runs: list[int] = np.stack([values[begins], lengths], axis=1).ravel().tolist()
    return runs


def _from_runs(runs: Sequence[int]) -> Int64:
    pairs = np.asarray(runs, np.int64).reshape(-1, 2)
    return np.repeat(pairs[:, 0], pairs[:, 1])


def raw_batch(
    first_position: int, source: Int64, is_labels: Sequence[bool], arrival_time_seconds: Int64,
    bodies: Sequence[bytes],
) -> RecordBatch:  # fmt: skip
    """Raw records of several partitions, in the order of the log.

    Args:
        first_position: log position of the first one.
        source: int[n], which partition each comes from.
        is_labels: by partition, whether it holds labels; the others hold transactions.
        arrival_time_seconds: int64[n].
        bodies: the bytes of each record, as `interleaved` gives them.
    """
    raw = Originals.joined(bodies)
    is_json = _is_json(raw.buffer, raw.starts, raw.lengths)
    kinds = np.where(is_json, np.uint8(Kind.TRANSACTION_JSON), np.uint8(Kind.TRANSACTION_LINE))
    kinds[np.array(is_labels, np.bool_)[source]] = Kind.LABEL_JSON
    return RecordBatch(first_position, kinds, arrival_time_seconds, raw.buffer, raw.starts, raw.lengths)


def interleaved(source: Int64, records: Sequence[Sequence[bytes]]) -> Sequence[bytes]:
    """Records of several partitions in the order of the log; nothing looks into them.

    Args:
        source: int[n], which partition each comes from.
        records: by partition, its records in the order of their offsets.
    """
    filled = [part for part in records if part]
    if len(filled) <= 1:
        return filled[0] if filled else ()
    parts = [iter(part) for part in records]
    return [next(parts[s]) for s in source.tolist()]


def _is_json(buffer: NDArray[np.uint8], starts: Int64, lengths: Int64) -> NDArray[np.bool_]:
    """Whether the first byte that is not a blank opens a JSON object."""
    first = np.zeros(len(starts), np.uint8)
    filled = lengths > 0
    first[filled] = buffer[starts[filled]]
    for i in np.flatnonzero(np.isin(first, _BLANKS)).tolist():
        text = buffer[starts[i] : starts[i] + lengths[i]].tobytes().lstrip()
        first[i] = text[0] if text else 0
    return np.asarray(first == ord("{"))
