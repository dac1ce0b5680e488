"""The exact-window kernel: one entity's lists, applied to a batch in log order.

For every transaction the windows are read first and the transaction is inserted after, so it
never sees itself. Nothing here knows a feature's name: `plan` turns the catalogue into the flat
arrays of `PlanArrays`, and one compiled function serves every catalogue.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.features.deduplication import Steps
from zaslon.features.deduplication_table import CONDITION_SHIFT, FRAUD
from zaslon.features.entity_keys import NO_SLOT
from zaslon.features.lists import (
    CAPACITY,
    SIZE,
    START,
    Blocks,
    Directory,
    ListArrays,
    Others,
    Squares,
    Times,
    Totals,
    insert,
    remove,
    reserve,
    standard_deviation,
    summarise,
    upper_bound,
    window_sum,
)
from zaslon.system.compiled import Integer, Number, compiled, inlined
from zaslon.system.intrinsics import prefetch

EVENTS, MARKS, FRAUDS = 0, 1, 2  # pools
SEEN = 3  # what else may be too small: the hash set that counts different counterparties


class Compute(IntEnum):
    """Aggregates. `range` below is a column's window over one list of the entity."""

    COUNT = 0  # entries in range
    SUM = 1  # of amounts, major units
    MEAN = 2
    MIN = 3
    MAX = 4
    STD = 5  # sample standard deviation; none below two events
    QUANTILE = 6  # nearest rank, over the newest events in range
    DISTINCT = 7  # different counterparties in range
    SAME = 8  # events in range with this transaction's counterparty
    SINCE_LAST = 9  # seconds since the newest entry in range
    RISK = 10  # smoothed share of frauds among known labels
    SINCE_FRAUD = 11  # seconds since the transaction of the newest known fraud in range
    SINCE_FIRST_FRAUD = 12  # the same of the oldest known fraud in range
    GOOD_SINCE_FRAUD = 13  # labels that became known after the newest known fraud
    RECENT_RISK = 14  # share of frauds among the newest known labels


_FAR, _NEAR = 12, 6  # steps ahead for which memory is asked
_HINT_MAX = 0xFFFF

# uint16[slots, ranges]: about how far from its list's start a window's begin was last found. What was
# found does not depend on them; they are not part of a snapshot.
Hints = NDArray[np.uint16]

# Columns of PlanArrays.ranges and PlanArrays.columns.
POOL, LIST, WINDOW = 0, 1, 2
COMPUTE, RANGE, SECOND, NEWEST, OTHER, TARGET = 0, 1, 2, 3, 4, 5


class PlanArrays(NamedTuple):
    """What to compute for one entity.

    Attributes:
        range_begin: int64[4], where each pool's ranges begin, in order of pools.
        ranges: int64[ranges, 3], POOL and LIST of the key that a range is over, WINDOW in seconds.
        columns: int64[columns, 6], COMPUTE; RANGE and SECOND range (known labels of a rate);
            NEWEST entries at most (quantile, recent risk); OTHER: which counterparty; TARGET
            column of the feature matrix.
        percents: int64[columns], quantile of a column, 1 … 99.
        lists: int64[3], lists per key in each pool.
        entity, counterparties: int and int64[…], columns of `RowArrays.slots`.
        mark_bits, fraud_bits: int64[…], condition bit of each list; -1 takes all.
        known_list: int, list of known labels among the marks, or -1.
        keep_seconds: int64[3], how long each pool's entries are needed.
        scale: float, minor units per major unit.
        prior_rate, prior_strength: the smoothing of rates.
    """

    range_begin: NDArray[np.int64]
    ranges: NDArray[np.int64]
    columns: NDArray[np.int64]
    percents: NDArray[np.int64]
    lists: NDArray[np.int64]
    entity: int
    counterparties: NDArray[np.int64]
    mark_bits: NDArray[np.int64]
    fraud_bits: NDArray[np.int64]
    known_list: int
    keep_seconds: NDArray[np.int64]
    scale: float
    prior_rate: float
    prior_strength: float


class RowArrays(NamedTuple):
    """Columns of the table of remembered transactions that steps need, by row.

    Attributes:
        time: uint32[rows], event time.
        note: uint8[rows], conditions met, from bit CONDITION_SHIFT on.
        slots: uint32[rows, entities], the keys' slots.
    """

    time: NDArray[np.uint32]
    note: NDArray[np.uint8]
    slots: NDArray[np.uint32]


class Scratch(NamedTuple):
    """Reused memory: window borders, a place to sort amounts, a hash set, and what was too small.

    `seen_factors` is uint64[2], secret: what the set's hash multiplies by and adds. `full` is int64[2]:
    the pool that was full (or SEEN), and the newest stamp of the hash set.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    amounts: NDArray[np.int64]
    seen: NDArray[np.uint32]
    seen_stamp: NDArray[np.int64]
    seen_factors: NDArray[np.uint64]
    full: NDArray[np.int64]


@inlined
def _hint_shift(size: Integer) -> Integer:
    """A hint has 16 bits: in a list of more than 65,535 entries it counts 2, 4, 8, … at a time."""
    if size <= _HINT_MAX:
        return 0
    shift = 1
    while size >> shift > _HINT_MAX:
        shift += 1
    return shift


@inlined
def _find_windows(
    range_begin: NDArray[np.int64], ranges: NDArray[np.int64], lists: NDArray[np.int64], pool: Integer,
    directory: Directory, time: Times, slot: Integer, moment: Integer, hints: Hints,
    low: NDArray[np.int64], high: NDArray[np.int64],
) -> None:  # fmt: skip
    """Pool positions [low, high) of every range over one pool's lists."""
    for r in range(range_begin[pool], range_begin[pool + 1]):
        item = slot * lists[pool] + ranges[r, LIST]
        begin = directory[item, START]
        top = end = begin + directory[item, SIZE]
        if end > begin and time[end - 1] > moment:
            top = upper_bound(time, begin, end, moment, end)
        shift = _hint_shift(end - begin)
        hint = begin + (np.int64(hints[slot, r]) << shift)
        bottom = upper_bound(time, begin, top, moment - ranges[r, WINDOW], hint)
        hints[slot, r] = (bottom - begin) >> shift
        low[r], high[r] = bottom, top


@inlined
def _expect_windows(
    range_begin: NDArray[np.int64], ranges: NDArray[np.int64], lists: NDArray[np.int64], pool: Integer,
    directory: Directory, time: Times, total: Totals, other: Others, slot: Integer, hints: Hints,
) -> None:  # fmt: skip
    """Fetch the ends of one pool's lists and windows of a key that soon comes."""
    for item in range(slot * lists[pool], (slot + 1) * lists[pool]):
        end = np.int64(directory[item, START]) + directory[item, SIZE]
        prefetch(time, end)
        prefetch(total, end)
        prefetch(other, end * other.shape[1])
    for r in range(range_begin[pool], range_begin[pool + 1]):
        # Of a list with more than 65,535 entries this is the wrong place; such lists are in the cache.
        place = np.int64(directory[slot * lists[pool] + ranges[r, LIST], START]) + hints[slot, r]
        prefetch(time, place)
        prefetch(total, place)


@inlined
def _quantile(
    directory: Directory, total: Totals, item: Integer, low: Integer, high: Integer,
    newest: Integer, percent: Integer, amounts: NDArray[np.int64], is_sorted: bool,
) -> Integer:  # fmt: skip
    """Nearest-rank quantile of the newest amounts in [low, high), which is not empty."""
    low = max(low, high - newest)
    count = high - low
    if not is_sorted:
        for i in range(count):
            value = window_sum(directory, total, item, low + i, low + i + 1)
            place = i
            while place > 0 and amounts[place - 1] > value:
                amounts[place] = amounts[place - 1]
                place -= 1
            amounts[place] = value
    return amounts[(percent * count + 99) // 100 - 1]  # in integers: 0.07 * 100 is more than 7


@compiled
def count_distinct(
    other: Others, column: Integer, low: Integer, high: Integer,
    seen: NDArray[np.uint32], stamps: NDArray[np.int64], stamp: Integer, factors: NDArray[np.uint64],
) -> Integer:  # fmt: skip
    """Different slots of other[low:high, column], not counting NO_SLOT; `seen` is a hash set emptied by a new stamp.

    A client chooses in which order keys get their slots, so the set's hash is drawn from a strongly
    universal family (Dietzfelbinger, STACS 1996): no two slots collide more often than by chance.

    Not inlined: with it inside, `apply` is slower for catalogues that count nothing distinct.
    """
    mask = np.uint64(seen.size - 1)
    factor, addend = factors[0], factors[1]
    count = 0
    for place in range(low, high):
        value = other[place, column]
        if value == NO_SLOT:
            continue
        at = ((np.uint64(value) * factor + addend) >> np.uint64(32)) & mask
        while stamps[at] == stamp and seen[at] != value:
            at = (at + np.uint64(1)) & mask
        if stamps[at] != stamp:
            stamps[at] = stamp
            seen[at] = value
            count += 1
    return count


@inlined
def _same(other: Others, column: Integer, low: Integer, high: Integer, wanted: Integer) -> Integer:
    count = 0
    for place in range(low, high):
        count += other[place, column] == wanted
    return count


@inlined
def _known_since(time: Times, low: Integer, high: Integer, moment: Integer) -> Integer:
    """Entries of [low, high) that came after `moment`."""
    return high - upper_bound(time, low, high, moment, high)


@inlined
def _label_column(
    compute: Integer, moment: Integer, newest: Integer, low: Integer, high: Integer, known_low: Integer, known_high: Integer,
    known_time: Times, fraud_time: Times, fraud_other: Others,
    prior_rate: Number, prior_strength: Number,
) -> Number:  # fmt: skip
    """Columns on known labels: rates and times since known frauds."""
    if compute == Compute.RISK:
        known = known_high - known_low
        return ((high - low) + prior_rate * prior_strength) / (known + prior_strength)
    if compute == Compute.RECENT_RISK:
        if known_high == known_low:
            return np.nan
        # Labels of the same second as the oldest of the newest all count.
        since = np.int64(known_time[max(known_low, known_high - newest)]) - 1
        labels = _known_since(known_time, known_low, known_high, since)
        return _known_since(fraud_time, low, high, since) / labels
    if high == low:
        return np.nan
    if compute == Compute.SINCE_FRAUD:
        return np.float64(moment - np.int64(fraud_other[high - 1, 0]))
    if compute == Compute.SINCE_FIRST_FRAUD:
        return np.float64(moment - np.int64(fraud_other[low, 0]))
    return np.float64(_known_since(known_time, known_low, known_high, fraud_time[high - 1]))


@inlined
def _value_column(
    compute: Integer, directory: Directory, total: Totals, blocks: Blocks, squares: Squares,
    item: Integer, low: Integer, high: Integer,
) -> Number:  # fmt: skip
    """Sum, mean, minimum, maximum and standard deviation of amounts, in minor units."""
    count = high - low
    amount = window_sum(directory, total, item, low, high)
    if compute == Compute.SUM:
        return np.float64(amount)
    if count == 0 or (compute == Compute.STD and count == 1):
        return np.nan
    if compute == Compute.MEAN:
        return amount / count
    smallest, largest, square_high, square_low = summarise(directory, total, blocks, squares, item, low, high)
    if compute == Compute.MIN:
        return np.float64(smallest)
    if compute == Compute.MAX:
        return np.float64(largest)
    return standard_deviation(count, amount, square_high, square_low)


@compiled
def apply(
    plan: PlanArrays,
    events: ListArrays,
    marks: ListArrays,
    frauds: ListArrays,
    hints: Hints,
    rows: RowArrays,
    steps: Steps,
    first_step: Integer,
    scratch: Scratch,
    matrix: NDArray[np.float32],
) -> Integer:
    """Apply the steps from `first_step` on; returns the first step not done.

    That is the number of steps, or an earlier one if a pool is full (`scratch.full[0]`): nothing
    of that step is remembered then, and the caller makes room and calls again.

    One long function on purpose: every array is unpacked once, and the inner steps are inlined
    with plain arrays. Passing the tuples on made it six times slower.
    """
    # 1. Unpack.
    range_begin, ranges, columns, percents = plan.range_begin, plan.ranges, plan.columns, plan.percents
    lists, mark_bits, fraud_bits = plan.lists, plan.mark_bits, plan.fraud_bits
    known_list, keep_seconds = plan.known_list, plan.keep_seconds
    e_directory, e_time = events.directory, events.time
    e_total, e_other = events.total, events.other
    e_blocks, e_squares = events.blocks, events.squares
    e_free, e_used = events.free, events.used
    m_directory, m_time = marks.directory, marks.time
    m_total, m_other = marks.total, marks.other
    m_blocks, m_free, m_used = marks.blocks, marks.free, marks.used
    f_directory, f_time = frauds.directory, frauds.time
    f_total, f_other = frauds.total, frauds.other
    f_blocks, f_free, f_used = frauds.blocks, frauds.free, frauds.used
    low, high, amounts = scratch.low, scratch.high, scratch.amounts
    seen, seen_stamp, full = scratch.seen, scratch.seen_stamp, scratch.full
    seen_factors = scratch.seen_factors
    entity, counterparties = plan.entity, plan.counterparties
    times, notes, slots = rows.time, rows.note, rows.slots
    takes_labels = known_list >= 0 or fraud_bits.size > 0

    for number in range(first_step, steps.size):
        # 2. Ask memory for what the next steps need, in two stages: where their lists are, then the lists.
        if number + _FAR < steps.size and (takes_labels or steps[number + _FAR]["transaction"] >= 0):
            later = np.int64(slots[steps[number + _FAR]["row"], entity])
            prefetch(hints, later * hints.shape[1])
            prefetch(e_directory, later * lists[EVENTS] * e_directory.shape[1])
            prefetch(m_directory, later * lists[MARKS] * m_directory.shape[1])
            prefetch(f_directory, later * lists[FRAUDS] * f_directory.shape[1])
        if number + _NEAR < steps.size and (takes_labels or steps[number + _NEAR]["transaction"] >= 0):
            later = np.int64(slots[steps[number + _NEAR]["row"], entity])
            _expect_windows(
                range_begin, ranges, lists, EVENTS, e_directory, e_time, e_total, e_other, later, hints
            )
            _expect_windows(
                range_begin, ranges, lists, MARKS, m_directory, m_time, m_total, m_other, later, hints
            )

        step = steps[number]
        row, transaction = np.int64(step["row"]), np.int64(step["transaction"])
        verdict, verdict_time, previous = step["verdict"], np.int64(step["verdict_time"]), step["previous"]
        is_transaction, is_fraud = transaction >= 0, verdict == FRAUD
        if not (is_transaction or (takes_labels and (known_list >= 0 or is_fraud or previous == FRAUD))):
            continue  # a label that no list of this entity takes
        slot, moment = np.int64(slots[row, entity]), np.int64(times[row])
        bits, watermark = np.int64(notes[row]) >> CONDITION_SHIFT, np.int64(step["watermark"])

        # 3. Room for one more entry in every list that may take one, or nothing at all.
        for item in range(slot * lists[EVENTS], (slot + is_transaction) * lists[EVENTS]):
            if e_directory[item, SIZE] == e_directory[item, CAPACITY] and not reserve(
                e_directory, e_time, e_total, e_other, e_blocks, e_free, e_used,
                item, watermark - keep_seconds[EVENTS],
            ):  # fmt: skip
                full[0] = EVENTS
                return number
        is_marked = (verdict > 0 and known_list >= 0) or (is_transaction and mark_bits.size > 0)
        for item in range(slot * lists[MARKS], (slot + is_marked) * lists[MARKS]):
            if m_directory[item, SIZE] == m_directory[item, CAPACITY] and not reserve(
                m_directory, m_time, m_total, m_other, m_blocks, m_free, m_used,
                item, watermark - keep_seconds[MARKS],
            ):  # fmt: skip
                full[0] = MARKS
                return number
        for item in range(slot * lists[FRAUDS], (slot + is_fraud) * lists[FRAUDS]):
            if f_directory[item, SIZE] == f_directory[item, CAPACITY] and not reserve(
                f_directory, f_time, f_total, f_other, f_blocks, f_free, f_used,
                item, watermark - keep_seconds[FRAUDS],
            ):  # fmt: skip
                full[0] = FRAUDS
                return number

        if is_transaction:
            # 4. Read every window as it is before this transaction.
            _find_windows(
                range_begin, ranges, lists, EVENTS, e_directory, e_time, slot, moment, hints, low, high
            )
            _find_windows(
                range_begin, ranges, lists, MARKS, m_directory, m_time, slot, moment, hints, low, high
            )
            _find_windows(
                range_begin, ranges, lists, FRAUDS, f_directory, f_time, slot, moment, hints, low, high
            )
            sorted_range, sorted_newest = -1, 0
            for c in range(columns.shape[0]):
                compute, r = columns[c, COMPUTE], columns[c, RANGE]
                bottom, top = low[r], high[r]
                value = np.nan
                if compute == Compute.COUNT:
                    value = np.float64(top - bottom)
                elif compute <= Compute.STD:
                    value = (
                        _value_column(compute, e_directory, e_total, e_blocks, e_squares, slot, bottom, top)
                        / plan.scale
                    )
                elif compute == Compute.QUANTILE:
                    if top > bottom:
                        newest = columns[c, NEWEST]
                        is_sorted = sorted_range == r and sorted_newest == newest
                        value = _quantile(
                            e_directory, e_total, slot, bottom, top,
                            newest, percents[c], amounts, is_sorted,
                        ) / plan.scale  # fmt: skip
                        sorted_range, sorted_newest = r, newest
                elif compute == Compute.DISTINCT:
                    if (top - bottom) * 2 > seen.size:
                        full[0] = SEEN
                        return number
                    full[1] += 1
                    value = np.float64(
                        count_distinct(
                            e_other, columns[c, OTHER], bottom, top, seen, seen_stamp, full[1], seen_factors
                        )
                    )
                elif compute == Compute.SAME:
                    other = columns[c, OTHER]
                    wanted = slots[row, counterparties[other]]
                    if wanted != NO_SLOT:
                        value = np.float64(_same(e_other, other, bottom, top, wanted))
                elif compute == Compute.SINCE_LAST:
                    if top > bottom and ranges[r, POOL] == EVENTS:
                        value = np.float64(moment - np.int64(e_time[top - 1]))
                    elif top > bottom:
                        value = np.float64(moment - np.int64(m_time[top - 1]))
                else:
                    second = columns[c, SECOND]
                    value = _label_column(
                        compute, moment, columns[c, NEWEST], bottom, top, low[second], high[second],
                        m_time, f_time, f_other, plan.prior_rate, plan.prior_strength,
                    )  # fmt: skip
                matrix[transaction, columns[c, TARGET]] = value

            # 5. Remember this transaction.
            if lists[EVENTS]:
                place = insert(
                    e_directory, e_time, e_total, e_other, e_blocks, slot, moment, step["amount_minor"]
                )  # fmt: skip
                for column in range(e_other.shape[1]):
                    e_other[place, column] = slots[row, counterparties[column]]
            for i in range(mark_bits.size):
                if (bits >> mark_bits[i]) & 1:
                    item = slot * lists[MARKS] + i
                    insert(m_directory, m_time, m_total, m_other, m_blocks, item, moment, 0)

        # 6. A corrected label first takes back what it replaces.
        elif previous:
            if known_list >= 0:
                item = slot * lists[MARKS] + known_list
                remove(m_directory, m_time, m_total, m_other, item, np.int64(step["previous_time"]), 0)
            if previous == FRAUD:
                for i in range(fraud_bits.size):
                    if fraud_bits[i] < 0 or (bits >> fraud_bits[i]) & 1:
                        item = slot * lists[FRAUDS] + i
                        remove(
                            f_directory, f_time, f_total, f_other,
                            item, np.int64(step["previous_time"]), moment,
                        )  # fmt: skip

        # 7. Remember the label: a label event, or the one that waited for this transaction.
        if verdict:
            if known_list >= 0:
                item = slot * lists[MARKS] + known_list
                insert(m_directory, m_time, m_total, m_other, m_blocks, item, verdict_time, 0)
            if verdict == FRAUD:
                for i in range(fraud_bits.size):
                    if fraud_bits[i] < 0 or (bits >> fraud_bits[i]) & 1:
                        item = slot * lists[FRAUDS] + i
                        place = insert(f_directory, f_time, f_total, f_other, f_blocks, item, verdict_time, 0)
                        f_other[place, 0] = moment
    return steps.size
