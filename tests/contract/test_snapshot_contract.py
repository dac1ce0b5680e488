"""What every store of snapshots keeps to, whatever is behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.contract.conftest import OpenSnapshots


def state(number: int) -> dict[str, NDArray[Any]]:
    return {
        "times": np.arange(number, dtype=np.uint32),
        "table": np.full((2, 3), number, np.float64),
        "empty": np.zeros(0, np.int64),
        "name": np.frombuffer(f"state {number}".encode(), np.uint8),
    }


def assert_same(found: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_new_store_has_no_state(open_snapshots: OpenSnapshots) -> None:
    store = open_snapshots()
    assert store.newest() is None
    assert store.newest(5) is None
    assert store.forget_after(0) == 0


def test_the_newest_state_up_to_a_position_is_found(
    open_snapshots: OpenSnapshots,
) -> None:
    store = open_snapshots()
    for position in (0, 10, 20):
        store.save(position, state(position))
    again = open_snapshots()
    for asked, expected in ((None, 20), (25, 20), (20, 20), (19, 10), (9, 0), (0, 0)):
        found = again.newest(asked)
        assert found is not None
        position, content, complaints = found
        assert (position, complaints) == (expected, [])
        assert_same(content, state(expected))


def test_a_state_saved_again_at_its_position_replaces_the_first(open_snapshots: OpenSnapshots) -> None:
    store = open_snapshots()
    store.save(5, state(1))
    store.save(5, state(2))
    found = store.newest()
    assert found is not None
    assert_same(found[1], state(2))


def test_a_failed_write_leaves_older_states_and_no_partial_one(
    open_snapshots: OpenSnapshots,
) -> None:
    class Broken:
        def __array__(self, *_: Any, **__: Any) -> NDArray[Any]:
            raise RuntimeError("the state went away")

    store = open_snapshots()
    store.save(10, state(1))
    halves: dict[str, Any] = {"large": np.zeros(3_000_000), "broken": Broken()}
    for position in (10, 20):
        with pytest.raises(RuntimeError, match="went away"):
            store.save(position, halves)
    store.save(5, state(2))
    for asked, expected in ((None, 10), (5, 5)):
        found = open_snapshots().newest(asked)
        assert found is not None
        assert (found[0], found[2]) == (expected, [])
        assert_same(found[1], state(1 if expected == 10 else 2))


def test_the_first_state_and_the_newest_are_always_kept(open_snapshots: OpenSnapshots) -> None:
    store = open_snapshots()
    for position in range(0, 200, 10):
        store.save(position, state(position))
    newest, first = store.newest(), store.newest(9)
    assert newest is not None
    assert first is not None
    assert (newest[0], first[0]) == (190, 0)


def test_states_after_the_end_of_a_log_are_forgotten(open_snapshots: OpenSnapshots) -> None:
    store = open_snapshots()
    for position in (0, 10, 20):
        store.save(position, state(position))
    assert store.forget_after(10) == 1
    assert store.forget_after(10) == 0
    found = open_snapshots().newest()
    assert found is not None
    assert found[0] == 10
