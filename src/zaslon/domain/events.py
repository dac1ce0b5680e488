"""Events: raw records as they arrive, and the typed records that admission makes of them for the log.

All arrays of one object have the same length and order. Columns, not objects: a batch of one
million transactions is ten arrays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.rejections import RecordProblem

Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]
# As people know a transaction: a number or a text, whichever the catalogue's field holds.
TransactionId = int | str
ID_BYTES_MAX = 64  # of an id that is a text, in UTF-8
ID_TEXT = np.dtype(f"S{ID_BYTES_MAX}")
IdText = NDArray[np.bytes_]
NO_KEY = -(2**63)  # for a transaction without a key of an entity; never a real number or hash


class Kind(IntEnum):
    """What a log record holds."""

    TRANSACTION_LINE = 0  # one text line, fields in the catalogue's order
    TRANSACTION_JSON = 1  # one JSON object, keys by the catalogue's names
    LABEL_JSON = 2  # {"transaction_id": …, "is_fraud": true|false}


class Degradation(IntEnum):
    """What the time budget did not allow; each includes those before it.

    It is in the log with the record, because a replay must leave out the same.
    """

    NOTHING = 0
    EXPLANATION = 1  # action and score as ever, no reasons of the model
    MODEL = 2  # rules decide where one fires, else the policy's fallback
    RULES = 3  # the policy's fallback decides

    @property
    def code(self) -> str:
        """The name in decisions and metrics."""
        return self.name.lower()


_LEFT_OUT_SHIFT = 4


def terms(kind: int, degradation: int = Degradation.NOTHING) -> int:
    """A record's byte in `RecordBatch.kinds`."""
    return kind | degradation << _LEFT_OUT_SHIFT


_LABEL_JSON = int(Kind.LABEL_JSON)  # NumPy takes microseconds to compare with a member of an enumeration


@dataclass(frozen=True)
class RecordBatch:
    """Raw records in log order: record i is `buffer[starts[i] : starts[i] + lengths[i]]`.

    Attributes:
        first_position: log position of record 0; record i has `first_position + i`.
        kinds: uint8 of each record: `Kind` in the low four bits, `Degradation` in the high ones.
        arrival_time_seconds: when each record reached the log, seconds since 1970.
    """

    first_position: int
    kinds: UInt8
    arrival_time_seconds: Int64
    buffer: UInt8
    starts: Int64
    lengths: Int64

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def kind(self) -> UInt8:
        """uint8 `Kind` of each record."""
        return self.kinds & np.uint8((1 << _LEFT_OUT_SHIFT) - 1)

    @property
    def degradation(self) -> UInt8:
        """uint8 `Degradation` of each record."""
        return self.kinds >> np.uint8(_LEFT_OUT_SHIFT)

    def raw(self, index: int) -> bytes:
        """The original bytes of one record."""
        start = int(self.starts[index])
        return self.buffer[start : start + int(self.lengths[index])].tobytes()

    def part(self, begin: int, end: int) -> RecordBatch:
        """Records [begin, end) of the batch, at their log positions."""
        if begin <= 0 and end >= len(self):
            return self
        rows = slice(begin, end)
        return RecordBatch(
            self.first_position + begin, self.kinds[rows], self.arrival_time_seconds[rows], self.buffer,
            self.starts[rows], self.lengths[rows],
        )  # fmt: skip

    @staticmethod
    def of(
        records: Sequence[bytes],
        kinds: Sequence[int],
        arrival_time_seconds: Sequence[int],
        first_position: int = 0,
    ) -> RecordBatch:
        """A batch of separate byte strings."""
        lengths = np.fromiter((len(r) for r in records), np.int64, len(records))
        ends = np.cumsum(lengths)
        return RecordBatch(
            first_position,
            np.asarray(kinds, np.uint8),
            np.asarray(arrival_time_seconds, np.int64),
            np.frombuffer(b"".join(records), np.uint8),
            ends - lengths,
            lengths,
        )


@dataclass(frozen=True)
class Transactions:
    """Clean transactions, n of them.

    Attributes:
        transaction_id: int64[n].
        event_time_seconds: int64[n], seconds since 1970, 0 … 2**32-2.
        amount_minor: int64[n].
        entity_keys: by entity name of the catalogue, int64[n]; text keys are keyed hashes, and NO_KEY
            if the record has none, which the catalogue allows with `required = false`.
        numbers: by field name, float64[n]: further numeric fields that the catalogue maps.
        flags: uint32[n], bit b is the catalogue's flag b (see `Catalogue.flag_names`).
        digest: uint64[n, 2], keyed digest of the content (id, time, amount, keys, numbers): a repeat of
            an id is a duplicate if it is equal, else a conflict.
        is_fraud: int8[n], the answer where the source carries one, -1 where not.
        scenario: int8[n], the simulator's fraud scenario where the source carries one, else -1.
        id_text: ID_TEXT[n], the ids as UTF-8, where the catalogue's are texts: `transaction_id` then
            holds keyed hashes of them. None where they are numbers.
    """

    transaction_id: Int64
    event_time_seconds: Int64
    amount_minor: Int64
    entity_keys: dict[str, Int64]
    numbers: dict[str, NDArray[np.float64]]
    flags: NDArray[np.uint32]
    digest: NDArray[np.uint64]
    is_fraud: NDArray[np.int8]
    scenario: NDArray[np.int8]
    id_text: IdText | None = None

    def __len__(self) -> int:
        return len(self.transaction_id)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Transactions:
        """The chosen rows, in the order given."""
        return Transactions(
            self.transaction_id[chosen],
            self.event_time_seconds[chosen],
            self.amount_minor[chosen],
            {name: keys[chosen] for name, keys in self.entity_keys.items()},
            {name: values[chosen] for name, values in self.numbers.items()},
            self.flags[chosen],
            self.digest[chosen],
            self.is_fraud[chosen],
            self.scenario[chosen],
            None if self.id_text is None else self.id_text[chosen],
        )

    @staticmethod
    def concatenate(parts: Sequence[Transactions]) -> Transactions:
        """All rows of `parts` (at least one), in order."""
        first = parts[0]
        return Transactions(
            np.concatenate([p.transaction_id for p in parts]),
            np.concatenate([p.event_time_seconds for p in parts]),
            np.concatenate([p.amount_minor for p in parts]),
            {k: np.concatenate([p.entity_keys[k] for p in parts]) for k in first.entity_keys},
            {k: np.concatenate([p.numbers[k] for p in parts]) for k in first.numbers},
            np.concatenate([p.flags for p in parts]),
            np.concatenate([p.digest for p in parts]),
            np.concatenate([p.is_fraud for p in parts]),
            np.concatenate([p.scenario for p in parts]),
            joined_id_text(parts),
        )


@dataclass(frozen=True)
class Labels:
    """Verdicts on transactions, n of them: int64[n], bool[n], and when they became known.

    `id_text` as in `Transactions`. `are_live`: they arrived by our clock and not by that of the transactions,
    so each counts from the newest event time of the log on at the latest: for whatever is decided after it,
    also where payments' clocks are behind ours, or what happened long ago is played back.
    """

    transaction_id: Int64
    is_fraud: NDArray[np.bool_]
    arrival_time_seconds: Int64
    id_text: IdText | None = None
    are_live: bool = False

    def __len__(self) -> int:
        return len(self.transaction_id)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Labels:
        """The chosen labels, in the order given."""
        return Labels(
            self.transaction_id[chosen],
            self.is_fraud[chosen],
            self.arrival_time_seconds[chosen],
            None if self.id_text is None else self.id_text[chosen],
            self.are_live,
        )

    @staticmethod
    def concatenate(parts: Sequence[Labels]) -> Labels:
        """All labels of `parts` (at least one, all live or none), in order."""
        return Labels(
            np.concatenate([p.transaction_id for p in parts]),
            np.concatenate([p.is_fraud for p in parts]),
            np.concatenate([p.arrival_time_seconds for p in parts]),
            joined_id_text(parts),
            any(p.are_live for p in parts),
        )


def joined_id_text(parts: Sequence[Transactions | Labels]) -> IdText | None:
    """The texts of all parts (at least one) in order; None where ids are numbers."""
    texts = [part.id_text for part in parts if part.id_text is not None]
    return np.concatenate(texts) if texts else None


def public_ids(part: Transactions | Labels) -> list[TransactionId]:
    """The ids as people know them."""
    if part.id_text is None:
        return list(part.transaction_id.tolist())
    return [word.decode() for word in part.id_text.tolist()]


@dataclass(frozen=True)
class Rejected:
    """Records that cannot be decided, m of a batch.

    Attributes:
        index: int64[m], which record of the batch.
        problems: by rejected record, what is wrong with it, 1 to PROBLEMS_MAX: by the order of reasons,
            among equal ones by the order of the catalogue's fields. The first is the primary one.
    """

    index: Int64
    problems: list[tuple[RecordProblem, ...]]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def reason(self) -> UInt8:
        """uint8[m], the primary `Reason` values."""
        return np.array([found[0].reason for found in self.problems], np.uint8)

    @property
    def field(self) -> list[str | None]:
        """By rejected record, the field that the primary reason concerns, or None."""
        return [found[0].field for found in self.problems]

    @property
    def detail(self) -> list[str]:
        """By rejected record, one sentence about its primary problem."""
        return [found[0].detail for found in self.problems]

    def take(self, chosen: slice) -> Rejected:
        """A run of them, in order, with the index that each has now."""
        return Rejected(self.index[chosen], self.problems[chosen])


_ENTRY_IN_WORDS = re.compile(r", entry ([0-9]{1,9})$")


@dataclass(frozen=True)
class Change:
    """Another model or policy decides from a log position on.

    Attributes:
        model, policy: which, by their ids.
        number: of this promotion in the home; a higher one is newer.
        by, reason: who made it, and why, in words.
        entry: of the promotion ledger that it was made for; None for one without, such as an edited file.
    """

    model: str
    policy: str
    number: int
    by: str
    reason: str
    entry: int | None = None

    @staticmethod
    def with_entry_in_words(model: str, policy: str, number: int, by: str, reason: str) -> Change:
        """A change that was written before `entry` was: its reason ends with it."""
        found = _ENTRY_IN_WORDS.search(reason)
        return Change(model, policy, number, by, reason, int(found[1]) if found else None)


class EntryKind(IntEnum):
    """What admission made of a record."""

    TRANSACTION = 0
    LABEL = 1
    REJECTED = 2
    CHANGE = 3


# As plain integers: NumPy takes microseconds to compare with a member of an enumeration.
_TRANSACTION, _LABEL, _REJECTED, _ = map(int, EntryKind)


@dataclass(frozen=True)
class Originals:
    """The bytes that records arrived as: record i is `buffer[starts[i] : starts[i] + lengths[i]]`."""

    buffer: UInt8
    starts: Int64
    lengths: Int64

    def of(self, index: int) -> bytes:
        """The bytes of one record."""
        start = int(self.starts[index])
        return self.buffer[start : start + int(self.lengths[index])].tobytes()

    @staticmethod
    def joined(records: Sequence[bytes]) -> Originals:
        """Of separate byte strings."""
        lengths = np.fromiter(map(len, records), np.int64, len(records))
        return Originals(np.frombuffer(b"".join(records), np.uint8), np.cumsum(lengths) - lengths, lengths)

    def take(self, chosen: slice) -> Originals:
        """A run of records; their bytes stay where they are."""
        return Originals(self.buffer, self.starts[chosen], self.lengths[chosen])

    @staticmethod
    def concatenate(parts: Sequence[Originals]) -> Originals:
        """The records of all parts (at least one), in order."""
        if all(part.buffer is parts[0].buffer for part in parts):
            starts = [part.starts for part in parts]
            buffer = parts[0].buffer
        else:
            ends = np.cumsum([len(part.buffer) for part in parts])
            starts = [p.starts + end - len(p.buffer) for p, end in zip(parts, ends.tolist(), strict=True)]
            buffer = np.concatenate([part.buffer for part in parts])
        return Originals(buffer, np.concatenate(starts), np.concatenate([p.lengths for p in parts]))


@dataclass(frozen=True)
class LogBatch:
    """Typed records in log order: what the log holds and what the engine applies.

    Attributes:
        first_position: log position of record 0; record i has `first_position + i`.
        kind: uint8[n], `EntryKind` of each record.
        degradation: uint8[n], `Degradation` of each record.
        arrival_time_seconds: int64[n], when each record reached the log, seconds since 1970.
        transactions, labels, rejected: the records of each kind, in log order.
        originals: the bytes as they arrived; None where they are not kept: a file's rows, or records
            whose bytes are older than `original_retention_days`.
        change: of a batch that is one record, a change of what decides.
    """

    first_position: int
    kind: UInt8
    degradation: UInt8
    arrival_time_seconds: Int64
    transactions: Transactions
    labels: Labels
    rejected: Rejected
    originals: Originals | None = None
    change: Change | None = None

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def end_position(self) -> int:
        """Position after the last record."""
        return self.first_position + len(self)

    @cached_property
    def transaction_index(self) -> Int64:
        """int64[transactions], which record of the batch each is."""
        return np.flatnonzero(self.kind == _TRANSACTION)

    @cached_property
    def label_index(self) -> Int64:
        """int64[labels], which record of the batch each is."""
        return np.flatnonzero(self.kind == _LABEL)

    @cached_property
    def is_label(self) -> NDArray[np.bool_]:
        """bool[transactions + labels], which kind the k-th of them is."""
        accepted = self.kind < _REJECTED
        is_label = np.asarray(self.kind == _LABEL)
        return is_label if accepted.all() else is_label[accepted]

    def original(self, index: int) -> bytes | None:
        """The bytes that a record arrived as, or None where they are not kept."""
        return None if self.originals is None else self.originals.of(index)

    def part(self, begin: int, end: int) -> LogBatch:
        """Records [begin, end) of the batch, at their log positions."""
        if begin <= 0 and end >= len(self):
            return self
        begin, end = max(begin, 0), min(end, len(self))
        rows = [slice(*np.searchsorted(of_kind, (begin, end))) for of_kind in self._places()]
        rejected = self.rejected.take(rows[2])
        return LogBatch(
            self.first_position + begin, self.kind[begin:end], self.degradation[begin:end],
            self.arrival_time_seconds[begin:end], self.transactions.take(rows[0]), self.labels.take(rows[1]),
            replace(rejected, index=rejected.index - begin),
            None if self.originals is None else self.originals.take(slice(begin, end)),
        )  # fmt: skip

    def at(self, first_position: int) -> LogBatch:
        """The same records at another place in a log."""
        return replace(self, first_position=first_position)

    def without_originals(self) -> LogBatch:
        """The same without the bytes as they arrived, and without what quotes them."""
        problems = [tuple(problem.forgotten() for problem in found) for found in self.rejected.problems]
        return replace(self, originals=None, rejected=Rejected(self.rejected.index, problems))

    def rejecting(self, indexes: Sequence[int], problem: RecordProblem) -> LogBatch:
        """The same with some of its records rejected for a problem; they are not applied."""
        chosen = np.zeros(len(self), np.bool_)
        chosen[list(indexes)] = True
        before = np.flatnonzero(~chosen[self.rejected.index]).tolist()
        added = np.flatnonzero(chosen)
        index = np.concatenate([self.rejected.index[before], added])
        problems = [*(self.rejected.problems[i] for i in before), *[(problem,)] * len(added)]
        order = np.argsort(index, kind="stable").tolist()
        return replace(
            self, kind=np.where(chosen, np.uint8(_REJECTED), self.kind),
            transactions=self.transactions.take(~chosen[self.transaction_index]),
            labels=self.labels.take(~chosen[self.label_index]),
            rejected=Rejected(index[order], [problems[i] for i in order]),
        )  # fmt: skip

    def _places(self) -> tuple[Int64, Int64, Int64]:
        return self.transaction_index, self.label_index, self.rejected.index

    @staticmethod
    def concatenate(parts: Sequence[LogBatch]) -> LogBatch:
        """All records of `parts` (at least one), which follow each other in the log."""
        first, begins = parts[0], np.cumsum([0, *(len(part) for part in parts)])
        originals = [part.originals for part in parts if part.originals is not None]
        return LogBatch(
            first.first_position, np.concatenate([p.kind for p in parts]),
            np.concatenate([p.degradation for p in parts]),
            np.concatenate([p.arrival_time_seconds for p in parts]),
            Transactions.concatenate([p.transactions for p in parts]),
            Labels.concatenate([p.labels for p in parts]),
            Rejected(
                np.concatenate([p.rejected.index + b for p, b in zip(parts, begins.tolist(), strict=False)]),
                [problems for p in parts for problems in p.rejected.problems],
            ),
            Originals.concatenate(originals) if len(originals) == len(parts) else None,
        )  # fmt: skip
