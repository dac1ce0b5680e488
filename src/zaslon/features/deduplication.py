"""The table of remembered transactions: which ids are known, and what a label needs of them.

Rows stand in log order; row numbers only grow. A row is known while its time is within
`remember_seconds` of the newest event time seen so far (the watermark). That is judged at each
event, and rows are given up at each event, oldest in the log first, so that nothing depends on
batches. A label that comes before its transaction waits in a row of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.rejections import Reason
from zaslon.features.capacity import with_room
from zaslon.features.entity_keys import EMPTY, mixed, place_of
from zaslon.features.index_layout import BUCKET, BUCKET_SHIFT, empty_index, row_bits, rows_of
from zaslon.system.compiled import Integer, compiled, inlined
from zaslon.system.prefetch import prefetch

# The two low bits of `note`; the six above hold the conditions that the transaction met.
UNLABELLED, GOOD, FRAUD, WAITING_GOOD = 0, 1, 2, 3
_WAITING_FRAUD = 7  # WAITING_GOOD with the first condition bit: a waiting row has no conditions
STATE_MASK = 3
CONDITION_SHIFT = 2

HEAD, TAIL, WAITING, WATERMARK, BASE, ROW_BITS = 0, 1, 2, 3, 4, 5  # positions in counters
ACCEPTED_COUNT, STEP_COUNT = 2, 3  # positions in the progress of `identify`
_EMPTY = int(EMPTY)
_PASSED_MAX = 255
_AHEAD = 12  # events between asking memory for a bucket and looking into it
_ROWS_SHIFT = 5  # rows that are given up are at most a 32nd of all, and a part's; they grow by a 32nd
_INDEX_SHIFT = 2  # the index grows by a quarter,
_INDEX_ROWS_MIN = 4  # and at least by four times as many as rows do: it is made anew

LABEL_APPLIED, LABEL_REPEATED, LABEL_WAITS = 0, 1, 2  # outcomes of a label; else a Reason

_ACCEPTED = int(Reason.ACCEPTED)
_TOO_LATE = int(Reason.TOO_LATE)
_DUPLICATE = int(Reason.DUPLICATE)
_CONFLICTING = int(Reason.CONFLICTING_DUPLICATE)
_UNKNOWN = int(Reason.UNKNOWN_TRANSACTION)


class DeduplicationArrays(NamedTuple):
    """Columns of the table; row r stands at place r - counters[BASE].

    Attributes:
        id: int64[rows], transaction ids.
        fingerprint: uint32[rows], hash of the content.
        time: uint32[rows], event time (of a waiting label: its arrival).
        label_time: uint32[rows], arrival of the newest label.
        note: uint8[rows], label state and conditions.
        slots: uint32[rows, entities].
        places: uint32[BUCKET * buckets], EMPTY where free: in the ROW_BITS low bits a row number
            modulo their power of two, above them bits of the id's hash, so that a search seldom looks
            at the ids of others. An id's place is in the bucket that its hash names, one line of the
            cache, or where that is full in one of the next; free places stand last.
        passed: uint8[buckets], how many ids stand beyond this bucket because it was full when they
            came: where none does, a search ends. It stays at _PASSED_MAX once it is there.
        counters: int64[6], HEAD and TAIL row, WAITING labels, WATERMARK, BASE row, ROW_BITS.
    """

    id: NDArray[np.int64]
    fingerprint: NDArray[np.uint32]
    time: NDArray[np.uint32]
    label_time: NDArray[np.uint32]
    note: NDArray[np.uint8]
    slots: NDArray[np.uint32]
    places: NDArray[np.uint32]
    passed: NDArray[np.uint8]
    counters: NDArray[np.int64]


class Limits(NamedTuple):
    """How long and how much is remembered, in seconds and rows."""

    late_within_seconds: int
    remember_seconds: int
    waiting_labels_max: int


# What an event does to the history, in log order; an array of these is what `identify` gives.
STEP = np.dtype(
    [
        ("amount_minor", np.int64),  # of a transaction
        ("transaction", np.int32),  # number among the accepted ones of the batch; -1: a label
        ("row", np.uint32),  # where the transaction, or the label's, stands in the table's columns
        ("watermark", np.uint32),  # as this event saw it
        ("verdict_time", np.uint32),  # arrival of the label
        ("previous_time", np.uint32),  # arrival of the label that it replaces
        ("verdict", np.uint8),  # 0, GOOD or FRAUD; of a transaction: the label that waited for it
        ("previous", np.uint8),  # the verdict that it replaces, or 0
    ],
    align=True,
)
Steps = NDArray[np.void]


@inlined
def _tag_of(bits: np.uint64, row_bits: Integer) -> Integer:
    """What an index place tells of the key besides its row; never all ones, which EMPTY has."""
    most = (1 << (32 - row_bits)) - 2
    return min(np.int64(bits & np.uint64(0xFFFFFFFF)) >> row_bits, most)


@inlined
def _offset(table: DeduplicationArrays, place: Integer) -> Integer:
    """Where the row that an index place names stands in the columns."""
    mask = (1 << table.counters[ROW_BITS]) - 1
    return (np.int64(table.places[place]) - table.counters[BASE]) & mask


@inlined
def _find(table: DeduplicationArrays, key: Integer, bits: np.uint64) -> Integer:
    """Index place where `key` stands; else -1 - p, p the free place where it may."""
    row_bits, buckets = table.counters[ROW_BITS], table.passed.size
    tag = _tag_of(bits, row_bits)
    bucket = home = place_of(bits, buckets)
    free = -1
    while True:
        for place in range(bucket * BUCKET, (bucket + 1) * BUCKET):
            entry = np.int64(table.places[place])
            if entry == _EMPTY:
                free = place if free < 0 else free
                break
            if entry >> row_bits == tag and table.id[_offset(table, place)] == key:
                return place
        is_last = table.passed[bucket] == 0
        bucket = bucket + 1 if bucket + 1 < buckets else 0
        if free >= 0 and (is_last or bucket == home):
            return -1 - free


@inlined
def _pass(table: DeduplicationArrays, bits: np.uint64, place: Integer, more: Integer) -> None:
    """Count a key more, or less, beyond the buckets between the one that its hash names and `place`."""
    buckets = table.passed.size
    bucket = place_of(bits, buckets)
    while bucket != place >> BUCKET_SHIFT:
        if table.passed[bucket] < _PASSED_MAX:
            table.passed[bucket] += more
        bucket = bucket + 1 if bucket + 1 < buckets else 0


@inlined
def _name_row(table: DeduplicationArrays, place: Integer, bits: np.uint64, row: Integer) -> None:
    """Let the index place that `_find` gave name a row and tell of its key."""
    row_bits = table.counters[ROW_BITS]
    if place < 0:
        place = -1 - place
        _pass(table, bits, place, 1)
    table.places[place] = np.uint32((_tag_of(bits, row_bits) << row_bits) | (row & ((1 << row_bits) - 1)))


@inlined
def _free(table: DeduplicationArrays, place: Integer, bits: np.uint64) -> None:
    """Free an index place: the last one of its bucket fills it."""
    _pass(table, bits, place, -1)
    last = place | (BUCKET - 1)
    while table.places[last] == EMPTY:
        last -= 1
    table.places[place] = table.places[last]
    table.places[last] = EMPTY


@inlined
def _expect(table: DeduplicationArrays, key: Integer) -> None:
    """Fetch the bucket where `key` will soon be looked for."""
    prefetch(table.places, place_of(mixed(key), table.passed.size) * BUCKET)


@inlined
def _append(
    table: DeduplicationArrays, place: Integer, key: Integer, bits: np.uint64, moment: Integer, note: Integer
) -> Integer:
    """A new row for `key`, named by the place that `_find` gave; returns its offset."""
    row = table.counters[TAIL]
    offset = row - table.counters[BASE]
    table.id[offset] = key
    table.time[offset] = moment
    table.note[offset] = note
    _name_row(table, place, bits, row)
    table.counters[TAIL] = row + 1
    return offset


@inlined
def _identify_transaction(
    table: DeduplicationArrays, limits: Limits, key: Integer, moment: Integer, fingerprint: Integer, step: Any
) -> Integer:
    """Status of a transaction; fills `step` if it is accepted."""
    watermark = max(table.counters[WATERMARK], moment)
    if moment + limits.late_within_seconds <= watermark:
        return _TOO_LATE
    bits = mixed(key)
    place = _find(table, key, bits)
    waiting, waiting_time = 0, np.int64(0)
    if place >= 0:
        offset = _offset(table, place)
        state = table.note[offset] & STATE_MASK
        known = np.int64(table.time[offset]) + limits.remember_seconds > watermark
        if known and state != WAITING_GOOD:
            same = table.fingerprint[offset] == fingerprint and table.time[offset] == moment
            return _DUPLICATE if same else _CONFLICTING
        if state == WAITING_GOOD:
            table.counters[WAITING] -= 1
            if known:
                waiting = FRAUD if table.note[offset] == _WAITING_FRAUD else GOOD
                waiting_time = np.int64(table.time[offset])
            table.note[offset] = 0
    table.counters[WATERMARK] = watermark  # only what is accepted moves the clock
    offset = _append(table, place, key, bits, moment, waiting)
    table.fingerprint[offset] = fingerprint
    table.label_time[offset] = waiting_time
    step["row"], step["watermark"] = offset, watermark
    step["verdict"], step["verdict_time"], step["previous"] = waiting, waiting_time, 0
    return _ACCEPTED


@inlined
def _identify_label(
    table: DeduplicationArrays, limits: Limits, key: Integer, arrival: Integer, is_fraud: bool, step: Any
) -> Integer:
    """Status of a label; fills `step` if it is applied."""
    watermark = table.counters[WATERMARK]
    bits = mixed(key)
    place = _find(table, key, bits)
    offset = -1
    if place >= 0:
        offset = _offset(table, place)
        if np.int64(table.time[offset]) + limits.remember_seconds <= watermark:
            if table.note[offset] & STATE_MASK == WAITING_GOOD:
                table.counters[WAITING] -= 1
                table.note[offset] = 0
            offset = -1
    if offset < 0 or table.note[offset] & STATE_MASK == WAITING_GOOD:
        if offset < 0:
            if table.counters[WAITING] >= limits.waiting_labels_max:
                return _UNKNOWN
            offset = _append(table, place, key, bits, arrival, 0)
            # Nothing may stand here from a row that was given up: equal logs have equal snapshots.
            table.fingerprint[offset], table.label_time[offset] = 0, 0
            for entity in range(table.slots.shape[1]):
                table.slots[offset, entity] = 0
            table.counters[WAITING] += 1
        verdict_note = _WAITING_FRAUD if is_fraud else WAITING_GOOD
        if table.note[offset] != verdict_note:
            table.time[offset] = arrival
            table.note[offset] = verdict_note
        return LABEL_WAITS
    state = table.note[offset] & STATE_MASK
    verdict = FRAUD if is_fraud else GOOD
    if state == verdict:
        return LABEL_REPEATED
    step["transaction"], step["row"], step["watermark"] = -1, offset, watermark
    step["verdict"], step["verdict_time"] = verdict, arrival
    step["previous"], step["previous_time"] = state, table.label_time[offset]
    table.label_time[offset] = arrival
    table.note[offset] = (table.note[offset] & ~STATE_MASK) | verdict
    return LABEL_APPLIED


@inlined
def _give_up_row(table: DeduplicationArrays, head: Integer) -> None:
    """Take the row at the head out of the index, if no newer row of its id stands there."""
    offset = head - table.counters[BASE]
    bits = mixed(table.id[offset])
    place = _find(table, table.id[offset], bits)
    if place >= 0 and _offset(table, place) == offset:
        if table.note[offset] & STATE_MASK == WAITING_GOOD:
            table.counters[WAITING] -= 1
        _free(table, place, bits)


@inlined
def _forget(table: DeduplicationArrays, remember_seconds: Integer) -> None:
    """Give up rows at the head that are no longer known."""
    watermark, base = table.counters[WATERMARK], table.counters[BASE]
    head, tail = table.counters[HEAD], table.counters[TAIL]
    while head < tail and np.int64(table.time[head - base]) + remember_seconds <= watermark:
        _expect(table, table.id[min(head - base + _AHEAD, table.id.size - 1)])
        _give_up_row(table, head)
        head += 1
    table.counters[HEAD] = head


@compiled
def find(table: DeduplicationArrays, key: Integer) -> Integer:
    """Offset of the row of `key`, or -1."""
    place = _find(table, key, mixed(key))
    return _offset(table, place) if place >= 0 else -1


@compiled
def identify(
    table: DeduplicationArrays,
    limits: Limits,
    is_label: NDArray[np.bool_],
    transaction_id: NDArray[np.int64],
    event_time: NDArray[np.int64],
    amount_minor: NDArray[np.int64],
    fingerprint: NDArray[np.uint32],
    label_id: NDArray[np.int64],
    label_time: NDArray[np.int64],
    label_is_fraud: NDArray[np.bool_],
    status: NDArray[np.uint8],
    label_status: NDArray[np.uint8],
    steps: Steps,
    progress: NDArray[np.int64],
) -> bool:
    """Run through one batch in log order (`is_label` tells which comes next), while there is room.

    Fills the status of each transaction and label, and `steps` from its front with what they do to
    the history. `progress` is int64[4]: transactions and labels that are done, ACCEPTED_COUNT and
    STEP_COUNT. False: there was no room for all; the caller makes some and calls again.
    """
    i, j, accepted, done = progress
    index_rows = rows_of(table.places)
    for number in range(i + j, is_label.size):
        _forget(table, limits.remember_seconds)
        tail = table.counters[TAIL]
        if tail - table.counters[BASE] == table.id.size or tail - table.counters[HEAD] >= index_rows:
            break
        step = steps[done]
        if is_label[number]:
            if j + _AHEAD < label_id.size:
                _expect(table, label_id[j + _AHEAD])
            label_status[j] = _identify_label(
                table, limits, label_id[j], label_time[j], label_is_fraud[j], step
            )
            done += label_status[j] == LABEL_APPLIED
            j += 1
        else:
            if i + _AHEAD < transaction_id.size:
                _expect(table, transaction_id[i + _AHEAD])
            status[i] = _identify_transaction(
                table, limits, transaction_id[i], event_time[i], fingerprint[i], step
            )
            if status[i] == _ACCEPTED:
                step["transaction"], step["amount_minor"] = accepted, amount_minor[i]
                accepted += 1
                done += 1
            i += 1
    progress[:] = i, j, accepted, done
    return bool(i + j == is_label.size)


@compiled
def note_condition(steps: Steps, met: NDArray[np.bool_], bit: Integer, note: NDArray[np.uint8]) -> None:
    """Note in the table which of the accepted transactions meet condition `bit`."""
    for step in steps:
        if step["transaction"] >= 0 and met[step["transaction"]]:
            note[step["row"]] |= np.uint8(1 << (CONDITION_SHIFT + bit))


@compiled
def _fill_index(table: DeduplicationArrays) -> None:
    for row in range(table.counters[HEAD], table.counters[TAIL]):
        offset = row - table.counters[BASE]
        _expect(table, table.id[min(offset + _AHEAD, table.id.size - 1)])
        key = table.id[offset]
        bits = mixed(key)
        # A later row of the same id replaces an earlier, expired one.
        _name_row(table, _find(table, key, bits), bits, row)


class DeduplicationIndex:
    """Owner of the table's memory: grows it when it is full, gives rows back between batches."""

    def __init__(self, entities: int, limits: Limits, rows_min: int) -> None:
        self.limits, self.rows_min = limits, rows_min
        self.arrays = DeduplicationArrays(
            np.zeros(rows_min, np.int64),
            np.zeros(rows_min, np.uint32),
            np.zeros(rows_min, np.uint32),
            np.zeros(rows_min, np.uint32),
            np.zeros(rows_min, np.uint8),
            np.zeros((rows_min, entities), np.uint32),
            np.empty(0, np.uint32),
            np.empty(0, np.uint8),
            np.zeros(6, np.int64),
        )
        self.rebuild_index()

    def __len__(self) -> int:
        return int(self.arrays.counters[TAIL] - self.arrays.counters[HEAD])

    @property
    def watermark_seconds(self) -> int:
        """Newest event time seen so far; 0 before the first."""
        return int(self.arrays.counters[WATERMARK])

    def certainly_knows(self, key: int, moment: int) -> bool:
        """Whether an event at `moment` still finds this transaction here, whatever came before it."""
        offset = int(find(self.arrays, key))
        if offset < 0 or self.arrays.note[offset] & STATE_MASK == WAITING_GOOD:
            return False
        newest = max(self.watermark_seconds, moment)
        return int(self.arrays.time[offset]) + self.limits.remember_seconds > newest

    def move_up(self, more: int) -> None:
        """Where `more` rows might not fit: overwrite those that were given up, if they are not too few.

        Steps name rows by where they stand, so this is for between batches.
        """
        counters, rows = self.arrays.counters, len(self.arrays.id)
        given_up = int(counters[HEAD] - counters[BASE])
        if int(counters[TAIL] - counters[BASE]) + more > rows and given_up > rows >> _ROWS_SHIFT:
            self._slide(given_up)

    def _slide(self, given_up: int) -> None:
        """Move the rows from head to tail to the front of the columns."""
        arrays, live = self.arrays, len(self)
        columns = (arrays.id, arrays.fingerprint, arrays.time, arrays.label_time, arrays.note)
        for column in (*columns, arrays.slots.reshape(-1, copy=False)):
            width = column.size // len(arrays.id)
            column[: live * width] = column[given_up * width : (given_up + live) * width]
        arrays.counters[BASE] = arrays.counters[HEAD]

    def make_room(self) -> None:
        """Room for one more row at least, in the columns and in the index."""
        counters, rows = self.arrays.counters, len(self.arrays.id)
        if int(counters[TAIL] - counters[BASE]) == rows:
            self._resize_rows(rows + max(rows >> _ROWS_SHIFT, self.rows_min))
        bits_needed = row_bits(len(self.arrays.id))
        if len(self) >= rows_of(self.arrays.places) or bits_needed > counters[ROW_BITS]:
            self.rebuild_index()

    def _resize_rows(self, rows: int) -> None:
        columns = self.arrays
        for column in (columns.id, columns.fingerprint, columns.time, columns.label_time, columns.note):
            column.resize(rows, refcheck=False)
        columns.slots.resize((rows, columns.slots.shape[1]), refcheck=False)

    def rebuild_index(self) -> None:
        """The index made anew, for more than are known; to number as many rows as there are."""
        more = max(len(self) >> _INDEX_SHIFT, _INDEX_ROWS_MIN * self.rows_min)
        self.arrays.counters[ROW_BITS] = row_bits(len(self.arrays.id))
        self.arrays = self.arrays._replace(places=np.empty(0, np.uint32))  # the old one first goes
        places, passed = empty_index(len(self) + more)
        self.arrays = self.arrays._replace(places=places, passed=passed)
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
    def restore(saved: dict[str, NDArray[np.generic]], limits: Limits, rows_min: int) -> DeduplicationIndex:
        """The inverse of `save` but for the index, which `rebuild_index` makes.

        Takes the arrays out of `saved` one by one.

        Raises:
            ValueError: the arrays contradict each other.
        """
        rows, entities = saved["slots"].shape
        counters = saved["counters"]
        waiting = np.count_nonzero(saved["note"] & STATE_MASK == WAITING_GOOD)  # type: ignore[operator]
        if counters.shape != (4,) or counters[TAIL] - counters[HEAD] != rows or counters[WAITING] != waiting:
            raise ValueError("rows and counters of the remembered transactions disagree")
        table = DeduplicationIndex(entities, limits, rows_min)
        columns = {}
        for name in ("id", "fingerprint", "time", "label_time", "note", "slots"):
            content = saved.pop(name)
            if content.dtype != getattr(table.arrays, name).dtype or len(content) != rows:
                raise ValueError(f"'{name}' of the remembered transactions is damaged")
            columns[name] = with_room(content)
            del content
        table.arrays = table.arrays._replace(**columns)
        table.arrays.counters[:BASE] = counters
        table.arrays.counters[BASE] = table.arrays.counters[HEAD]
        return table
