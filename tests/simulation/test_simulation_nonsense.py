"""Nonsense is answered with a sentence that helps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from zaslon.domain.errors import ZaslonError
from zaslon.simulate import profile, simulate_days, simulation_profile, write_simulation


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("misson", {}, "Unknown profile 'misson'. Did you mean 'mission'?"),
        ("", {}, "Unknown profile ''. Known: handbook, mission."),
        ("mission", {"customers": 0}, "customers = 0 is out of range. Give 1 to 10,000,000."),
        ("mission", {"customers": -5}, "customers = -5 is out of range"),
        ("mission", {"customers": 10**12}, "Give 1 to 10,000,000."),
        ("mission", {"customers": 2.5}, "customers = 2.5 is not a whole number."),
        ("mission", {"customers": True}, "customers = True is not a whole number."),
        ("mission", {"terminals": 0}, "terminals = 0 is out of range. Give 1 to 1,000,000."),
        ("mission", {"terminals": "many"}, "terminals = 'many' is not a whole number."),
        ("mission", {"defects": -1}, "Give a multiple of the real rates, 0 to 10,000; 1 is as in reality."),
        ("mission", {"defects": math.nan}, "defects = nan is out of range."),
        ("mission", {"defects": math.inf}, "defects = inf is out of range."),
        ("mission", {"defects": "all"}, "defects = all is out of range."),
        ("mission", {"start": "22.08.2019"}, "'22.08.2019' is not a date. Write YYYY-MM-DD."),
        ("mission", {"start": "2019-02-30"}, "'2019-02-30' is not a date."),
        ("mission", {"start": "1969-12-31"}, "A simulation cannot start on 1969-12-31. Give a day from 1970"),
        ("mission", {"start": "2200-01-01"}, "A simulation cannot start on 2200-01-01."),
    ],
)
def test_a_nonsensical_profile_is_refused(name: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ZaslonError) as refused:
        simulation_profile(name, **arguments)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("days", "seed", "sentence"),
    [
        (0, 1, "days = 0 is out of range. Give 1 to 31,5"),
        (-1, 1, "days = -1 is out of range."),
        (10**6, 1, "days = 1000000 is out of range."),
        (1.5, 1, "days = 1.5 is not a whole number."),
        (1, -1, "seed = -1 is out of range."),
        (1, "one", "seed = 'one' is not a whole number."),
        (1, None, "seed = None is not a whole number."),
    ],
)
def test_nonsensical_days_and_seeds_are_refused_at_once(days: Any, seed: Any, sentence: str) -> None:
    with pytest.raises(ZaslonError) as refused:
        simulate_days(simulation_profile("mission"), days, seed)  # not only when the first day is taken
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"rows": 0}, "rows = 0 is out of range."),
        ({"rows": 2.5}, "rows = 2.5 is not a whole number."),
        ({"format": "json"}, "Unknown format 'json'. Did you mean 'jsonl'?"),
        ({"format": "xlsx"}, "Known: csv, jsonl, mission, parquet."),
        ({"days": 0}, "days = 0 is out of range."),
        ({"out": "a.parquet.gz", "format": "parquet"}, "give a name that ends with .parquet."),
        ({"out": "directory"}, "directory' is a directory. Give the name of a file."),
        ({"out": "file/a.txt"}, "a.txt' cannot be written: "),
    ],
)
def test_a_nonsensical_file_is_refused_and_nothing_is_left(
    tmp_path: Path, arguments: dict[str, Any], sentence: str
) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("")
    given: dict[str, Any] = {"days": 1, "out": "a.txt"} | arguments
    days, out = given.pop("days"), tmp_path / given.pop("out")
    with pytest.raises(ZaslonError) as refused:
        write_simulation(simulation_profile("mission", customers=10), days, 1, out, **given)
    assert sentence in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} == {"directory", "file"}


@pytest.mark.parametrize("name", ["mission", "handbook"])
@pytest.mark.parametrize(("customers", "terminals"), [(1, 1), (1, 1_000), (50, 1), (300, 3), (50, 200_000)])
def test_the_smallest_and_oddest_worlds_can_be_simulated(name: str, customers: int, terminals: int) -> None:
    world = profile(name, customers=customers, terminals=terminals, start="1970-01-01", defects=1_000)
    for day in simulate_days(world, 3, seed=0):
        assert len(day) == 0 or 0 <= day.terminal_id.min() <= day.terminal_id.max() < terminals
        assert len(day) == 0 or 0 <= day.customer_id.min() <= day.customer_id.max() < customers
