"""One entity's part of the past: its keys and their lists, in memory and in snapshots."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import DataError
from zaslon.features.capacity import with_room
from zaslon.features.deduplication import Steps
from zaslon.features.entity_keys import Keys
from zaslon.features.kernel import NEWEST, SEEN, RowArrays, Scratch, apply
from zaslon.features.lists import (
    BLOCK,
    CAPACITY,
    GARBAGE,
    LADDER,
    START,
    STEPS,
    USED,
    ListArrays,
    compact,
    free_segments,
)
from zaslon.features.plan import EntityPlan, FeaturePlan
from zaslon.system.siphash import hashes_of

POOL_ENTRIES_MIN = 1 << 14
_SEEN_PLACES_MIN = 1 << 12
_GARBAGE_SHIFT = 5  # a 32nd of a pool may be garbage
_GROWTH_SHIFT = 6  # then it grows by a 64th
_SLOTS_SHIFT = 5  # slots grow by a 32nd
_POOL_ENTRIES_MAX = 2**31 - 1  # places in a pool are int32
_PER_LIST, _PER_ENTRY = ("directory",), ("time", "total", "other")  # arrays of a snapshot
_SAVED = ("used", "free", *_PER_LIST, *_PER_ENTRY)


class EntityHistory:
    """One entity's keys and lists."""

    def __init__(
        self, plan: EntityPlan, pool_entries: int, secret: NDArray[np.uint64], keep_seconds: int
    ) -> None:
        self.plan = plan
        self.keys = Keys(secret, plan.takes_labels, keep_seconds)
        self.pool_entries_min = pool_entries
        self.pools = [
            _empty_lists(pool_entries, plan.has_values, len(plan.counterparties), plan.has_blocks),
            _empty_lists(pool_entries, False, 0, False),
            _empty_lists(pool_entries, False, 1, False),
        ]
        self.hints = np.zeros((0, len(plan.arrays.ranges)), np.uint16)

    def add_slots(self) -> None:
        """Directory entries for keys that have none yet."""
        slots = len(self.keys)
        if slots <= len(self.hints):
            return
        room = max(slots, len(self.hints) + (len(self.hints) >> _SLOTS_SHIFT), 16)
        for pool, per_key in zip(self.pools, self.plan.arrays.lists, strict=True):
            pool.directory.resize((room * int(per_key), pool.directory.shape[1]), refcheck=False)
        self.hints.resize((room, self.hints.shape[1]), refcheck=False)

    def make_room(self, pool: int, watermark: int) -> None:
        """More free entries in a pool: by compaction if enough of it is garbage, else by growth."""
        lists = self.pools[pool]
        if int(lists.used[GARBAGE]) << _GARBAGE_SHIFT > int(lists.used[USED]):
            compact(
                lists.directory, lists.time, lists.total, lists.other, lists.blocks, lists.free,
                lists.used, watermark - int(self.plan.arrays.keep_seconds[pool]),
            )  # fmt: skip
        else:
            more = max(len(lists.time) >> _GROWTH_SHIFT, self.pool_entries_min)
            _resize_pool(lists, len(lists.time) + more)

    def apply(self, rows: RowArrays, steps: Steps, scratch: Scratch, matrix: NDArray[np.float32]) -> Scratch:
        """Run the kernel over all steps, making room whenever a pool or the scratch is full."""
        done = 0
        while done < len(steps):
            events, marks, frauds = self.pools
            done = apply(
                self.plan.arrays, events, marks, frauds, self.hints, rows, steps, done, scratch, matrix
            )
            if done < len(steps):
                full = int(scratch.full[0])
                if full == SEEN:
                    scratch = _with_larger_set(scratch)
                else:
                    self.make_room(full, int(steps[done]["watermark"]))
        return scratch

    def bytes_used(self) -> int:
        """Bytes that this entity's arrays occupy."""
        arrays = [*self.keys.arrays, self.hints, *(a for pool in self.pools for a in pool)]
        return sum(a.nbytes for a in arrays)

    def save(self) -> dict[str, NDArray[Any]]:
        """Keys and lists as flat arrays by name. They are views: copy or write them before the next batch."""
        saved: dict[str, NDArray[Any]] = dict(self.keys.save())
        for pool, lists in enumerate(self.pools):
            used = int(lists.used[USED])
            saved[f"{pool}/used"], saved[f"{pool}/free"] = lists.used, lists.free
            for name in _PER_LIST:
                saved[f"{pool}/{name}"] = getattr(lists, name)[: self._lists_of(pool)]
            for name in _PER_ENTRY:
                saved[f"{pool}/{name}"] = getattr(lists, name)[:used]
        return saved

    def restore(self, saved: dict[str, NDArray[Any]]) -> None:
        """Take over what `save` gave.

        Raises:
            KeyError, ValueError: the arrays are not of this plan, or contradict each other.
        """
        self.keys.restore(saved)
        self.add_slots()
        for pool, lists in enumerate(self.pools):
            content = {name: saved.pop(f"{pool}/{name}") for name in _SAVED}
            _check_lists(self.plan.entity, lists, content, self._lists_of(pool))
            entries: dict[str, NDArray[Any]] = {}
            for name in _SAVED:
                array = content.pop(name)
                if name in _PER_ENTRY and len(array):
                    entries[name] = with_room(array)
                else:
                    getattr(lists, name)[: len(array)] = array
                del array
            self.pools[pool] = lists._replace(**entries)
            _resize_pool(self.pools[pool], max(len(self.pools[pool].time), self.pool_entries_min))

    def _lists_of(self, pool: int) -> int:
        return len(self.keys) * int(self.plan.arrays.lists[pool])


def _check_lists(entity: str, lists: ListArrays, content: dict[str, NDArray[Any]], expected: int) -> None:
    """Saved lists must lie within their pool: the kernel trusts them."""
    directory, used = content["directory"], len(content["time"])
    for name, array in content.items():
        own: NDArray[Any] = getattr(lists, name)
        if array.dtype != own.dtype or array.shape[1:] != own.shape[1:]:
            raise ValueError(f"'{name}' of entity '{entity}' is of another kind")
    if len(directory) != expected or len(content["other"]) != used:
        raise ValueError(f"the lists of entity '{entity}' are incomplete")
    if len(content["total"]) != (used if lists.total.size else 0):
        raise ValueError(f"the amounts of entity '{entity}' are incomplete")
    _, size, capacity = directory.T
    if not ((size >= 0) & (size <= capacity)).all() or not _is_tiled(content, used):
        raise ValueError(f"the lists of entity '{entity}' do not fit their pool")


def _is_tiled(content: dict[str, NDArray[Any]], used: int) -> bool:
    """Whether the segments, those of lists and those that were freed, fill the pool without a gap."""
    capacity = content["directory"][:, CAPACITY].astype(np.int64)
    garbage = used - int(capacity.sum())
    if content["free"].shape != (STEPS,) or content["used"].tolist() != [used, garbage] or garbage < 0:
        return False
    start, length = np.empty(garbage // 2, np.int64), np.empty(garbage // 2, np.int64)
    freed = int(free_segments(content["time"], content["free"], start, length))
    owned = capacity > 0
    if freed < 0 or not np.isin(capacity[owned], LADDER).all():
        return False
    starts = np.concatenate([content["directory"][owned, START], start[:freed]])
    lengths = np.concatenate([capacity[owned], length[:freed]])
    order = np.argsort(starts)
    ends = np.cumsum(lengths[order])
    return np.array_equal(starts[order], ends - lengths[order]) and int(lengths.sum()) == used


def _empty_lists(entries: int, values: bool, other_columns: int, blocks: bool) -> ListArrays:
    block_count = entries // BLOCK + 1 if blocks else 0
    return ListArrays(
        directory=np.zeros((0, 3), np.int32),
        time=np.zeros(entries, np.uint32),
        total=np.zeros(entries if values else 0, np.int64),
        other=np.zeros((entries, other_columns), np.uint32),
        blocks=np.zeros((block_count, 3), np.int64),
        squares=np.zeros((block_count, 2), np.uint64),
        free=np.full(STEPS, -1, np.int32),
        used=np.zeros(2, np.int64),
    )


def _resize_pool(lists: ListArrays, entries: int) -> None:
    if entries > _POOL_ENTRIES_MAX:
        raise DataError(
            f"More than {_POOL_ENTRIES_MAX:,} events of one entity would have to be remembered.",
            hint="Shorten the catalogue's windows or `late_within`.",
        )
    lists.time.resize(entries, refcheck=False)
    if lists.total.size:
        lists.total.resize(entries, refcheck=False)
    lists.other.resize((entries, lists.other.shape[1]), refcheck=False)
    if lists.blocks.size:
        blocks = entries // BLOCK + 1
        lists.blocks.resize((blocks, 3), refcheck=False)
        lists.squares.resize((blocks, 2), refcheck=False)


def _with_larger_set(scratch: Scratch) -> Scratch:
    places = 2 * len(scratch.seen)
    return scratch._replace(
        seen=np.zeros(places, np.uint32), seen_stamp=np.zeros(places, np.int64), full=np.zeros(2, np.int64)
    )


def new_scratch(plan: FeaturePlan, secret: NDArray[np.uint64]) -> Scratch:
    """The kernel's reused memory, as large as this plan needs."""
    ranges = max(len(e.arrays.ranges) for e in plan.entities)
    newest = max((int(e.arrays.columns[:, NEWEST].max(initial=1)) for e in plan.entities), default=1)
    return Scratch(
        np.zeros(max(ranges, 1), np.int64), np.zeros(max(ranges, 1), np.int64),
        np.zeros(newest, np.int64), np.zeros(_SEEN_PLACES_MIN, np.uint32), np.zeros(_SEEN_PLACES_MIN, np.int64),
        hashes_of(np.arange(2), secret), np.zeros(2, np.int64),
    )  # fmt: skip
