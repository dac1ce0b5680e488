"""The table of remembered transactions: which ids are known, and what a label needs of them.

Rows stand in log order; row numbers only grow. A row is known while its time is within
`remember_seconds` of the newest event time seen so far (the watermark), judged at each event, so
that results never depend on when memory is given back. A label that comes before its transaction
waits in a row of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.compiled import Integer, compiled, inlined
from zaslon.domain.rejections import Reason
from zaslon.features.keys import EMPTY, place_of

# The two low bits of `note`; the six above hold the conditions that the transaction met.
UNLABELLED, GOOD, FRAUD, WAITING_GOOD = 0, 1, 2, 3
_WAITING_FRAUD = 7  # WAITING_GOOD with the first condition bit: a waiting row has no conditions
STATE_MASK = 3
CONDITION_SHIFT = 2

HEAD, TAIL, BASE, WAITING, WATERMARK = 0, 1, 2, 3, 4  # positions in counters
_INDEX_LOAD_MAX = 0.85

LABEL_APPLIED, LABEL_REPEATED, LABEL_WAITS = 0, 1, 2  # outcomes of a label; else a Reason

_ACCEPTED = int(Reason.ACCEPTED)
_TOO_LATE = int(Reason.TOO_LATE)
_DUPLICATE = int(Reason.DUPLICATE)
_CONFLICTING = int(Reason.CONFLICTING_DUPLICATE)
_UNKNOWN = int(Reason.UNKNOWN_TRANSACTION)


class RememberedArrays(NamedTuple):
    """Columns of the table; row r stands at place r - counters[BASE].

    Attributes:
        id: int64[rows], transaction ids.
        fingerprint: uint32[rows], hash of the content.
        time: uint32[rows], event time (of a waiting label: its arrival).
        label_time: uint32[rows], arrival of the newest label.
        note: uint8[rows], label state and conditions.
        slots: uint32[rows, entities].
        places: uint32[size], row numbers modulo 2**32 at hashed places, EMPTY where free.
        counters: int64[5], head row, tail row, base row, waiting labels, watermark.
    """

    id: NDArray[np.int64]
    fingerprint: NDArray[np.uint32]
    time: NDArray[np.uint32]
    label_time: NDArray[np.uint32]
    note: NDArray[np.uint8]
    slots: NDArray[np.uint32]
    places: NDArray[np.uint32]
    counters: NDArray[np.int64]


class Limits(NamedTuple):
    """How long and how much is remembered, in seconds and rows."""

    late_within_seconds: int
    remember_seconds: int
    waiting_labels_max: int


class TransactionMarks(NamedTuple):
    """What `identify` says of each transaction, arrays of length n.

    `status` 0 or a Reason; `row` in the table; `waiting` 0, GOOD or FRAUD: a label that had been
    waiting, with `waiting_time` its arrival; `watermark` as this event saw it.
    """

    status: NDArray[np.uint8]
    row: NDArray[np.int64]
    waiting: NDArray[np.uint8]
    waiting_time: NDArray[np.int64]
    watermark: NDArray[np.int64]


class LabelMarks(NamedTuple):
    """What `identify` says of each label: `status`, its transaction's `row`, what it replaces."""

    status: NDArray[np.uint8]
    row: NDArray[np.int64]
    previous: NDArray[np.uint8]
    previous_time: NDArray[np.int64]
    watermark: NDArray[np.int64]


@inlined
def _place(table: RememberedArrays, key: Integer) -> Integer:
    """Place in the index where `key` stands, or the free place where it would."""
    size = table.places.size
    base = table.counters[BASE]
    place = place_of(key, size)
    while table.places[place] != EMPTY:
        offset = np.int64(np.uint32(table.places[place] - np.uint32(base & 0xFFFFFFFF)))
        if table.id[offset] == key:
            return place
        place = place + 1 if place + 1 < size else 0
    return place


@inlined
def _offset(table: RememberedArrays, place: Integer) -> Integer:
    """Where the row that an index place names stands in the columns."""
    base = table.counters[BASE]
    return np.int64(np.uint32(table.places[place] - np.uint32(base & 0xFFFFFFFF)))


@inlined
def _append(table: RememberedArrays, place: Integer, key: Integer, moment: Integer, note: Integer) -> Integer:
    """A new row for `key`, named by index `place`; returns its offset."""
    row = table.counters[TAIL]
    if row & 0xFFFFFFFF == 0xFFFFFFFF:  # this row number would read as EMPTY: leave it out
        table.id[row - table.counters[BASE]] = 0
        table.time[row - table.counters[BASE]] = 0
        table.note[row - table.counters[BASE]] = 0
        row += 1
    offset = row - table.counters[BASE]
    table.id[offset] = key
    table.time[offset] = moment
    table.note[offset] = note
    table.places[place] = np.uint32(row & 0xFFFFFFFF)
    table.counters[TAIL] = row + 1
    return offset


@inlined
def _identify_transaction(
    table: RememberedArrays, limits: Limits, key: Integer, moment: Integer, fingerprint: Integer,
    i: Integer, out: TransactionMarks,
) -> None:  # fmt: skip
    watermark = max(table.counters[WATERMARK], moment)
    out.watermark[i] = watermark
    if moment + limits.late_within_seconds <= watermark:
        out.status[i] = _TOO_LATE
        return
    place = _place(table, key)
    if table.places[place] != EMPTY:
        offset = _offset(table, place)
        state = table.note[offset] & STATE_MASK
        known = np.int64(table.time[offset]) + limits.remember_seconds > watermark
        if known and state != WAITING_GOOD:
            same = table.fingerprint[offset] == fingerprint and table.time[offset] == moment
            out.status[i] = _DUPLICATE if same else _CONFLICTING
            return
        if state == WAITING_GOOD:
            table.counters[WAITING] -= 1
            if known:
                out.waiting[i] = FRAUD if table.note[offset] == _WAITING_FRAUD else GOOD
                out.waiting_time[i] = table.time[offset]
            table.note[offset] = 0
    table.counters[WATERMARK] = watermark  # only what is accepted moves the clock
    offset = _append(table, place, key, moment, out.waiting[i])
    table.fingerprint[offset] = fingerprint
    table.label_time[offset] = out.waiting_time[i]
    out.row[i] = offset + table.counters[BASE]


@inlined
def _identify_label(
    table: RememberedArrays, limits: Limits, key: Integer, arrival: Integer, is_fraud: bool,
    i: Integer, out: LabelMarks,
) -> None:  # fmt: skip
    watermark = table.counters[WATERMARK]
    out.watermark[i] = watermark
    place = _place(table, key)
    offset = -1
    if table.places[place] != EMPTY:
        offset = _offset(table, place)
        if np.int64(table.time[offset]) + limits.remember_seconds <= watermark:
            if table.note[offset] & STATE_MASK == WAITING_GOOD:
                table.counters[WAITING] -= 1
                table.note[offset] = 0
            offset = -1
    if offset < 0 or table.note[offset] & STATE_MASK == WAITING_GOOD:
        if offset < 0:
            if table.counters[WAITING] >= limits.waiting_labels_max:
                out.status[i] = _UNKNOWN
                return
            offset = _append(table, place, key, arrival, 0)
            table.fingerprint[offset] = 0
            table.counters[WAITING] += 1
        verdict_note = _WAITING_FRAUD if is_fraud else WAITING_GOOD
        if table.note[offset] != verdict_note:
            table.time[offset] = arrival
            table.note[offset] = verdict_note
        out.status[i] = LABEL_WAITS
        return
    state = table.note[offset] & STATE_MASK
    verdict = FRAUD if is_fraud else GOOD
    out.row[i] = offset + table.counters[BASE]
    if state == verdict:
        out.status[i] = LABEL_REPEATED
        return
    out.previous[i] = state
    out.previous_time[i] = table.label_time[offset]
    table.label_time[offset] = arrival
    table.note[offset] = (table.note[offset] & ~STATE_MASK) | verdict
    out.status[i] = LABEL_APPLIED


@compiled
def find(table: RememberedArrays, key: Integer) -> Integer:
    """Offset of the row of `key`, or -1."""
    place = _place(table, key)
    return _offset(table, place) if table.places[place] != EMPTY else -1


@compiled
def identify(
    table: RememberedArrays,
    limits: Limits,
    is_label: NDArray[np.bool_],
    transaction_id: NDArray[np.int64],
    event_time: NDArray[np.int64],
    fingerprint: NDArray[np.uint32],
    label_id: NDArray[np.int64],
    label_time: NDArray[np.int64],
    label_is_fraud: NDArray[np.bool_],
    transactions: TransactionMarks,
    labels: LabelMarks,
) -> None:
    """Run through one batch in log order (`is_label` tells which comes next) and mark each event."""
    next_transaction = 0
    next_label = 0
    for label_next in is_label:
        if label_next:
            i = next_label
            _identify_label(table, limits, label_id[i], label_time[i], label_is_fraud[i], i, labels)
            next_label += 1
        else:
            i = next_transaction
            _identify_transaction(
                table, limits, transaction_id[i], event_time[i], fingerprint[i], i, transactions
            )
            next_transaction += 1


@inlined
def _delete(table: RememberedArrays, hole: Integer) -> None:
    """Free an index place and close the gap, so that searches never cross a hole."""
    size = table.places.size
    place = hole
    while True:
        place = place + 1 if place + 1 < size else 0
        if table.places[place] == EMPTY:
            break
        home = place_of(table.id[_offset(table, place)], size)
        # `place` may move into the hole unless its home lies between the hole and itself.
        between = hole < home <= place if hole <= place else (home > hole or home <= place)
        if not between:
            table.places[hole] = table.places[place]
            hole = place
    table.places[hole] = EMPTY


@compiled
def forget(table: RememberedArrays, remember_seconds: Integer) -> None:
    """Give back rows at the head that are no longer known."""
    watermark = table.counters[WATERMARK]
    head, tail, base = table.counters[HEAD], table.counters[TAIL], table.counters[BASE]
    while head < tail and np.int64(table.time[head - base]) + remember_seconds <= watermark:
        if head & 0xFFFFFFFF != 0xFFFFFFFF:
            place = _place(table, table.id[head - base])
            if table.places[place] == np.uint32(head & 0xFFFFFFFF):
                if table.note[head - base] & STATE_MASK == WAITING_GOOD:
                    table.counters[WAITING] -= 1
                _delete(table, place)
        head += 1
    table.counters[HEAD] = head


@compiled
def _slide(table: RememberedArrays) -> None:
    """Move the rows from head to tail to the front of the columns."""
    head, base = table.counters[HEAD], table.counters[BASE]
    skipped = head - base
    for i in range(table.counters[TAIL] - head):
        table.id[i] = table.id[i + skipped]
        table.fingerprint[i] = table.fingerprint[i + skipped]
        table.time[i] = table.time[i + skipped]
        table.label_time[i] = table.label_time[i + skipped]
        table.note[i] = table.note[i + skipped]
        for entity in range(table.slots.shape[1]):
            table.slots[i, entity] = table.slots[i + skipped, entity]
    table.counters[BASE] = head


@compiled
def _fill_index(table: RememberedArrays) -> None:
    for row in range(table.counters[HEAD], table.counters[TAIL]):
        # A later row of the same id replaces an earlier, expired one.
        if row & 0xFFFFFFFF != 0xFFFFFFFF:
            place = _place(table, table.id[row - table.counters[BASE]])
            table.places[place] = np.uint32(row & 0xFFFFFFFF)


class Remembered:
    """Owner of the table's memory: grows it before a batch, gives rows back between batches."""

    def __init__(self, entities: int, limits: Limits, rows: int = 4096) -> None:
        self.limits = limits
        self.arrays = RememberedArrays(
            np.zeros(rows, np.int64),
            np.zeros(rows, np.uint32),
            np.zeros(rows, np.uint32),
            np.zeros(rows, np.uint32),
            np.zeros(rows, np.uint8),
            np.zeros((rows, entities), np.uint32),
            np.full(_places(rows), EMPTY, np.uint32),
            np.zeros(5, np.int64),
        )

    def __len__(self) -> int:
        return int(self.arrays.counters[TAIL] - self.arrays.counters[HEAD])

    @property
    def watermark_seconds(self) -> int:
        """Newest event time seen so far; 0 before the first."""
        return int(self.arrays.counters[WATERMARK])

    def surely_knows(self, key: int, moment: int) -> bool:
        """Whether an event at `moment` still finds this transaction here, whatever came before it."""
        offset = int(find(self.arrays, key))
        if offset < 0 or self.arrays.note[offset] & STATE_MASK == WAITING_GOOD:
            return False
        newest = max(self.watermark_seconds, moment)
        return int(self.arrays.time[offset]) + self.limits.remember_seconds > newest

    def make_room(self, more: int) -> None:
        """Forget what is too old, then make sure that `more` rows fit (and one skipped row)."""
        forget(self.arrays, self.limits.remember_seconds)
        counters = self.arrays.counters
        rows = len(self.arrays.id)
        if counters[HEAD] - counters[BASE] > max(rows >> 4, 1024):
            _slide(self.arrays)
        used = int(counters[TAIL] - counters[BASE])
        if used + more + 1 > rows:
            self._resize_rows(max(used + more + 1, rows + (rows >> 4)))
        if len(self) + more > _INDEX_LOAD_MAX * len(self.arrays.places):
            self._rebuild_index(max(len(self) + more, len(self) * 9 // 8))

    def _resize_rows(self, rows: int) -> None:
        columns = self.arrays
        for column in (columns.id, columns.fingerprint, columns.time, columns.label_time, columns.note):
            column.resize(rows, refcheck=False)
        columns.slots.resize((rows, columns.slots.shape[1]), refcheck=False)

    def _rebuild_index(self, entries: int) -> None:
        self.arrays = self.arrays._replace(places=np.empty(0, np.uint32))  # the old one first goes
        self.arrays = self.arrays._replace(places=np.full(_places(entries), EMPTY, np.uint32))
        _fill_index(self.arrays)

    def bytes_used(self) -> int:
        """Bytes that the table's arrays occupy."""
        return sum(array.nbytes for array in self.arrays)

    def save(self) -> dict[str, NDArray[np.generic]]:
        """The live rows and counters."""
        arrays, base = self.arrays, int(self.arrays.counters[BASE])
        rows = slice(int(arrays.counters[HEAD]) - base, int(arrays.counters[TAIL]) - base)
        saved: dict[str, NDArray[np.generic]] = {
            name: getattr(arrays, name)[rows]
            for name in ("id", "fingerprint", "time", "label_time", "note", "slots")
        }
        saved["counters"] = arrays.counters
        return saved

    @staticmethod
    def restore(saved: dict[str, NDArray[np.generic]], limits: Limits) -> Remembered:
        """The inverse of `save`."""
        rows, entities = saved["slots"].shape
        table = Remembered(entities, limits, max(rows, 4096))
        for name in ("id", "fingerprint", "time", "label_time", "note", "slots"):
            getattr(table.arrays, name)[:rows] = saved[name]
        table.arrays.counters[:] = saved["counters"]
        table.arrays.counters[BASE] = table.arrays.counters[HEAD]
        _fill_index(table.arrays)
        return table


def _places(entries: int) -> int:
    return int(entries / (_INDEX_LOAD_MAX - 0.08)) + 16
