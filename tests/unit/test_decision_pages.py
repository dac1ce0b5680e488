"""Decisions are found by their time without looking through the whole log."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaslon.adapters.embedded.decision_store import SqliteDecisions
from zaslon.domain.outcomes import Action, Decision, LabelAccepted, Outcome, Versions
from zaslon.domain.recorded import Recorded
from zaslon.domain.time import time_text
from zaslon.services.decision_pages import DecisionFilter, decisions_page

LATE_SECONDS = 600
BEGIN_SECONDS = 1_500_000_000
VERSIONS = Versions("m", "p", "c", 1)


class Counted(SqliteDecisions):
    """The copy of decisions, counting what it is asked for."""

    looked_at = 0

    def page(self, before_position: int | None, count: int) -> list[Recorded]:
        found = super().page(before_position, count)
        self.looked_at += len(found)
        return found


def decision(position: int, event_time_seconds: int) -> Decision:
    return Decision(position, position, event_time_seconds, Action.ALLOW, 0.5, (), (), (), VERSIONS)


def log_of(steps: list[tuple[int, int]]) -> list[Outcome]:
    """Outcomes in log order: each decision a step after the newest before it, some late; a late of -1 is a label."""
    newest, found = BEGIN_SECONDS, list[Outcome]()
    for position, (step, late) in enumerate(steps):
        if late < 0:
            found.append(LabelAccepted(position, position, is_fraud=True))
            continue
        newest += step
        found.append(decision(position, newest - min(late, LATE_SECONDS)))
    return found


@contextmanager
def stored(outcomes: list[Outcome], directory: Path) -> Iterator[Counted]:
    with closing(Counted(directory / "decisions.db", len(outcomes))) as store:
        store.keep([(i, i, outcome.to_json()) for i, outcome in enumerate(outcomes)], b"place")
        yield store


def every_page(store: Counted, wanted: DecisionFilter, scan_max: int, limit: int = 50) -> list[int]:
    found: list[int] = []
    while True:
        page = decisions_page(
            store, wanted, limit_max=limit, scan_max=scan_max, late_within_seconds=LATE_SECONDS
        )
        found += [orjson.loads(json)["position"] for json in page.decisions]
        if page.following is None:
            return found
        wanted = wanted.model_copy(update={"before": page.following})


STEPS = st.lists(st.tuples(st.integers(0, 900), st.integers(-1, 700)), min_size=1, max_size=60)


@pytest.mark.law
@given(STEPS, st.integers(-1_000, 30_000), st.integers(0, 20_000), st.integers(5, 40))
def test_pages_hold_exactly_the_decisions_of_a_time(
    steps: list[tuple[int, int]], begin: int, length: int, scan_max: int
) -> None:
    times = {"time_from": begin, "time_before": begin + length}
    wanted = DecisionFilter(**{name: time_text(BEGIN_SECONDS + at) for name, at in times.items()})
    outcomes = log_of(steps)
    expected = [
        outcome.position
        for outcome in reversed(outcomes)
        if isinstance(outcome, Decision) and wanted.wants(outcome)
    ]
    with TemporaryDirectory() as directory, stored(outcomes, Path(directory)) as store:
        assert every_page(store, wanted, scan_max) == expected


def test_an_hour_of_a_long_log_costs_an_hour_and_not_the_log(tmp_path: Path) -> None:
    draws = random.Random(1)
    outcomes = log_of([(1, draws.randrange(-1, 600)) for _ in range(40_000)])
    seconds = BEGIN_SECONDS + 12_000
    hour = {"time_from": time_text(seconds), "time_before": time_text(seconds + 3_600)}
    with stored(outcomes, tmp_path) as store:
        found = every_page(store, DecisionFilter(**hour, limit=5_000), 10_000, limit=5_000)
        assert len(found) > 3_000
        assert store.looked_at < 3_600 + 2 * LATE_SECONDS + 1_500


@pytest.mark.parametrize("time", ["2019-02-31 00:00:00", "2019-08-22 25:00:00", "2019-8-22 00:00:00"])
def test_what_is_no_time_is_refused(time: str) -> None:
    with pytest.raises(ValueError, match="time_from"):
        DecisionFilter(time_from=time)
