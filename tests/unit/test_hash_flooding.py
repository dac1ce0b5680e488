"""Ids and keys are chosen by clients: no choice of them makes a look-up long. Probes are counted."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.feature_logs import PLANS, SECRET, START, as_labels, as_transactions
from tests.oracle import Payment

import zaslon
from zaslon.domain.events import Transactions
from zaslon.features.entity_keys import EMPTY
from zaslon.features.history import History
from zaslon.features.kernel import count_distinct
from zaslon.intake.repeat_filter import RepeatFilter
from zaslon.system.siphash import hashes_of, secret_words

NUMBERS = 20_000
PLAN = PLANS["short"]

# What CPython, whose hash of bytes is SipHash-1-3, gives with PYTHONHASHSEED=7, which is this secret.
CPYTHON_SECRET = "3d0e6f80a174c8124f78d2f9d2890a47"
WORDS = [0, 1, -1, 2**63 - 1, 0x0123456789ABCDEF]
CPYTHON_HASHES = [
    9935034573137337856, 16424656206189774945, 17518911549012030794,
    633112345903090423, 2134970815330467085,
]  # fmt: skip


def test_hashes_equal_those_of_cpython() -> None:
    hashes = hashes_of(np.array(WORDS), secret_words(bytes.fromhex(CPYTHON_SECRET)))
    assert hashes.tolist() == CPYTHON_HASHES


def undo_shift(bits: NDArray[np.uint64], by: int) -> NDArray[np.uint64]:
    """The inverse of `bits ^ (bits >> by)`."""
    found = bits.copy()
    for _ in range(64 // by):
        found = bits ^ (found >> np.uint64(by))
    return found


def equal_by_splitmix() -> NDArray[np.int64]:
    """Numbers whose upper 32 bits are zero once splitmix64's finaliser, the hash of before, mixed them."""
    bits = undo_shift(np.arange(1, NUMBERS + 1, dtype=np.uint64), 31)
    bits = undo_shift(bits * np.uint64(pow(0x94D049BB133111EB, -1, 2**64)), 27)
    return undo_shift(bits * np.uint64(pow(0xBF58476D1CE4E5B9, -1, 2**64)), 30).view(np.int64)


COUNT = np.arange(1, NUMBERS + 1, dtype=np.int64)
CHOSEN = {
    "equal by the hash of before": equal_by_splitmix(),
    "one after the other": COUNT,
    "equal low bits": COUNT << 40,
    "equal high bits": COUNT - (1 << 62),
    "multiples of the golden ratio": (COUNT.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view(np.int64),
}


def payments_of(numbers: NDArray[np.int64]) -> Transactions:
    """One payment for each number, which is its id and the key of both its entities."""
    one = as_transactions(PLAN.catalogue, [Payment(1, START, 5, {"card": 1, "shop": 1})])
    rows = one.take(np.zeros(len(numbers), np.int64))
    rows.transaction_id[:] = numbers
    for keys in rows.entity_keys.values():
        keys[:] = numbers
    return rows


def probes(is_taken: NDArray[np.bool_]) -> float:
    """Places looked at for a number that is found, at most, in a table searched from place to place."""
    free = np.flatnonzero(~is_taken)
    runs = np.diff(free, prepend=-1, append=len(is_taken)) - 1
    return float((runs.astype(np.float64) ** 2).sum() / is_taken.sum())


@pytest.mark.parametrize("name", list(CHOSEN))
def test_chosen_ids_and_keys_do_not_lengthen_look_ups(name: str) -> None:
    history = History(PLAN, secret=SECRET)
    transactions = payments_of(CHOSEN[name])
    history.apply(transactions, as_labels([]), np.zeros(NUMBERS, np.bool_))
    assert len(history) == NUMBERS
    assert history.deduplication.arrays.passed.sum() < NUMBERS / 10, "buckets that were full"
    for entity in history.entities:
        assert len(entity.keys) == NUMBERS
        assert probes(entity.keys.arrays.places != EMPTY) < 30


def test_chosen_slots_do_not_lengthen_the_distinct_count() -> None:
    """Slots with equal bits 40 to 51 of their multiple: where the set looked before."""
    slots = np.arange(1 << 22, dtype=np.uint64)
    places = ((slots * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) & np.uint64(4_095)
    chosen = slots[places == 7].astype(np.uint32)
    assert len(chosen) > 1_000
    factors = hashes_of(np.arange(2), secret_words(SECRET))
    seen, stamps = np.zeros(4_096, np.uint32), np.zeros(4_096, np.int64)
    assert count_distinct(chosen.reshape(-1, 1), 0, 0, len(chosen), seen, stamps, 1, factors) == len(chosen)
    assert probes(stamps == 1) < 10


@pytest.mark.parametrize("name", list(CHOSEN))
def test_chosen_ids_do_not_make_each_other_suspects(name: str) -> None:
    suspects = RepeatFilter(1 << 18, SECRET).suspects(CHOSEN[name])
    assert suspects.sum() < NUMBERS / 100


def test_no_dict_or_set_is_keyed_by_ids() -> None:
    """Python's hash of integers has no secret; where ids are looked up in a dict, they are texts."""
    source = Path(zaslon.__file__).parent
    keyed = re.compile(r"\b(dict|set|Counter)\[TransactionId\b")
    assert not [path for path in source.rglob("*.py") if keyed.search(path.read_text("utf-8"))]
