"""The arrays of the deduplication index, and how an id is found, added and given up in them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.features.digest_ring import Digests
from zaslon.features.entity_keys import EMPTY, place_of
from zaslon.features.index_layout import BUCKET, BUCKET_SHIFT
from zaslon.system.compiled import Integer, compiled, inlined
from zaslon.system.intrinsics import prefetch
from zaslon.system.siphash import hash_of

# The two low bits of `note`; the six above hold the conditions that the transaction met.
UNLABELLED, GOOD, FRAUD, WAITING_GOOD = 0, 1, 2, 3
WAITING_FRAUD = 7  # WAITING_GOOD with the first condition bit: a waiting row has no conditions
STATE_MASK = 3
CONDITION_SHIFT = 2

# Positions in counters; those before BASE are part of the state.
HEAD, TAIL, WAITING, WATERMARK, NEWEST, BASE, ROW_BITS, DIGESTS_FROM = 0, 1, 2, 3, 4, 5, 6, 7
AHEAD = 12  # events between asking memory for a bucket and looking into it
_EMPTY = int(EMPTY)
_PASSED_MAX = 255


class DeduplicationArrays(NamedTuple):
    """Columns of the table; row r is at place r - counters[BASE].

    Attributes:
        id: int64[rows], transaction ids.
        time: uint32[rows], event time (of a waiting label: the log's time when it came).
        label_time: uint32[rows], arrival of the newest label.
        note: uint8[rows], label state and conditions.
        slots: uint32[rows, entities].
        places: uint32[BUCKET * buckets], EMPTY where free: in the ROW_BITS low bits a row number
            modulo their power of two, above them bits of the id's hash, so that a search seldom looks
            at the ids of others. An id's place is in the bucket that its hash names, one line of the
            cache, or where that is full in one of the next; free places are last.
        passed: uint8[buckets], how many ids are beyond this bucket because it was full when they
            came: where none does, a search ends. It stays at _PASSED_MAX once it is there.
        digest: uint64[capacity, 2], a ring: row r has its digest at r % capacity, from row DIGESTS_FROM
            on. An older repeat is too late before it is a duplicate, and one with another time is a
            conflict, so only rows within `late_within` need theirs.
        counters: int64[8], HEAD and TAIL row, WAITING labels, WATERMARK, the row after the NEWEST transaction's,
            BASE row, ROW_BITS, DIGESTS_FROM row.
        secret: uint64[2], what the hash is keyed with: a client that chooses ids must not choose buckets.
    """

    id: NDArray[np.int64]
    time: NDArray[np.uint32]
    label_time: NDArray[np.uint32]
    note: NDArray[np.uint8]
    slots: NDArray[np.uint32]
    places: NDArray[np.uint32]
    passed: NDArray[np.uint8]
    digest: Digests
    counters: NDArray[np.int64]
    secret: NDArray[np.uint64]


@inlined
def _tag_of(bits: np.uint64, row_bits: Integer) -> Integer:
    """What an index place stores of the key besides its row; never all ones, which EMPTY has."""
    most = (1 << (32 - row_bits)) - 2
    return min(np.int64(bits & np.uint64(0xFFFFFFFF)) >> row_bits, most)


@inlined
def offset_of(table: DeduplicationArrays, place: Integer) -> Integer:
    """The place in the columns of the row that an index place names."""
    mask = (1 << table.counters[ROW_BITS]) - 1
    return (np.int64(table.places[place]) - table.counters[BASE]) & mask


@inlined
def find_place(table: DeduplicationArrays, key: Integer, bits: np.uint64) -> Integer:
    """Index place of `key`; else -1 - p, p the free place where it may."""
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
            if entry >> row_bits == tag and table.id[offset_of(table, place)] == key:
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
    """Let the index place that `find_place` gave name a row and store its tag."""
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
def expect(table: DeduplicationArrays, bits: np.uint64) -> None:
    """Fetch the bucket where a key with this hash will soon be looked for."""
    prefetch(table.places, place_of(bits, table.passed.size) * BUCKET)


@inlined
def append(
    table: DeduplicationArrays, place: Integer, key: Integer, bits: np.uint64, moment: Integer, note: Integer
) -> Integer:
    """A new row for `key`, named by the place that `find_place` gave; returns its offset."""
    row = table.counters[TAIL]
    offset = row - table.counters[BASE]
    table.id[offset] = key
    table.time[offset] = moment
    table.note[offset] = note
    _name_row(table, place, bits, row)
    table.counters[TAIL] = row + 1
    return offset


@inlined
def close(table: DeduplicationArrays, offset: Integer) -> None:
    """Empty the row of a label that waits no longer, so that older rows are not kept because of its time."""
    table.time[offset], table.note[offset] = 0, 0


@inlined
def date_newest_labels(table: DeduplicationArrays) -> None:
    """Give labels that came since the newest transaction the time of the next one, which has come.

    They arrived by another clock, which may be years ahead of the log's: no row may outlive the log's own
    time, nor the rows behind it.
    """
    watermark, base = table.counters[WATERMARK], table.counters[BASE]
    for row in range(max(table.counters[NEWEST], table.counters[HEAD]), table.counters[TAIL]):
        if table.note[row - base] & STATE_MASK == WAITING_GOOD:
            table.time[row - base] = min(np.int64(table.time[row - base]), watermark)


@inlined
def _give_up_row(table: DeduplicationArrays, head: Integer) -> None:
    """Take the row at the head out of the index, if no newer row of its id is there."""
    offset = head - table.counters[BASE]
    bits = hash_of(table.id[offset], table.secret)
    place = find_place(table, table.id[offset], bits)
    if place >= 0 and offset_of(table, place) == offset:
        if table.note[offset] & STATE_MASK == WAITING_GOOD:
            table.counters[WAITING] -= 1
        _free(table, place, bits)


@inlined
def forget(table: DeduplicationArrays, remember_seconds: Integer) -> None:
    """Give up rows at the head that are no longer known."""
    watermark, base = table.counters[WATERMARK], table.counters[BASE]
    head, tail = table.counters[HEAD], table.counters[TAIL]
    while head < tail and np.int64(table.time[head - base]) + remember_seconds <= watermark:
        later = table.id[min(head - base + AHEAD, table.id.size - 1)]
        expect(table, hash_of(later, table.secret))
        _give_up_row(table, head)
        head += 1
    table.counters[HEAD] = head


@compiled
def drop_digests(table: DeduplicationArrays, late_within_seconds: Integer) -> None:
    """Let DIGESTS_FROM be the first row whose digest may still be asked for."""
    base, watermark = table.counters[BASE], table.counters[WATERMARK]
    row = max(table.counters[DIGESTS_FROM], table.counters[HEAD])
    while row < table.counters[TAIL] and (
        np.int64(table.time[row - base]) + late_within_seconds <= watermark
        or table.note[row - base] & STATE_MASK == WAITING_GOOD
    ):
        row += 1
    table.counters[DIGESTS_FROM] = row


@compiled
def name_rows(table: DeduplicationArrays, hashes: NDArray[np.uint64], first: Integer) -> None:
    """Name the rows from `first` on, one for each hash of their ids, in the index."""
    for i in range(hashes.size):
        expect(table, hashes[min(i + AHEAD, hashes.size - 1)])
        # A later row of the same id replaces an earlier, expired one.
        key = table.id[first + i - table.counters[BASE]]
        _name_row(table, find_place(table, key, hashes[i]), hashes[i], first + i)
