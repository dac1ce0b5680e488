"""Sorted time lists: the one data structure behind every window.

An entity key owns a few lists (its events, its events under a condition, its known labels, its
known frauds). A list is a segment of a shared pool, kept sorted by time, so that

* the number of entries in a window is a difference of two positions;
* the sum of a window is a difference of two entries of a running total (integers: no drift);
* a late entry is an insertion in the middle and every later answer is right by itself;
* minimum, maximum and squares of long windows come from summaries of 128 entries, made when first
  asked for and dropped when an insertion touches them.

A full segment first gives up what no window can see any more. Where that is too little, the list
moves to a segment a 16th longer, and to a shorter one where it has become short; freed segments are
used again. A pool with much garbage is compacted in place, so that memory follows what is remembered.
All functions here are compiled and know no feature names.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.system.compiled import Integer, Number, compiled, inlined

BLOCK = 128
_SPARE_SHIFT = 4  # a list that moves takes room for a 16th more
_FREED = 1 << 31  # while a pool is compacted: the segment is free, else it is a list's
USED, GARBAGE = 0, 1  # positions in ListArrays.used
START, SIZE, CAPACITY = 0, 1, 2  # columns of ListArrays.directory
OK, SMALLEST, LARGEST = 0, 1, 2  # columns of ListArrays.blocks

Directory = NDArray[np.int32]
Times = NDArray[np.uint32]
Totals = NDArray[np.int64]
Others = NDArray[np.uint32]
Blocks = NDArray[np.int64]
Squares = NDArray[np.uint64]


Free = NDArray[np.int32]


def _ladder() -> NDArray[np.int64]:
    """The lengths that segments may have: each a 16th, and at least 2, more than the one before."""
    steps = [2]
    while steps[-1] < 2**31:
        steps.append(steps[-1] + max(2, steps[-1] >> _SPARE_SHIFT))
    return np.array(steps, np.int64)


LADDER = _ladder()
STEPS = len(LADDER)


class ListArrays(NamedTuple):
    """The pool and its directory.

    List `i` is pool[directory[i, START] : directory[i, START] + directory[i, SIZE]].

    Attributes:
        directory: int32[lists, 3]. START: where the segment begins in the pool. SIZE: entries.
            CAPACITY: length of the segment.
        time: uint32[pool], seconds since 1970, ascending within a list.
        total: int64[pool] or empty, running total of the list's values up to and with this entry.
        other: uint32[pool, columns], further values of an entry (counterparty, event time).
        blocks: int64[blocks, 3] or empty, of 128 pool entries each: whether the summary is true,
            smallest value, largest value.
        squares: uint64[blocks, 2], sum of squares of a block, high and low word.
        free: int32[STEPS], start of a freed segment of each length, -1 for none; its first `time`
            leads to the next.
        used: int64[2], USED pool entries up to the end of the last segment, GARBAGE among them.
    """

    directory: Directory
    time: Times
    total: Totals
    other: Others
    blocks: Blocks
    squares: Squares
    free: Free
    used: NDArray[np.int64]


@inlined
def upper_bound(time: Times, low: Integer, high: Integer, moment: Integer, hint: Integer) -> Integer:
    """First position in [low, high] whose entry is later than `moment`, searched from `hint`."""
    position = min(max(hint, low), high)
    step = 1
    if position < high and time[position] <= moment:
        left = position  # time[left] <= moment
        while left + step < high and time[left + step] <= moment:
            left += step
            step *= 2
        right = min(left + step, high)
        left += 1
    else:
        right = position  # every entry from `right` on is later
        while right - step >= low and time[right - step] > moment:
            right -= step
            step *= 2
        left = max(right - step, low)
    while left < right:
        middle = (left + right) >> 1
        if time[middle] <= moment:
            left = middle + 1
        else:
            right = middle
    return left


@inlined
def _move(
    time: Times, total: Totals, other: Others, source: Integer, target: Integer, count: Integer, forgotten: Integer
) -> None:  # fmt: skip
    """Copy `count` pool entries towards the front or to a place that does not overlap.

    Their running totals are reduced by `forgotten`, the part before them in their list.
    """
    for i in range(count):
        time[target + i] = time[source + i]
    if total.size:
        for i in range(count):
            total[target + i] = total[source + i] - forgotten
    for column in range(other.shape[1]):
        for i in range(count):
            other[target + i, column] = other[source + i, column]


@inlined
def _touch(blocks: Blocks, begin: Integer, end: Integer) -> None:
    """Drop the summaries that cover pool entries [begin, end)."""
    if blocks.shape[0] and end > begin:
        for block in range(begin // BLOCK, (end - 1) // BLOCK + 1):
            blocks[block, OK] = 0


@inlined
def _forgotten(time: Times, start: Integer, size: Integer, horizon: Integer) -> Integer:
    """How many entries at the front of a list are at or before `horizon`."""
    count = np.int64(0)
    while count < size and np.int64(time[start + count]) <= horizon:
        count += 1
    return count


@inlined
def _total_before(total: Totals, start: Integer, place: Integer) -> Integer:
    """Running total just before a pool entry of the list that begins at `start`."""
    return total[place - 1] if place > start else 0


@inlined
def _step_for(count: Integer) -> Integer:
    """Step of the ladder that holds `count` entries."""
    low, high = 0, LADDER.size - 1
    while low < high:
        middle = (low + high) >> 1
        if LADDER[middle] < count:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def _allocate(time: Times, free: Free, used: NDArray[np.int64], step: Integer) -> Integer:
    """Start of a segment of this step: one that was given back, else a new one; -1: none is left."""
    start, capacity = np.int64(free[step]), LADDER[step]
    if start >= 0:
        free[step] = np.int32(time[start])
        used[GARBAGE] -= capacity
        return start
    start = used[USED]
    if start + capacity > time.size:
        return -1
    used[USED] = start + capacity
    return start


@inlined
def _give_back(time: Times, free: Free, used: NDArray[np.int64], start: Integer, capacity: Integer) -> None:
    """Free a segment; its first time links it to the one that was freed before."""
    if capacity:
        step = _step_for(capacity)
        time[start] = np.uint32(free[step])
        free[step] = start
        used[GARBAGE] += capacity


@inlined
def reserve(
    directory: Directory, time: Times, total: Totals, other: Others, blocks: Blocks,
    free: Free, used: NDArray[np.int64], item: Integer, horizon: Integer,
) -> bool:  # fmt: skip
    """Make sure that list `item` can take one more entry. False: the pool is full, nothing changed."""
    start, size = np.int64(directory[item, START]), np.int64(directory[item, SIZE])
    capacity = np.int64(directory[item, CAPACITY])
    if size < capacity:
        return True
    first = _forgotten(time, start, size, horizon)
    size -= first
    step = _step_for(size + 1 + (size >> _SPARE_SHIFT))
    target = start
    if first == 0 or first < capacity >> _SPARE_SHIFT or LADDER[step] < capacity - (capacity >> 2):
        target = _allocate(time, free, used, step)
        if target < 0:
            return False
        directory[item, CAPACITY] = LADDER[step]
    forgotten = _total_before(total, start, start + first) if total.size else 0
    _move(time, total, other, start + first, target, size, forgotten)
    if target != start:
        _give_back(time, free, used, start, capacity)
    directory[item, START] = target
    directory[item, SIZE] = size
    _touch(blocks, target, target + directory[item, CAPACITY])
    return True


@inlined
def insert(
    directory: Directory, time: Times, total: Totals, other: Others, blocks: Blocks,
    item: Integer, moment: Integer, value: Integer,
) -> Integer:  # fmt: skip
    """Insert an entry behind those of the same time; returns its pool position.

    `reserve` must have answered True. `value` goes into the running total where there is one;
    the caller fills `other`.
    """
    begin, size = directory[item, START], directory[item, SIZE]
    place = end = begin + size
    if end > begin and time[end - 1] > moment:
        place = upper_bound(time, begin, end, moment, end)
        for i in range(end, place, -1):
            time[i] = time[i - 1]
        for column in range(other.shape[1]):
            for i in range(end, place, -1):
                other[i, column] = other[i - 1, column]
        if total.size:
            for i in range(end, place, -1):
                total[i] = total[i - 1] + value
    time[place] = moment
    if total.size:
        total[place] = _total_before(total, begin, place) + value
        _touch(blocks, place, end + 1)
    directory[item, SIZE] = size + 1
    return place


@inlined
def remove(
    directory: Directory, time: Times, total: Totals, other: Others,
    item: Integer, moment: Integer, column_value: Integer,
) -> None:  # fmt: skip
    """Remove the newest entry of time `moment` whose `other[0]` is `column_value`.

    Lists without further columns take the newest entry of that time. Used for corrected labels
    only; such lists carry no running total. Nothing happens if the entry is already forgotten.
    """
    begin = directory[item, START]
    end = begin + directory[item, SIZE]
    place = upper_bound(time, begin, end, moment, end) - 1
    while place >= begin and time[place] == moment:
        if other.shape[1] == 0 or other[place, 0] == column_value:
            _move(time, total, other, place + 1, place, end - place - 1, 0)
            directory[item, SIZE] -= 1
            return
        place -= 1


@inlined
def _mark_segments(directory: Directory, time: Times, free: Free) -> None:
    """Encode what every segment is in its first time; the directory keeps the original value."""
    for step in range(free.size):
        start = np.int64(free[step])
        while start >= 0:
            following = np.int64(np.int32(time[start]))
            time[start] = np.uint32(_FREED | step)
            start = following
        free[step] = -1
    for item in range(directory.shape[0]):
        if directory[item, CAPACITY]:
            start = np.int64(directory[item, START])
            directory[item, START] = np.int32(time[start])
            time[start] = np.uint32(item)


@compiled
def free_segments(time: Times, free: Free, start: NDArray[np.int64], length: NDArray[np.int64]) -> Integer:
    """Fill START and length of every freed segment; returns how many, or -1: the links are damaged."""
    count = 0
    for step in range(free.size):
        following = np.int64(free[step])
        while following != -1:
            if count == start.size or not 0 <= following < time.size:
                return -1
            start[count], length[count] = following, LADDER[step]
            following = np.int64(np.int32(time[following]))
            count += 1
    return count


@compiled
def compact(
    directory: Directory, time: Times, total: Totals, other: Others, blocks: Blocks,
    free: Free, used: NDArray[np.int64], horizon: Integer,
) -> None:  # fmt: skip
    """Forget up to `horizon`, then slide the segments, unchanged, to the pool's front."""
    _mark_segments(directory, time, free)
    start, end = np.int64(0), np.int64(0)
    while start < used[USED]:
        item = np.int64(time[start])
        if item & _FREED:
            start += LADDER[item ^ _FREED]
            continue
        capacity = np.int64(directory[item, CAPACITY])
        time[start] = np.uint32(directory[item, START])
        first = _forgotten(time, start, directory[item, SIZE], horizon)
        size = directory[item, SIZE] - first
        if start + first != end:
            forgotten = _total_before(total, start, start + first) if total.size else 0
            _move(time, total, other, start + first, end, size, forgotten)
        directory[item, START] = end
        directory[item, SIZE] = size
        # Room for one more stays: a list that `reserve` has just served must not come back.
        needed = size + 1 + (size >> _SPARE_SHIFT) if size or not first else 0
        if needed < capacity:
            directory[item, CAPACITY] = LADDER[_step_for(needed)] if needed else 0
        end += directory[item, CAPACITY]
        start += capacity
    _touch(blocks, 0, used[USED])
    used[USED] = end
    used[GARBAGE] = 0


@inlined
def multiply_wide(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    """128-bit product of two uint64 as (high, low)."""
    half = np.uint64(32)
    mask = np.uint64(0xFFFFFFFF)
    a_high, a_low = a >> half, a & mask
    b_high, b_low = b >> half, b & mask
    low = a_low * b_low
    middle = a_high * b_low + (low >> half)
    middle_2 = a_low * b_high + (middle & mask)
    high = a_high * b_high + (middle >> half) + (middle_2 >> half)
    return high, (middle_2 << half) | (low & mask)


@inlined
def window_sum(directory: Directory, total: Totals, item: Integer, low: Integer, high: Integer) -> Integer:
    """Sum of the values in pool entries [low, high) of list `item`."""
    if high == low:
        return 0
    return total[high - 1] - _total_before(total, directory[item, START], low)


@inlined
def _summarise_block(
    directory: Directory,
    total: Totals,
    blocks: Blocks,
    squares: Squares,
    item: Integer,
    block: Integer,
) -> None:
    """Minimum, maximum and squares of one block that lies wholly within list `item`."""
    smallest, largest = np.int64(0x7FFFFFFFFFFFFFFF), np.int64(-0x7FFFFFFFFFFFFFFF)
    square_high, square_low = np.uint64(0), np.uint64(0)
    for place in range(block * BLOCK, (block + 1) * BLOCK):
        value = window_sum(directory, total, item, place, place + 1)
        smallest, largest = min(smallest, value), max(largest, value)
        high, low = multiply_wide(np.uint64(abs(value)), np.uint64(abs(value)))
        square_low += low
        square_high += high + np.uint64(square_low < low)
    blocks[block, SMALLEST] = smallest
    blocks[block, LARGEST] = largest
    squares[block, 0] = square_high
    squares[block, 1] = square_low
    blocks[block, OK] = 1


@inlined
def summarise(
    directory: Directory, total: Totals, blocks: Blocks, squares: Squares,
    item: Integer, begin: Integer, end: Integer,
) -> tuple[Integer, Integer, np.uint64, np.uint64]:  # fmt: skip
    """(minimum, maximum, squares high, squares low) of the values in pool entries [begin, end)."""
    smallest, largest = np.int64(0x7FFFFFFFFFFFFFFF), np.int64(-0x7FFFFFFFFFFFFFFF)
    square_high, square_low = np.uint64(0), np.uint64(0)
    place = begin
    while place < end:
        if place % BLOCK == 0 and place + BLOCK <= end:
            block = place // BLOCK
            if not blocks[block, OK]:
                _summarise_block(directory, total, blocks, squares, item, block)
            smallest = min(smallest, blocks[block, SMALLEST])
            largest = max(largest, blocks[block, LARGEST])
            high, low = squares[block, 0], squares[block, 1]
            place += BLOCK
        else:
            value = window_sum(directory, total, item, place, place + 1)
            smallest, largest = min(smallest, value), max(largest, value)
            high, low = multiply_wide(np.uint64(abs(value)), np.uint64(abs(value)))
            place += 1
        square_low += low
        square_high += high + np.uint64(square_low < low)
    return smallest, largest, square_high, square_low


@inlined
def standard_deviation(
    count: Integer, total: Integer, square_high: np.uint64, square_low: np.uint64
) -> Number:
    """Sample standard deviation from exact integers: sqrt((n·Σx² − (Σx)²) / (n·(n−1)))."""
    n = np.uint64(count)
    high, low = multiply_wide(n, np.uint64(square_low))
    high += n * np.uint64(square_high)
    size = np.uint64(abs(total))
    total_high, total_low = multiply_wide(size, size)
    borrow = np.uint64(low < total_low)
    low -= total_low
    high -= total_high + borrow
    spread = np.float64(high) * 18446744073709551616.0 + np.float64(low)
    return np.sqrt(spread / (np.float64(count) * np.float64(count - 1)))
