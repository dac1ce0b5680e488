"""The table of remembered transactions: which ids are known, and what a label needs of them.

Rows are in log order; row numbers only grow. A row is known while its time is within
`remember_seconds` of the newest event time seen so far (the watermark). That is judged at each
event, and rows are given up at each event, oldest in the log first, so that nothing depends on
batches. A label that comes before its transaction waits in its own row.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.rejections import Reason
from zaslon.domain.time import DAYS_MAX, SECONDS_PER_DAY
from zaslon.features.capacity import with_room
from zaslon.features.deduplication_table import (
    AHEAD,
    BASE,
    CONDITION_SHIFT,
    DIGESTS_FROM,
    FRAUD,
    GOOD,
    HEAD,
    NEWEST,
    ROW_BITS,
    STATE_MASK,
    TAIL,
    WAITING,
    WAITING_FRAUD,
    WAITING_GOOD,
    WATERMARK,
    DeduplicationArrays,
    append,
    close,
    date_newest_labels,
    drop_digests,
    expect,
    find_place,
    forget,
    name_rows,
    offset_of,
)
from zaslon.features.digest_ring import (
    NO_DIGEST,
    Digests,
    digest_ring,
    has_digest,
    put_digest,
    ring_content,
)
from zaslon.features.index_layout import empty_index, row_bits, rows_of
from zaslon.system.compiled import Integer, compiled, inlined
from zaslon.system.siphash import hashes_of

ACCEPTED_COUNT, STEP_COUNT = 2, 3  # positions in the progress of `identify`
_ROWS_SHIFT = 5  # rows that are given up are at most a 32nd of all, and a part's; they grow by a 32nd
_INDEX_SHIFT = 2  # the index grows by a quarter,
_INDEX_ROWS_MIN = 4  # and at least by four times as many as rows do: it is rebuilt
_NAMED_AT_ONCE = 1 << 14  # rows whose hashes are in memory while the index is rebuilt

_SAVED_COLUMNS = ("id", "time", "label_time", "note", "slots")

LABEL_APPLIED, LABEL_REPEATED, LABEL_WAITS = 0, 1, 2  # outcomes of a label; else a Reason

_ACCEPTED = int(Reason.ACCEPTED)
_TOO_LATE = int(Reason.TOO_LATE)
_DUPLICATE = int(Reason.DUPLICATE)
_CONFLICTING = int(Reason.CONFLICTING_DUPLICATE)
_UNKNOWN = int(Reason.UNKNOWN_TRANSACTION)


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
        ("row", np.uint32),  # place of the transaction, or the label's, in the table's columns
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
def _identify_transaction(
    table: DeduplicationArrays, limits: Limits, key: Integer, bits: np.uint64, moment: Integer,
    digests: Digests, number: Integer, step: Any,
) -> Integer:  # fmt: skip
    """Status of a transaction; fills `step` if it is accepted."""
    watermark = max(table.counters[WATERMARK], moment)
    if moment + limits.late_within_seconds <= watermark:
        return _TOO_LATE
    place = find_place(table, key, bits)
    waiting, waiting_time = 0, np.int64(0)
    if place >= 0:
        offset = offset_of(table, place)
        state = table.note[offset] & STATE_MASK
        known = np.int64(table.time[offset]) + limits.remember_seconds > watermark
        if known and state != WAITING_GOOD:
            same = table.time[offset] == moment and has_digest(
                table.digest, table.counters[BASE] + offset, digests, number
            )
            return _DUPLICATE if same else _CONFLICTING
        if state == WAITING_GOOD:
            table.counters[WAITING] -= 1
            if known:
                waiting = FRAUD if table.note[offset] == WAITING_FRAUD else GOOD
                waiting_time = min(np.int64(table.label_time[offset]), watermark)
            close(table, offset)
    table.counters[WATERMARK] = watermark  # only what is accepted moves the clock
    date_newest_labels(table)
    offset = append(table, place, key, bits, moment, waiting)
    table.counters[NEWEST] = table.counters[TAIL]
    put_digest(table.digest, table.counters[BASE] + offset, digests, number)
    table.label_time[offset] = waiting_time
    step["row"], step["watermark"] = offset, watermark
    step["verdict"], step["verdict_time"], step["previous"] = waiting, waiting_time, 0
    return _ACCEPTED


@inlined
def _identify_label(
    table: DeduplicationArrays, limits: Limits, key: Integer, bits: np.uint64, arrival: Integer,
    is_fraud: bool, are_live: bool, step: Any,
) -> Integer:  # fmt: skip
    """Status of a label; fills `step` if it is applied."""
    watermark = table.counters[WATERMARK]
    place = find_place(table, key, bits)
    offset = -1
    if place >= 0:
        offset = offset_of(table, place)
        if np.int64(table.time[offset]) + limits.remember_seconds <= watermark:
            if table.note[offset] & STATE_MASK == WAITING_GOOD:
                table.counters[WAITING] -= 1
                close(table, offset)
            offset = -1
    if offset < 0 or table.note[offset] & STATE_MASK == WAITING_GOOD:
        if offset < 0:
            if table.counters[WAITING] >= limits.waiting_labels_max:
                return _UNKNOWN
            offset = append(table, place, key, bits, max(arrival, watermark), 0)
            # Nothing may remain here from a row that was given up: equal logs have equal snapshots.
            put_digest(table.digest, table.counters[BASE] + offset, NO_DIGEST, 0)
            for entity in range(table.slots.shape[1]):
                table.slots[offset, entity] = 0
            table.counters[WAITING] += 1
        verdict_note = WAITING_FRAUD if is_fraud else WAITING_GOOD
        if table.note[offset] != verdict_note:
            table.label_time[offset] = arrival
            table.note[offset] = verdict_note
        return LABEL_WAITS
    state = table.note[offset] & STATE_MASK
    verdict = FRAUD if is_fraud else GOOD
    if state == verdict:
        return LABEL_REPEATED
    if are_live:
        arrival = min(arrival, watermark)
    step["transaction"], step["row"], step["watermark"] = -1, offset, watermark
    step["verdict"], step["verdict_time"] = verdict, arrival
    step["previous"], step["previous_time"] = state, table.label_time[offset]
    table.label_time[offset] = arrival
    table.note[offset] = (table.note[offset] & ~STATE_MASK) | verdict
    return LABEL_APPLIED


@compiled
def identify(
    table: DeduplicationArrays,
    limits: Limits,
    is_label: NDArray[np.bool_],
    transaction_id: NDArray[np.int64],
    transaction_hash: NDArray[np.uint64],
    event_time: NDArray[np.int64],
    amount_minor: NDArray[np.int64],
    digest: Digests,
    label_id: NDArray[np.int64],
    label_hash: NDArray[np.uint64],
    label_time: NDArray[np.int64],
    label_is_fraud: NDArray[np.bool_],
    labels_are_live: bool,
    status: NDArray[np.uint8],
    label_status: NDArray[np.uint8],
    steps: Steps,
    progress: NDArray[np.int64],
) -> bool:
    """Run through one batch in log order (`is_label` gives the kind of the next event), while there is room.

    Fills the status of each transaction and label, and `steps` from its front with what they do to
    the history. `progress` is int64[4]: transactions and labels that are done, ACCEPTED_COUNT and
    STEP_COUNT. False: there was no room for all; the caller makes some and calls again.
    """
    i, j, accepted, done = progress
    index_rows = rows_of(table.places)
    for number in range(i + j, is_label.size):
        forget(table, limits.remember_seconds)
        tail = table.counters[TAIL]
        if tail - table.counters[DIGESTS_FROM] == table.digest.shape[0]:
            drop_digests(table, limits.late_within_seconds)
        if (
            tail - table.counters[BASE] == table.id.size
            or tail - table.counters[HEAD] >= index_rows
            or tail - table.counters[DIGESTS_FROM] == table.digest.shape[0]
        ):
            break
        step = steps[done]
        if is_label[number]:
            if j + AHEAD < label_id.size:
                expect(table, label_hash[j + AHEAD])
            label_status[j] = _identify_label(
                table,
                limits,
                label_id[j],
                label_hash[j],
                label_time[j],
                label_is_fraud[j],
                labels_are_live,
                step,
            )
            done += label_status[j] == LABEL_APPLIED
            j += 1
        else:
            if i + AHEAD < transaction_id.size:
                expect(table, transaction_hash[i + AHEAD])
            status[i] = _identify_transaction(
                table, limits, transaction_id[i], transaction_hash[i], event_time[i], digest, i, step
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


class DeduplicationIndex:
    """Owner of the table's memory: grows it when it is full, gives rows back between batches."""

    def __init__(self, entities: int, limits: Limits, rows_min: int, secret: NDArray[np.uint64]) -> None:
        self.limits, self.rows_min = limits, rows_min
        self.arrays = DeduplicationArrays(
            id=np.zeros(rows_min, np.int64),
            time=np.zeros(rows_min, np.uint32),
            label_time=np.zeros(rows_min, np.uint32),
            note=np.zeros(rows_min, np.uint8),
            slots=np.zeros((rows_min, entities), np.uint32),
            places=np.empty(0, np.uint32),
            passed=np.empty(0, np.uint8),
            digest=digest_ring(rows_min),
            counters=np.zeros(8, np.int64),
            secret=secret,
        )
        self.rebuild_index()

    def __len__(self) -> int:
        return int(self.arrays.counters[TAIL] - self.arrays.counters[HEAD])

    @property
    def watermark_seconds(self) -> int:
        """Newest event time seen so far; 0 before the first."""
        return int(self.arrays.counters[WATERMARK])

    def rows_by_day(self) -> NDArray[np.int64]:
        """int64[DAYS_MAX], how many transactions of each day are remembered."""
        base = int(self.arrays.counters[BASE])
        rows = slice(int(self.arrays.counters[HEAD]) - base, int(self.arrays.counters[TAIL]) - base)
        is_transaction = self.arrays.note[rows] & STATE_MASK != WAITING_GOOD
        day = self.arrays.time[rows][is_transaction] // np.uint32(SECONDS_PER_DAY)
        return np.bincount(day, minlength=DAYS_MAX)

    def waiting_labels(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """int64[n] ids and bool[n], whether it is fraud, of the labels whose transactions have not come."""
        arrays, base = self.arrays, int(self.arrays.counters[BASE])
        rows = slice(int(arrays.counters[HEAD]) - base, int(arrays.counters[TAIL]) - base)
        note = arrays.note[rows]
        last = arrays.time[rows].astype(np.int64) + self.limits.remember_seconds
        waits = (note & STATE_MASK == WAITING_GOOD) & (last > self.watermark_seconds)
        return arrays.id[rows][waits], note[waits] == WAITING_FRAUD

    def move_up(self, more: int) -> None:
        """Where `more` rows might not fit: overwrite those that were given up, if they are not too few.

        Steps name rows by their place, so this is for between batches.
        """
        counters, rows = self.arrays.counters, len(self.arrays.id)
        given_up = int(counters[HEAD] - counters[BASE])
        if int(counters[TAIL] - counters[BASE]) + more > rows and given_up > rows >> _ROWS_SHIFT:
            self._slide(given_up)

    def _slide(self, given_up: int) -> None:
        """Move the rows from head to tail to the front of the columns."""
        arrays, live = self.arrays, len(self)
        columns = (arrays.id, arrays.time, arrays.label_time, arrays.note)
        for column in (*columns, arrays.slots.reshape(-1, copy=False)):
            width = column.size // len(arrays.id)
            column[: live * width] = column[given_up * width : (given_up + live) * width]
        arrays.counters[BASE] = arrays.counters[HEAD]

    def make_room(self) -> None:
        """Room for one more row at least, in the columns, among the digests and in the index."""
        counters, rows = self.arrays.counters, len(self.arrays.id)
        if int(counters[TAIL] - counters[BASE]) == rows:
            self._resize_rows(rows + max(rows >> _ROWS_SHIFT, self.rows_min))
        digests = len(self.arrays.digest)
        if int(counters[TAIL] - counters[DIGESTS_FROM]) == digests:
            more = max(digests >> _ROWS_SHIFT, self.rows_min)
            ring = digest_ring(digests + more, self._digests(), int(counters[DIGESTS_FROM]))
            self.arrays = self.arrays._replace(digest=ring)
        bits_needed = row_bits(len(self.arrays.id))
        if len(self) >= rows_of(self.arrays.places) or bits_needed > counters[ROW_BITS]:
            self.rebuild_index()

    def _resize_rows(self, rows: int) -> None:
        columns = self.arrays
        for column in (columns.id, columns.time, columns.label_time, columns.note):
            column.resize(rows, refcheck=False)
        columns.slots.resize((rows, columns.slots.shape[1]), refcheck=False)

    def rebuild_index(self) -> None:
        """The index rebuilt, for more than are known; to number as many rows as there are."""
        more = max(len(self) >> _INDEX_SHIFT, _INDEX_ROWS_MIN * self.rows_min)
        self.arrays.counters[ROW_BITS] = row_bits(len(self.arrays.id))
        self.arrays = self.arrays._replace(places=np.empty(0, np.uint32))  # the old one first goes
        places, passed = empty_index(len(self) + more)
        self.arrays = self.arrays._replace(places=places, passed=passed)
        counters = self.arrays.counters
        for first in range(int(counters[HEAD]), int(counters[TAIL]), _NAMED_AT_ONCE):
            base = int(counters[BASE])
            ids = self.arrays.id[first - base : min(first + _NAMED_AT_ONCE, int(counters[TAIL])) - base]
            name_rows(self.arrays, hashes_of(ids, self.arrays.secret), first)

    def bytes_used(self) -> int:
        """Bytes that the table's arrays occupy."""
        return sum(array.nbytes for array in self.arrays)

    def _digests(self) -> Digests:
        """The digests that are kept, of the newest rows."""
        first, tail = int(self.arrays.counters[DIGESTS_FROM]), int(self.arrays.counters[TAIL])
        return ring_content(self.arrays.digest, first, tail)

    def save(self) -> dict[str, NDArray[np.generic]]:
        """The live rows, the digests that may still be asked for, and counters."""
        arrays, base = self.arrays, int(self.arrays.counters[BASE])
        rows = slice(int(arrays.counters[HEAD]) - base, int(arrays.counters[TAIL]) - base)
        saved: dict[str, NDArray[np.generic]] = {name: getattr(arrays, name)[rows] for name in _SAVED_COLUMNS}
        drop_digests(arrays, self.limits.late_within_seconds)
        saved["digest"] = self._digests()
        saved["counters"] = arrays.counters[:BASE]  # the place of rows in memory is not part of the state
        return saved

    @staticmethod
    def restore(
        saved: dict[str, NDArray[np.generic]], limits: Limits, rows_min: int, secret: NDArray[np.uint64]
    ) -> DeduplicationIndex:
        """The inverse of `save` but for the index, which `rebuild_index` makes.

        Takes the arrays out of `saved` one by one.

        Raises:
            ValueError: the arrays contradict each other.
        """
        rows, entities = saved["slots"].shape
        counters = saved["counters"]
        waiting = np.count_nonzero(saved["note"] & STATE_MASK == WAITING_GOOD)  # type: ignore[operator]
        if (
            counters.shape != (BASE,)
            or counters[TAIL] - counters[HEAD] != rows
            or counters[WAITING] != waiting
        ):
            raise ValueError("rows and counters of the remembered transactions disagree")
        table = DeduplicationIndex(entities, limits, rows_min, secret)
        columns = {}
        for name in _SAVED_COLUMNS:
            content = saved.pop(name)
            if content.dtype != getattr(table.arrays, name).dtype or len(content) != rows:
                raise ValueError(f"'{name}' of the remembered transactions is damaged")
            columns[name] = with_room(content)
            del content
        table.arrays = table.arrays._replace(**columns)
        table.arrays.counters[:BASE] = counters
        table.arrays.counters[BASE] = table.arrays.counters[HEAD]
        table._take_digests(saved.pop("digest"))
        return table

    def _take_digests(self, content: NDArray[np.generic]) -> None:
        drop_digests(self.arrays, self.limits.late_within_seconds)
        first, tail = int(self.arrays.counters[DIGESTS_FROM]), int(self.arrays.counters[TAIL])
        if content.dtype != np.uint64 or content.shape != (tail - first, 2):
            raise ValueError("'digest' of the remembered transactions is damaged")
        room = max(tail - first, self.rows_min)
        self.arrays = self.arrays._replace(digest=digest_ring(room, cast(Digests, content), first))
