"""Entity keys → slots: an open-addressing hash table in flat arrays, keyed with a secret.

A key with nothing left in any window gives its slot up when a new key needs one, so that memory follows the
keys that are alive and not all that ever were; see docs/decisions/0018. Which slot is given up depends on the
log alone. The new key also takes over the lists: all that they hold is too old for any window.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.events import NO_KEY
from zaslon.features.capacity import with_room
from zaslon.system.compiled import Integer, compiled, inlined
from zaslon.system.intrinsics import prefetch
from zaslon.system.siphash import hash_of, hashes_of

EMPTY = np.uint32(0xFFFFFFFF)
NO_SLOT = EMPTY  # of a transaction without a key
COUNT, HAND = 0, 1  # positions in KeyArrays.counters
_LOOKS = 8  # slots that a new key looks at before it takes one more
_AHEAD = 12  # steps between asking memory for a place and looking there
_LOAD_MAX = 0.7
_KEYS_MIN = 512  # what they grow by at least
_KEYS_SHIFT = 5  # keys grow by a 32nd, their index, which is then rebuilt, by an eighth
_INDEX_SHIFT = 3


class KeyArrays(NamedTuple):
    """Slot `s` belongs to `key[s]`; `places` holds slots by hash, EMPTY where free.

    Attributes:
        key: int64[capacity].
        touched: uint32[capacity], the latest of the key's event times and of its labels' arrivals.
        places: uint32[size].
        counters: int64[2], COUNT of slots in use, HAND: the slot that a new key looks at first.
        secret: uint64[2], what the hash is keyed with: a client that chooses keys must not choose places.
    """

    key: NDArray[np.int64]
    touched: NDArray[np.uint32]
    places: NDArray[np.uint32]
    counters: NDArray[np.int64]
    secret: NDArray[np.uint64]


@inlined
def place_of(bits: np.uint64, size: Integer) -> Integer:
    """Where the search for a key with this hash begins in an index of `size` places."""
    return np.int64(((bits >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32))


@inlined
def _find_place(keys: KeyArrays, key: Integer, bits: np.uint64) -> Integer:
    """The index place that names the key's slot, or the free one where it may."""
    size = keys.places.size
    place = place_of(bits, size)
    while keys.places[place] != EMPTY and keys.key[keys.places[place]] != key:
        place = place + 1 if place + 1 < size else 0
    return place


@inlined
def _free_place(keys: KeyArrays, place: Integer) -> None:
    """Free an index place: those behind it that belong before it move up, so that no search ends early."""
    size = keys.places.size
    following = place
    while True:
        following = following + 1 if following + 1 < size else 0
        slot = keys.places[following]
        if slot == EMPTY:
            break
        home = place_of(hash_of(keys.key[slot], keys.secret), size)
        if (following - home) % size >= (following - place) % size:
            keys.places[place] = slot
            place = following
    keys.places[place] = EMPTY


@inlined
def _give_up_slot(keys: KeyArrays, horizon: Integer) -> Integer:
    """A slot whose key was last touched at or before `horizon`, taken from it; -1: none in sight."""
    for _ in range(min(_LOOKS, keys.counters[COUNT])):
        slot = keys.counters[HAND]
        keys.counters[HAND] = slot + 1 if slot + 1 < keys.counters[COUNT] else 0
        if np.int64(keys.touched[slot]) <= horizon:
            key = keys.key[slot]
            _free_place(keys, _find_place(keys, key, hash_of(key, keys.secret)))
            return slot
    return -1


@inlined
def _touch(keys: KeyArrays, slot: Integer, moment: Integer) -> None:
    keys.touched[slot] = max(keys.touched[slot], moment)


@compiled
def _find_or_add(
    keys: KeyArrays, wanted: NDArray[np.int64], hashes: NDArray[np.uint64], steps: NDArray[np.void],
    first_step: Integer, times: NDArray[np.uint32], slots: NDArray[np.uint32], entity: Integer,
    takes_labels: bool, keep_seconds: Integer,
) -> Integer:  # fmt: skip
    """Go through the steps from `first_step` on; returns the first one whose key needs more room."""
    size = keys.places.size
    most = min(keys.key.size, np.int64(_LOAD_MAX * size))
    for number in range(first_step, steps.size):
        step = steps[number]
        row, transaction = step["row"], np.int64(step["transaction"])
        if takes_labels and number + _AHEAD < steps.size:
            prefetch(slots, np.int64(steps[number + _AHEAD]["row"]) * slots.shape[1])
        if transaction < 0:
            if takes_labels and slots[row, entity] != NO_SLOT:
                _touch(keys, slots[row, entity], step["verdict_time"])
            continue
        if transaction + _AHEAD < hashes.size:
            prefetch(keys.places, place_of(hashes[transaction + _AHEAD], size))
        key, bits = wanted[transaction], hashes[transaction]
        if key == NO_KEY:
            slots[row, entity] = NO_SLOT
            continue
        place = _find_place(keys, key, bits)
        if keys.places[place] == EMPTY:
            if keys.counters[COUNT] >= most:
                return number  # before the hand moves: room must not decide which slot is given up
            slot = _give_up_slot(keys, np.int64(step["watermark"]) - keep_seconds)
            if slot >= 0:
                place = _find_place(keys, key, bits)  # the free one may have moved
            else:
                slot = keys.counters[COUNT]
                keys.counters[COUNT] = slot + 1
            keys.key[slot], keys.touched[slot] = key, 0
            keys.places[place] = slot
        slot = keys.places[place]
        _touch(keys, slot, times[row])
        if step["verdict"] and takes_labels:
            _touch(keys, slot, step["verdict_time"])
        slots[row, entity] = slot
    return steps.size


@compiled
def _fill_index(keys: KeyArrays) -> bool:
    """Name every slot in the empty index. False: a key occurs twice."""
    for slot in range(keys.counters[COUNT]):
        place = _find_place(keys, keys.key[slot], hash_of(keys.key[slot], keys.secret))
        if keys.places[place] != EMPTY:
            return False
        keys.places[place] = slot
    return True


class Keys:
    """Slots of one entity's keys.

    Args:
        secret: uint64[2], keys the hash.
        takes_labels: whether the entity has lists of labels.
        keep_seconds: a key that was touched this long ago has nothing in any window, and no remembered
            transaction has it.
    """

    def __init__(
        self, secret: NDArray[np.uint64], takes_labels: bool, keep_seconds: int, capacity: int = _KEYS_MIN
    ) -> None:
        self._takes_labels, self._keep_seconds = takes_labels, keep_seconds
        self.arrays = KeyArrays(
            np.zeros(capacity, np.int64), np.zeros(capacity, np.uint32), _empty_index(capacity),
            np.zeros(2, np.int64), secret,
        )  # fmt: skip

    def __len__(self) -> int:
        return int(self.arrays.counters[COUNT])

    def find(
        self, wanted: NDArray[np.int64], steps: NDArray[np.void],
        times: NDArray[np.uint32], slots: NDArray[np.uint32], entity: int,
    ) -> None:  # fmt: skip
        """Write the slot of every accepted transaction's key into its row; new keys get new or given up ones.

        Args:
            wanted: int64[accepted], keys of the accepted transactions.
            steps: what `identify` gave.
            times: uint32[rows], event time of each remembered transaction.
            slots: uint32[rows, entities], the slots of its keys; those of new ones are filled.
            entity: column of `slots`.
        """
        done, hashes = 0, hashes_of(wanted, self.arrays.secret)
        while done < len(steps):
            done = _find_or_add(
                self.arrays, wanted, hashes, steps, done, times, slots, entity,
                self._takes_labels, self._keep_seconds,
            )  # fmt: skip
            if done < len(steps):
                self._make_room()

    def _make_room(self) -> None:
        """Room for one more key at least."""
        count = len(self)
        if count == len(self.arrays.key):
            room = count + max(count >> _KEYS_SHIFT, _KEYS_MIN)
            self.arrays.key.resize(room, refcheck=False)
            self.arrays.touched.resize(room, refcheck=False)
        if count >= int(_LOAD_MAX * len(self.arrays.places)):
            self.arrays = self.arrays._replace(
                places=_empty_index(count + max(count >> _INDEX_SHIFT, _KEYS_MIN))
            )
            _fill_index(self.arrays)

    def save(self) -> dict[str, NDArray[np.generic]]:
        """By slot, the keys and when they were touched; and the hand."""
        return {
            "key": self.arrays.key[: len(self)], "touched": self.arrays.touched[: len(self)],
            "hand": self.arrays.counters[HAND:],
        }  # fmt: skip

    def restore(self, saved: dict[str, NDArray[np.generic]]) -> None:
        """Take over what `save` gave.

        Raises:
            KeyError, ValueError: an array is missing, a key occurs twice, or the arrays contradict each other.
        """
        key, touched, hand = saved["key"], saved["touched"], saved["hand"]
        counters = np.array([len(key), *hand.tolist()], np.int64)
        if touched.dtype != np.uint32 or touched.shape != key.shape or key.dtype != np.int64:
            raise ValueError("keys and when they were touched disagree")
        if counters.shape != (2,) or not 0 <= counters[HAND] < max(len(key), 1):
            raise ValueError("the hand points at no key")
        self.arrays = self.arrays._replace(
            key=with_room(key), touched=with_room(touched), counters=counters, places=_empty_index(len(key))
        )
        if not _fill_index(self.arrays):
            raise ValueError("a key occurs twice")


def _empty_index(capacity: int) -> NDArray[np.uint32]:
    return np.full(int(capacity / _LOAD_MAX) + 1, EMPTY, np.uint32)
