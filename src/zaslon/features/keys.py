"""Entity keys → slots: an open-addressing hash table in flat arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.compiled import Integer, compiled, inlined

EMPTY = np.uint32(0xFFFFFFFF)
_LOAD_MAX = 0.8


class KeyArrays(NamedTuple):
    """Slot `s` belongs to `key[s]`; `places` holds slots by hash, EMPTY where free.

    Attributes:
        key: int64[capacity].
        places: uint32[size].
        counters: int64[1], number of slots in use.
    """

    key: NDArray[np.int64]
    places: NDArray[np.uint32]
    counters: NDArray[np.int64]


@inlined
def mixed(key: Integer) -> np.uint64:
    """64 well mixed bits of a key (splitmix64's finaliser)."""
    bits = np.uint64(key)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@inlined
def place_of(bits: np.uint64, size: Integer) -> Integer:
    """Where the search for a key with these mixed bits begins in an index of `size` places."""
    return np.int64(((bits >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32))


@compiled
def _find_or_add(keys: KeyArrays, wanted: NDArray[np.int64], slots: NDArray[np.uint32]) -> None:
    size = keys.places.size
    for i in range(wanted.size):
        key = wanted[i]
        place = place_of(mixed(key), size)
        while keys.places[place] != EMPTY and keys.key[keys.places[place]] != key:
            place = place + 1 if place + 1 < size else 0
        if keys.places[place] == EMPTY:
            slot = keys.counters[0]
            keys.key[slot] = key
            keys.places[place] = slot
            keys.counters[0] = slot + 1
        slots[i] = keys.places[place]


@compiled
def _fill_index(key: NDArray[np.int64], count: Integer, index: NDArray[np.uint32]) -> None:
    size = index.size
    for slot in range(count):
        place = place_of(mixed(key[slot]), size)
        while index[place] != EMPTY:
            place = place + 1 if place + 1 < size else 0
        index[place] = slot


class Keys:
    """Slots of one entity's keys, numbered from 0 in order of first appearance."""

    def __init__(self, capacity: int = 16) -> None:
        self.arrays = KeyArrays(
            np.zeros(capacity, np.int64),
            np.full(int(capacity / _LOAD_MAX) + 1, EMPTY, np.uint32),
            np.zeros(1, np.int64),
        )

    def __len__(self) -> int:
        return int(self.arrays.counters[0])

    def slots(self, wanted: NDArray[np.int64]) -> NDArray[np.uint32]:
        """uint32[n] slots of int64[n] keys; unseen keys get new slots."""
        self._make_room(len(wanted))
        found = np.empty(len(wanted), np.uint32)
        _find_or_add(self.arrays, wanted, found)
        return found

    def _make_room(self, more: int) -> None:
        needed = len(self) + more
        if needed <= len(self.arrays.key):
            return
        capacity = max(needed, len(self.arrays.key) * 5 // 4, 16)
        self.arrays.key.resize(capacity, refcheck=False)
        index = np.full(int(capacity / _LOAD_MAX) + 1, EMPTY, np.uint32)
        _fill_index(self.arrays.key, len(self), index)
        self.arrays = self.arrays._replace(places=index)

    def save(self) -> dict[str, NDArray[np.int64]]:
        """The keys in slot order: all that is needed to restore."""
        return {"key": self.arrays.key[: len(self)]}

    @staticmethod
    def restore(saved: dict[str, NDArray[np.int64]]) -> Keys:
        """The inverse of `save`."""
        keys = Keys(len(saved["key"]))
        keys.slots(np.ascontiguousarray(saved["key"], np.int64))
        return keys
