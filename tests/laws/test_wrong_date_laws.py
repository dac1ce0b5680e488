"""Wrong dates in the future: few of them change the outcome of no other row, of this file or the next."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import IS_THOROUGH
from tests.parity.file_ingress import CSV, placeless
from tests.parity.ingress_log import payment, recorded

from zaslon.domain.time import SECONDS_PER_DAY, parse_day, time_text
from zaslon.flows.score import score
from zaslon.testing import SmallWorld

FIRST_DAY, A_DAY = parse_day("2019-09-02"), 40
Row = dict[str, object]


def honest(day: int, rows: int) -> list[Row]:
    """Rows of one day, evenly over it."""
    moments = ((FIRST_DAY + day) * SECONDS_PER_DAY + i * SECONDS_PER_DAY // rows for i in range(rows))
    return [payment(day * 1000 + i, time_text(t), customer_id=i % 7) for i, t in enumerate(moments)]


def decided(world: SmallWorld, *files: list[Row]) -> Iterator[Row]:
    """The outcomes of files given one after the other."""
    with tempfile.TemporaryDirectory() as scratch:
        context = world.in_home(Path(scratch) / "home").context
        for number, rows in enumerate(files):
            file = Path(scratch) / f"{number}.csv"
            CSV.write(rows, file)
            score(context, [str(file)], learn=False)
        yield from map(orjson.loads, map(placeless, recorded(context)))


@pytest.fixture(scope="module")
def expected(small_world: SmallWorld) -> list[Row]:
    first, second = [*honest(0, A_DAY), *honest(1, A_DAY)], honest(2, A_DAY)
    return list(decided(small_world, first, second))


@settings(max_examples=50 if IS_THOROUGH else 5)
@given(st.lists(st.tuples(st.integers(3, 60), st.integers(0, SECONDS_PER_DAY - 1)), max_size=A_DAY // 10 - 1))
def test_few_wrong_dates_change_no_other_outcome(
    small_world: SmallWorld, expected: list[Row], wrong: list[tuple[int, int]]
) -> None:
    """Up to a tenth of a usual day's rows, on any days after those of the next file."""
    bad = [
        payment(9_000 + i, time_text((FIRST_DAY + day) * SECONDS_PER_DAY + second), customer_id=i)
        for i, (day, second) in enumerate(wrong)
    ]
    first, second = [*honest(0, A_DAY), *bad, *honest(1, A_DAY)], honest(2, A_DAY)
    found = [o for o in decided(small_world, first, second) if int(str(o.get("transaction_id", 0))) < 9_000]
    assert found == expected
    assert all(o["outcome"] == "decision" for o in found)
