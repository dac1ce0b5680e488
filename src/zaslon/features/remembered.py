"""The table of remembered transactions: which ids are known, and what a label needs of them.

Rows stand in log order; row numbers only grow. A row is known while its time is within
`remember_seconds` of the newest event time seen so far (the watermark). That is judged at each
event, and rows are given up at each event, oldest in the log first, so that nothing depends on
batches. A label that comes before its transaction waits in a row of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.compiled import Integer, compiled, inlined
from zaslon.domain.errors import DataError
from zaslon.domain.rejections import Reason
from zaslon.features.keys import EMPTY, mixed, place_of

# The two low bits of `note`; the six above hold the conditions that the transaction met.
UNLABELLED, GOOD, FRAUD, WAITING_GOOD = 0, 1, 2, 3
_WAITING_FRAUD = 7  # WAITING_GOOD with the first condition bit: a waiting row has no conditions
STATE_MASK = 3
CONDITION_SHIFT = 2

HEAD, TAIL, WAITING, WATERMARK, BASE, ROW_BITS = 0, 1, 2, 3, 4, 5  # positions in counters
_INDEX_LOAD_MAX = 0.85
_ROWS_SHIFT = 6  # rows that are given up or not yet used are at most a 64th of all, and one batch

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
        places: uint32[size], at hashed places, EMPTY where free: in the ROW_BITS low bits a row number
            modulo their power of two, above them bits of the id's hash, so that a search seldom looks
            at the ids of others.
        counters: int64[6], HEAD and TAIL row, WAITING labels, WATERMARK, BASE row, ROW_BITS.
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
def _tag_of(bits: np.uint64, row_bits: Integer) -> Integer:
    """What an index place tells of the key besides its row; never all ones, which EMPTY has."""
    most = (1 << (32 - row_bits)) - 2
    return min(np.int64(bits & np.uint64(0xFFFFFFFF)) >> row_bits, most)


@inlined
def _place(table: RememberedArrays, key: Integer) -> Integer:
    """Place in the index where `key` stands, or the free place where it would."""
    size, row_bits = table.places.size, table.counters[ROW_BITS]
    bits = mixed(key)
    tag = _tag_of(bits, row_bits)
    place = place_of(bits, size)
    while table.places[place] != EMPTY:
        if np.int64(table.places[place]) >> row_bits == tag and table.id[_offset(table, place)] == key:
            return place
        place = place + 1 if place + 1 < size else 0
    return place


@inlined
def _offset(table: RememberedArrays, place: Integer) -> Integer:
    """Where the row that an index place names stands in the columns."""
    mask = (1 << table.counters[ROW_BITS]) - 1
    return (np.int64(table.places[place]) - table.counters[BASE]) & mask


@inlined
def _name_row(table: RememberedArrays, place: Integer, key: Integer, row: Integer) -> None:
    """Let an index place name a row, with as many bits of the key as there is room for."""
    row_bits = table.counters[ROW_BITS]
    tag = _tag_of(mixed(key), row_bits)
    table.places[place] = np.uint32((tag << row_bits) | (row & ((1 << row_bits) - 1)))


@inlined
def _append(table: RememberedArrays, place: Integer, key: Integer, moment: Integer, note: Integer) -> Integer:
    """A new row for `key`, named by index `place`; returns its offset."""
    row = table.counters[TAIL]
    offset = row - table.counters[BASE]
    table.id[offset] = key
    table.time[offset] = moment
    table.note[offset] = note
    _name_row(table, place, key, row)
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


@inlined
def _delete(table: RememberedArrays, hole: Integer) -> None:
    """Free an index place and close the gap, so that searches never cross a hole."""
    size = table.places.size
    place = hole
    while True:
        place = place + 1 if place + 1 < size else 0
        if table.places[place] == EMPTY:
            break
        home = place_of(mixed(table.id[_offset(table, place)]), size)
        # `place` may move into the hole unless its home lies between the hole and itself.
        between = hole < home <= place if hole <= place else (home > hole or home <= place)
        if not between:
            table.places[hole] = table.places[place]
            hole = place
    table.places[hole] = EMPTY


@inlined
def _give_up_row(table: RememberedArrays, head: Integer) -> None:
    """Take the row at the head out of the index, if no newer row of its id stands there."""
    offset = head - table.counters[BASE]
    place = _place(table, table.id[offset])
    if table.places[place] != EMPTY and _offset(table, place) == offset:
        if table.note[offset] & STATE_MASK == WAITING_GOOD:
            table.counters[WAITING] -= 1
        _delete(table, place)


@inlined
def _forget(table: RememberedArrays, remember_seconds: Integer) -> None:
    """Give up rows at the head that are no longer known."""
    watermark, base = table.counters[WATERMARK], table.counters[BASE]
    head, tail = table.counters[HEAD], table.counters[TAIL]
    while head < tail and np.int64(table.time[head - base]) + remember_seconds <= watermark:
        _give_up_row(table, head)
        head += 1
    table.counters[HEAD] = head


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
        _forget(table, limits.remember_seconds)
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
        key = table.id[row - table.counters[BASE]]
        _name_row(table, _place(table, key), key, row)


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
            np.zeros(6, np.int64),
        )
        self.arrays.counters[ROW_BITS] = _row_bits(rows)

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
        """Make sure that `more` rows fit : by moving up, else by growth."""
        counters, rows = self.arrays.counters, len(self.arrays.id)
        needed = int(counters[TAIL] - counters[BASE]) + more
        if needed > rows and counters[HEAD] - counters[BASE] > rows >> _ROWS_SHIFT:
            needed -= int(counters[HEAD] - counters[BASE])
            _slide(self.arrays)
        if needed > rows:
            self._resize_rows(max(needed, rows + (rows >> _ROWS_SHIFT)))
        if len(self) + more > _INDEX_LOAD_MAX * len(self.arrays.places):
            self._rebuild_index((len(self) + more) * 9 // 8)

    def _resize_rows(self, rows: int) -> None:
        columns = self.arrays
        for column in (columns.id, columns.fingerprint, columns.time, columns.label_time, columns.note):
            column.resize(rows, refcheck=False)
        columns.slots.resize((rows, columns.slots.shape[1]), refcheck=False)
        if _row_bits(rows) > columns.counters[ROW_BITS]:
            columns.counters[ROW_BITS] = _row_bits(rows)
            self._rebuild_index(len(self))

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
        saved["counters"] = arrays.counters[:BASE]  # where rows stand in memory is no part of the state
        return saved

    @staticmethod
    def restore(saved: dict[str, NDArray[np.generic]], limits: Limits) -> Remembered:
        """The inverse of `save`. Takes the arrays out of `saved` one by one.

        Raises:
            ValueError: the arrays contradict each other.
        """
        rows, entities = saved["slots"].shape
        counters = saved["counters"]
        waiting = np.count_nonzero(saved["note"] & STATE_MASK == WAITING_GOOD)  # type: ignore[operator]
        if counters.shape != (4,) or counters[TAIL] - counters[HEAD] != rows or counters[WAITING] != waiting:
            raise ValueError("rows and counters of the remembered transactions disagree")
        table = Remembered(entities, limits, rows)
        for name in ("id", "fingerprint", "time", "label_time", "note", "slots"):
            column, content = getattr(table.arrays, name), saved.pop(name)
            if content.dtype != column.dtype or len(content) != rows:
                raise ValueError(f"'{name}' of the remembered transactions is damaged")
            column[:rows] = content
        table.arrays.counters[:BASE] = counters
        table.arrays.counters[BASE] = table.arrays.counters[HEAD]
        _fill_index(table.arrays)
        return table


def _places(entries: int) -> int:
    return int(entries / _INDEX_LOAD_MAX) + 16


def _row_bits(rows: int) -> int:
    """Bits of an index place that number the rows. One bit is left to tell apart from EMPTY."""
    bits = max(int(rows).bit_length(), 8)
    if bits > 31:
        raise DataError(
            f"More than {2**31 - 1:,} transactions would have to be remembered.",
            hint="Shorten `remember` in the catalogue.",
        )
    return bits
