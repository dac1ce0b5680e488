"""`zaslon backfill`: a new log begins with what the clean days leave."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import SmallRun, Zaslon

from zaslon.bootstrap import build_context
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.features.plan import plan_features
from zaslon.flows.backfill import decisive_days
from zaslon.services.home import engine_at
from zaslon.settings import load_settings


def _state_of_log(home: Path) -> dict[str, bytes]:
    """The state after the last record of a home's log, without the spare room of lists, which holds nothing."""
    context = build_context(load_settings(home=home), reading=True)
    with closing(context.open_journal_for_reading()) as journal:
        engine = engine_at(context, journal, context.open_snapshots(journal), journal.next_position)
        for batch in journal.read(engine.position, originals=False):
            engine.replay(batch)
    saved = engine.history.save()
    for name in [name for name in saved if name.endswith("/directory")]:
        pool = name.removesuffix("directory")
        is_spare = np.zeros(len(saved[f"{pool}time"]), np.bool_)
        for start, size, capacity in saved[name]:
            is_spare[start + size : start + capacity] = True
        for part in ("time", "total", "other"):
            if len(saved[pool + part]):
                saved[pool + part] = saved[pool + part][~is_spare]
    return {name: array.tobytes() for name, array in saved.items()}


@pytest.fixture
def new_home(small_run: SmallRun, tmp_path: Path) -> Path:
    """Clean days and a champion, without a log."""
    home = tmp_path / "home"
    shutil.copytree(small_run.home, home, ignore=shutil.ignore_patterns("log", "log-*"))
    return home


def test_a_backfill_is_the_state_of_a_replayed_log(
    zaslon: Zaslon, small_run: SmallRun, new_home: Path, tmp_path: Path
) -> None:
    """A run has decided the last days, record after record; what it remembers is the same."""
    decided = tmp_path / "decided"  # a copy: others copy the home of the run, and an open log is not whole
    shutil.copytree(small_run.home, decided)
    found = zaslon("backfill", "--home", new_home, "--json").json
    assert _state_of_log(new_home) == _state_of_log(decided)
    assert found["rows_applied"] == small_run.answer["rows_clean"] == found["remembered"]
    assert found["labels_to_come"] == small_run.answer["labels_to_come"] > 0
    assert zaslon("score", small_run.tomorrow, "--home", new_home, "--json").json["decisions"] > 0


def test_a_log_that_has_begun_keeps_its_past(zaslon: Zaslon, new_home: Path) -> None:
    assert zaslon("backfill", new_home / "clean", "--home", new_home).code == 0
    again = zaslon("backfill", "--home", new_home, "--json")
    assert again.code == 7
    assert "is there already" in again.json["error"]["message"]


def test_what_is_no_clean_output_is_refused(zaslon: Zaslon, new_home: Path, tmp_path: Path) -> None:
    assert zaslon("backfill", tmp_path, "--home", new_home, "--json").code == 3
    assert zaslon("backfill", "--home", tmp_path / "none", "--json").code == 7
    late = zaslon("backfill", "--home", new_home, "--label-delay", "45d", "--json")
    assert late.code == 7 and "later than what is remembered" in late.json["error"]["message"]
    assert not (new_home / "log").exists()


def test_days_before_the_horizon_are_not_read(new_home: Path) -> None:
    plan = plan_features(build_context(load_settings(home=new_home), reading=True).catalogue)
    days = [(day, Path(str(day))) for day in range(18_000, 18_400)]
    chosen = decisive_days(plan, days, 7 * SECONDS_PER_DAY)
    assert [day for day, _ in chosen] == list(range(18_399 - 104, 18_400))
    assert decisive_days(plan, [], 0) == []
