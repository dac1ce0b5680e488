"""Entity keys → slots: an open-addressing hash table in flat arrays, keyed with a secret."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.events import NO_KEY
from zaslon.system.compiled import Integer, compiled, inlined
from zaslon.system.siphash import hash_of, hashes_of

EMPTY = np.uint32(0xFFFFFFFF)
NO_SLOT = EMPTY  # of a transaction without a key
_LOAD_MAX = 0.7
_KEYS_MIN = 512  # what they grow by at least
_KEYS_SHIFT = 5  # keys grow by a 32nd, their index, which is then made anew, by an eighth
_INDEX_SHIFT = 3


class KeyArrays(NamedTuple):
    """Slot `s` belongs to `key[s]`; `places` holds slots by hash, EMPTY where free.

    Attributes:
        key: int64[capacity].
        places: uint32[size].
        counters: int64[1], number of slots in use.
        secret: uint64[2], what the hash is keyed with: whoever chooses keys must not choose places.
    """

    key: NDArray[np.int64]
    places: NDArray[np.uint32]
    counters: NDArray[np.int64]
    secret: NDArray[np.uint64]


@inlined
def place_of(bits: np.uint64, size: Integer) -> Integer:
    """Where the search for a key with this hash begins in an index of `size` places."""
    return np.int64(((bits >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32))


@compiled
def _find_or_add(
    keys: KeyArrays, wanted: NDArray[np.int64], hashes: NDArray[np.uint64], steps: NDArray[np.void],
    first_step: Integer, entity: Integer, slots: NDArray[np.uint32],
) -> Integer:  # fmt: skip
    """Go through the steps from `first_step` on; returns the first one whose key needs more room."""
    size = keys.places.size
    most = min(keys.key.size, np.int64(_LOAD_MAX * size))
    for number in range(first_step, steps.size):
        step = steps[number]
        if step["transaction"] < 0:
            continue
        key = wanted[step["transaction"]]
        if key == NO_KEY:
            slots[step["row"], entity] = NO_SLOT
            continue
        place = place_of(hashes[step["transaction"]], size)
        while keys.places[place] != EMPTY and keys.key[keys.places[place]] != key:
            place = place + 1 if place + 1 < size else 0
        if keys.places[place] == EMPTY:
            slot = keys.counters[0]
            if slot >= most:
                return number
            keys.key[slot] = key
            keys.places[place] = slot
            keys.counters[0] = slot + 1
        slots[step["row"], entity] = keys.places[place]
    return steps.size


@compiled
def _fill_index(keys: KeyArrays) -> bool:
    """Name every slot in the empty index. False: a key stands twice."""
    size = keys.places.size
    for slot in range(keys.counters[0]):
        place = place_of(hash_of(keys.key[slot], keys.secret), size)
        while keys.places[place] != EMPTY:
            if keys.key[keys.places[place]] == keys.key[slot]:
                return False
            place = place + 1 if place + 1 < size else 0
        keys.places[place] = slot
    return True


class Keys:
    """Slots of one entity's keys, numbered from 0 in order of first appearance."""

    def __init__(self, secret: NDArray[np.uint64], capacity: int = _KEYS_MIN) -> None:
        self.arrays = KeyArrays(
            np.zeros(capacity, np.int64), _empty_index(capacity), np.zeros(1, np.int64), secret
        )

    def __len__(self) -> int:
        return int(self.arrays.counters[0])

    def find(
        self, wanted: NDArray[np.int64], steps: NDArray[np.void], entity: int, slots: NDArray[np.uint32]
    ) -> None:
        """Write the slot of every accepted transaction's key into its row of `slots`; new keys get new ones.

        Args:
            wanted: int64[accepted], keys of the accepted transactions.
            steps: what `identify` gave.
            entity: column of `slots`, uint32[rows, entities].
        """
        done, hashes = 0, hashes_of(wanted, self.arrays.secret)
        while (done := _find_or_add(self.arrays, wanted, hashes, steps, done, entity, slots)) < len(steps):
            self._make_room()

    def _make_room(self) -> None:
        """Room for one more key at least."""
        count = len(self)
        if count == len(self.arrays.key):
            self.arrays.key.resize(count + max(count >> _KEYS_SHIFT, _KEYS_MIN), refcheck=False)
        if count >= int(_LOAD_MAX * len(self.arrays.places)):
            self.arrays = self.arrays._replace(
                places=_empty_index(count + max(count >> _INDEX_SHIFT, _KEYS_MIN))
            )
            _fill_index(self.arrays)

    def save(self) -> dict[str, NDArray[np.int64]]:
        """The keys in slot order: all that is needed to restore."""
        return {"key": self.arrays.key[: len(self)]}

    @staticmethod
    def restore(saved: dict[str, NDArray[np.int64]], secret: NDArray[np.uint64]) -> Keys:
        """The inverse of `save`.

        Raises:
            ValueError: a key stands twice.
        """
        keys = Keys(secret, len(saved["key"]))
        keys.arrays.key[:] = saved["key"]
        keys.arrays.counters[0] = len(saved["key"])
        if not _fill_index(keys.arrays):
            raise ValueError("a key stands twice")
        return keys


def _empty_index(capacity: int) -> NDArray[np.uint32]:
    return np.full(int(capacity / _LOAD_MAX) + 1, EMPTY, np.uint32)
