"""An id that is used again within one file: as in separate files, it is new once `remember` has passed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zaslon.intake.settling import repeated_rows

REMEMBER = 10
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), min_size=1, max_size=30)


def repeats_of(rows: list[tuple[int, int]]) -> list[int]:
    ids, moments = np.array(rows, np.int64).T
    return list(repeated_rows(ids, moments, REMEMBER).tolist())


def naive(rows: list[tuple[int, int]]) -> list[int]:
    """Row by row: the nearest new row of the id, of equally near ones the earlier in time."""
    found: list[int] = []
    for row, (identifier, moment) in enumerate(rows):
        new = [other for other in range(row) if found[other] == other and rows[other][0] == identifier]
        near = [other for other in new if abs(rows[other][1] - moment) < REMEMBER]
        found.append(min(near, key=lambda other: (abs(rows[other][1] - moment), rows[other][1]), default=row))
    return found


@given(ROWS)
def test_repeats_are_those_of_a_plain_loop(rows: list[tuple[int, int]]) -> None:
    assert repeats_of(rows) == naive(rows)


@given(ROWS)
def test_in_the_order_of_time_they_are_the_engines(rows: list[tuple[int, int]]) -> None:
    """What the log does with the same rows one by one: an id is known for less than `remember`."""
    rows.sort(key=lambda row: row[1])
    known: dict[int, int] = {}
    for row, repeated in enumerate(repeats_of(rows)):
        identifier, moment = rows[row]
        is_new = moment >= known.get(identifier, -REMEMBER) + REMEMBER
        assert (repeated == row) == is_new
        if is_new:
            known[identifier] = moment
