"""`zaslon shadow` and `zaslon compare --live`: challengers beside the champion on the live log."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from tests.cli.conftest import SmallRun, Zaslon
from tests.cli.test_compare import champion_of
from tests.cli.test_compare import weak_model as weak_model  # noqa: PLC0414  a fixture
from tests.cli.test_nonsense import assert_helps

from zaslon.adapters.embedded.sqlite_shadow import SqliteShadowStore
from zaslon.bootstrap import build_context
from zaslon.domain.events import NO_KEY
from zaslon.domain.outcomes import Action
from zaslon.flows.shadow import shadow
from zaslon.ports.shadows import Contender, Match, Shadowed, ShadowLabel
from zaslon.services.logs import exclusive
from zaslon.settings import load_settings

ACTIONS = {action.code: int(action) for action in Action}


@pytest.fixture
def two(home: Path, weak_model: Path) -> Path:
    """A home with a second model; the run's serves."""
    shutil.copytree(weak_model, home / "models" / weak_model.name)
    return home


@pytest.fixture
def halves(small_run: SmallRun, tmp_path: Path) -> tuple[Path, Path]:
    """The two days after the run, as files of their own."""
    header, *lines = small_run.tomorrow.read_bytes().splitlines(keepends=True)
    days = sorted({line.split(b",")[1][:10] for line in lines})
    files = (tmp_path / "first.txt", tmp_path / "second.txt")
    for file, day in zip(files, (days[0], days[-1]), strict=True):
        file.write_bytes(header + b"".join(line for line in lines if line.split(b",")[1][:10] == day))
    return files


def kept(home: Path) -> dict[int, list[tuple[Any, ...]]]:
    """What the store of the home's log has, by match."""
    (path,) = (home / "shadow").glob("*.db")
    with closing(sqlite3.connect(path)) as connection:
        matches = [number for (number,) in connection.execute("SELECT number FROM matches ORDER BY number")]
        query = "SELECT * FROM transactions WHERE match = ? ORDER BY position"
        return {number: connection.execute(query, (number,)).fetchall() for number in matches}


def decisions(home: Path, from_position: int = 0) -> dict[int, dict[str, Any]]:
    """The recorded decisions by position."""
    context = build_context(load_settings(home=home), reading=True)
    with closing(context.open_journal_for_reading()) as journal:
        found = {position: orjson.loads(outcome) for position, outcome in journal.outcomes(from_position)}
    return {position: outcome for position, outcome in found.items() if outcome["outcome"] == "decision"}


def test_the_champion_in_the_shadow_decides_as_recorded(
    zaslon: Zaslon, two: Path, weak_model: Path, small_run: SmallRun
) -> None:
    begun = zaslon("shadow", weak_model.name, "champion", "--once", "--home", two, "--json")
    assert begun.code == 0, begun
    assert begun.json["transactions"] == 0, "a new shadow begins at the end of the log"
    before = begun.json["next_position"]
    assert zaslon("score", small_run.tomorrow, "--home", two, "--json").code == 0
    done = zaslon("shadow", weak_model.name, "champion", "--once", "--home", two, "--json").json
    recorded = decisions(two, before)
    assert done["transactions"] == len(recorded) > 100
    assert done["late"] == len(recorded), "these records are years old"
    of_weak, of_champion = kept(two).values()
    for rows in (of_weak, of_champion):
        assert [row[1] for row in rows] == list(recorded)
        for row in rows:
            outcome = recorded[row[1]]
            assert (row[2], row[5], row[7]) == (
                outcome["transaction_id"], outcome["score"], ACTIONS[outcome["action"]],
            )  # fmt: skip
    assert all(row[5:7] == (row[5], row[5]) and row[7] == row[8] for row in of_champion), "it is itself"
    assert any(row[5] != row[6] for row in of_weak)


def test_a_shadow_goes_on_where_it_stopped(
    zaslon: Zaslon, two: Path, weak_model: Path, halves: tuple[Path, Path], tmp_path: Path
) -> None:
    def follow(home: Path) -> None:
        assert zaslon("shadow", weak_model.name, "--once", "--home", home, "--json").code == 0

    follow(two)
    at_once = tmp_path / "at-once"
    shutil.copytree(two, at_once)
    for half in halves:
        zaslon("score", half, "--home", two)
        follow(two)
        zaslon("score", half, "--home", at_once)
    follow(at_once)
    assert kept(two) == kept(at_once)
    assert sum(map(len, kept(two).values())) > 100


def test_a_new_champion_begins_a_new_match(
    zaslon: Zaslon, two: Path, weak_model: Path, halves: tuple[Path, Path], small_run: SmallRun
) -> None:
    names = (weak_model.name, small_run.answer["model"])
    zaslon("shadow", *names, "--once", "--home", two)
    zaslon("score", halves[0], "--home", two)
    zaslon("promote", weak_model.name, "--unguarded", "--home", two)
    zaslon("score", halves[1], "--home", two)
    zaslon("shadow", *names, "--once", "--home", two)
    recorded = decisions(two)
    by_match = kept(two)
    assert len(by_match) == 4
    for rows in by_match.values():
        assert len({recorded[row[1]]["model"] for row in rows}) == 1, "no match mixes champions"
        assert all(row[7] == ACTIONS[recorded[row[1]]["action"]] for row in rows)
    now = zaslon("compare", "champion", small_run.answer["model"], "--live", "--home", two, "--json").json
    assert now["models"] == {"a": weak_model.name, "b": small_run.answer["model"]}
    assert now["transactions"] == len(by_match[4])


def test_another_policy_is_a_challenger_too(
    zaslon: Zaslon, home: Path, small_run: SmallRun, tmp_path: Path
) -> None:
    strict = tmp_path / "strict.toml"
    strict.write_text(RULE)
    zaslon("shadow", "champion", "--policy", strict, "--once", "--home", home)
    zaslon("score", small_run.tomorrow, "--home", home)
    zaslon("shadow", "champion", "--policy", strict, "--once", "--home", home)
    (rows,) = kept(home).values()
    large = [row for row in rows if row[4] > 50_00]
    assert large
    assert all(row[8] >= int(Action.REVIEW) for row in large)
    assert all(row[8] == row[7] for row in rows if row[4] <= 50_00)


RULE = """
[[rules]]
name = "large"
when = "amount > 50"
action = "review"
reason = "large"
"""


def test_the_live_comparison_is_what_the_log_says(
    zaslon: Zaslon, two: Path, weak_model: Path, small_run: SmallRun, tmp_path: Path
) -> None:
    def follow() -> None:
        zaslon("shadow", weak_model.name, "--once", "--home", two)

    follow()
    zaslon("score", small_run.tomorrow, "--home", two)
    follow()
    (rows,) = kept(two).values()
    recorded = decisions(two)
    stopped_most = sorted(rows, key=lambda row: -row[5])[:30]
    frauds, mistaken = stopped_most[:25], stopped_most[25:]
    label(zaslon, two, tmp_path / "a.csv", {row[2]: 1 for row in stopped_most})
    others = [row for row in rows if row[7] > 0 and row not in stopped_most]
    label(zaslon, two, tmp_path / "b.csv", {row[2]: 0 for row in [*mistaken, *others]})
    follow()
    found = zaslon("compare", "champion", weak_model.name, "--live", "--home", two, "--json").json
    good = [row for row in rows if row[2] not in {fraud[2] for fraud in frauds}]
    assert (found["frauds"], found["good"], found["transactions"]) == (25, len(good), len(rows))
    series = [shared for shared in by_first_entity(frauds) if shared]
    assert found["series"] == len(series)
    assert found["recall"]["a"] == pytest.approx(
        np.mean([np.mean([row[7] > 0 for row in s]) for s in series])
    )
    assert found["recall"]["b"] == pytest.approx(
        np.mean([np.mean([row[8] > 0 for row in s]) for s in series])
    )
    low, high = found["recall"]["interval"]
    assert low <= found["recall"]["difference"] <= high
    assert found["false_positive_rate"]["a"] == pytest.approx(np.mean([row[7] > 0 for row in good]))
    assert found["false_positive_rate"]["b"] == pytest.approx(np.mean([row[8] > 0 for row in good]))
    assert found["roc_auc"]["a"] == pytest.approx(auc([r[5] for r in frauds], [r[5] for r in good]))
    assert found["roc_auc"]["b"] == pytest.approx(auc([r[6] for r in frauds], [r[6] for r in good]))
    assert (found["verdict"], found["days_needed"] > 2) == ("not_enough_evidence", True)
    assert [warning["kind"] for warning in found["warnings"]] == ["late_decisions"]
    assert recorded[rows[0][1]]["model"] == found["models"]["a"]
    told = zaslon("compare", "champion", weak_model.name, "--live", "--home", two)
    assert told.code == 0
    for words in ("known frauds", "fewer than 1,000", "Not enough evidence"):
        assert words in " ".join(told.out.split())


def by_first_entity(frauds: list[tuple[Any, ...]]) -> list[list[tuple[Any, ...]]]:
    """Frauds of two days by series, found one by one: of those that share an entity, the first one's."""
    series: list[list[tuple[Any, ...]]] = []
    for row in sorted(frauds, key=lambda row: (row[3], row[1])):
        shared = [s for s in series if any(alike(row[9], other[9]) for other in s)]
        if not shared:
            series.append([row])
        elif len(shared) == 1:
            shared[0].append(row)
    return series


def alike(a: bytes, b: bytes) -> bool:
    """Whether two transactions share the customer or the terminal."""
    return a[:8] == b[:8] or a[8:] == b[8:]


def label(zaslon: Zaslon, home: Path, file: Path, verdicts: dict[int, int]) -> None:
    file.write_text("transaction_id,is_fraud\n" + "".join(f"{i},{v}\n" for i, v in verdicts.items()))
    answer = zaslon("label", file, "--home", home, "--json")
    assert (answer.code, answer.json["labels"]) == (0, len(verdicts)), answer


def auc(frauds: list[float], good: list[float]) -> float:
    """The share of pairs in which the fraud has the higher score, ties counting half."""
    a, b = np.array(frauds)[:, None], np.array(good)[None, :]
    return float(np.mean((a > b) + 0.5 * (a == b)))


def test_a_shadow_is_late_only_after_the_declared_time(
    two: Path, weak_model: Path, small_run: SmallRun, zaslon: Zaslon
) -> None:
    context = build_context(load_settings(home=two))
    zaslon("shadow", weak_model.name, "--once", "--home", two)
    zaslon("score", small_run.tomorrow, "--home", two)
    with closing(context.open_journal_for_reading()) as journal:
        arrived = max(int(batch.arrival_time_seconds.max()) for batch in journal.read(0, originals=False))

    class Fixed:
        def now_seconds(self) -> float:
            return float(arrived + 30)

        def monotonic_seconds(self) -> float:
            return 0.0

    def late(within: float) -> int:
        shutil.rmtree(two / "shadow", ignore_errors=True)
        shutil.copytree(saved, two / "shadow")
        there = replace(context, adapters=replace(context.adapters, clock=Fixed()))
        return shadow(
            there, [weak_model.name], None, within_seconds=within, keep_days=400, is_over=lambda _: True
        ).late  # fmt: skip

    saved = two / "saved"
    shutil.copytree(two / "shadow", saved)
    total = late(0.0)
    assert 0 < late(30.0) < total
    assert late(1e9) == 0


def test_a_shadow_runs_beside_a_service_and_once(zaslon: Zaslon, two: Path, weak_model: Path) -> None:
    context = build_context(load_settings(home=two))
    with exclusive(context):
        assert zaslon("shadow", weak_model.name, "--once", "--home", two, "--json").code == 0
    with context.adapters.exclusive_in(two / "shadow"):
        assert_helps(
            zaslon("shadow", weak_model.name, "--once", "--home", two, "--json"), 9, "in use by process"
        )


def test_what_is_not_there_is_answered(zaslon: Zaslon, two: Path, weak_model: Path, tmp_path: Path) -> None:
    def json_of(*arguments: object) -> Callable[..., None]:
        answer = zaslon(*arguments, "--home", two, "--json")
        return lambda code, *words: assert_helps(answer, code, *words)

    json_of("compare", "champion", weak_model.name, "--live")(
        7, "Nothing has decided beside", "zaslon shadow"
    )
    json_of("shadow", "0123", "--once")(6, "no model '0123'")
    json_of("shadow", weak_model.name, "--once", "--log", "elsewhere")(2, "not the name of a log")
    json_of("shadow", weak_model.name, "--once", "--log", "log-7")(7, "There is no log")
    missing = tmp_path / "none.toml"
    json_of("shadow", weak_model.name, "--policy", missing, "--once")(5, "none.toml")
    assert zaslon("shadow", weak_model.name, "--once", "--home", two, "--json").code == 0
    json_of("compare", weak_model.name, "champion", "--live")(7, "has decided nothing beside")
    (two / "champion.json").rename(tmp_path / "champion.json")
    json_of("compare", "champion", weak_model.name, "--live")(6, "No model serves", "zaslon promote ID")
    (tmp_path / "champion.json").rename(two / "champion.json")
    (path,) = (two / "shadow").glob("*.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    json_of("shadow", weak_model.name, "--once")(6, "format 99", "Delete it")


def test_old_transactions_are_forgotten(
    zaslon: Zaslon, two: Path, weak_model: Path, small_run: SmallRun
) -> None:
    zaslon("shadow", weak_model.name, "--once", "--home", two)
    zaslon("score", small_run.tomorrow, "--home", two)
    zaslon("shadow", weak_model.name, "--once", "--keep-days", 1, "--home", two)
    (rows,) = kept(two).values()
    days = [row[3] // 86_400 for row in rows]
    assert min(days) == max(days)
    count = zaslon("compare", "champion", weak_model.name, "--live", "--home", two, "--json").json[
        "transactions"
    ]
    assert len(rows) < count, "counted, and forgotten"


def test_known_frauds_are_never_forgotten(
    zaslon: Zaslon, two: Path, weak_model: Path, small_run: SmallRun, tmp_path: Path
) -> None:
    def follow(*more: object) -> list[tuple[Any, ...]]:
        zaslon("shadow", weak_model.name, "--once", *more, "--home", two)
        return next(iter(kept(two).values()), [])

    follow()
    zaslon("score", small_run.tomorrow, "--home", two)
    first_day = follow()[:20]
    label(zaslon, two, tmp_path / "a.csv", {row[2]: 1 for row in first_day})
    follow()
    zaslon("score", small_run.tomorrow, "--home", two)  # nothing new, but a transaction of the day after
    left = {row[2] for row in follow("--keep-days", 1)}
    assert {row[2] for row in first_day} <= left


class Store:
    """A shadow store with one match, filled by hand."""

    def __init__(self, place: Path) -> None:
        self.store = SqliteShadowStore(place / "shadow.db")
        self.number = self.store.begin(Contender("a", "p"), Contender("b", "p"), 0)

    def add(self, position: int, transaction_id: int) -> None:
        ints = [np.array([v], np.int64) for v in (position, transaction_id, 1_000 + position, 100)]
        score, action = np.array([0.5]), np.array([1], np.uint8)
        keys = np.array([[position, NO_KEY]])
        row = Shadowed(ints[0], ints[1], ints[2], ints[3], score, score, action, action, keys)
        self.store.keep([(self.number, row, 0)], [], position + 1)

    def label(self, *given: tuple[int, int, bool], waits: bool = False) -> None:
        self.store.keep([], [ShadowLabel(*label, waits) for label in given], given[-1][0] + 1)

    @property
    def match(self) -> Match:
        found = self.store.match("a", "b")
        assert found is not None
        return found

    @property
    def frauds(self) -> list[int]:
        """Positions."""
        found: list[int] = self.store.frauds(self.match).position.tolist()
        return found


def test_a_label_concerns_the_newest_transaction_before_it(tmp_path: Path) -> None:
    made = Store(tmp_path)
    made.add(0, 7)
    made.add(1, 8)
    made.label((2, 8, True), (3, 7, True), (4, 8, True))  # a label may be repeated
    made.add(5, 7)  # the id is used again
    assert made.frauds == [0, 1]
    assert made.store.frauds(made.match).entity_keys.tolist() == [[0, NO_KEY], [1, NO_KEY]]
    assert made.store.stopped(made.match, 10_000) == (1, 1, 1)
    assert made.store.judged_stops(made.match, 10_000) == (3, 2)
    made.label((6, 8, False))
    assert made.frauds == [0], "the newest verdict counts"
    made.label((7, 7, False))
    assert made.frauds == [0], "it concerns the later use of the id"


def test_a_waiting_label_concerns_the_next_transaction(tmp_path: Path) -> None:
    made = Store(tmp_path)
    made.label((-1, 9, True), (0, 7, True), (1, 8, False), (2, 8, True), waits=True)
    made.add(3, 7)
    made.add(4, 8)
    made.add(5, 9)
    made.add(6, 10)
    made.label((7, 10, True))
    assert made.frauds == [3, 4, 5, 6], "known as soon as label and transaction are there"
    assert made.store.judged_stops(made.match, 10_000) == (4, 4)
    made.add(8, 7)  # the id is used again: that label waits no longer
    assert made.frauds == [3, 4, 5, 6]


def test_a_late_label_concerns_what_the_engine_has_forgotten(tmp_path: Path) -> None:
    made = Store(tmp_path)
    made.add(0, 7)
    made.label((1, 7, True), waits=True)
    assert made.frauds == [0]
    made.add(2, 7)
    assert made.frauds == [2], "as in the engine"


def test_labels_count_whether_they_come_first_or_second(
    zaslon: Zaslon, two: Path, weak_model: Path, small_run: SmallRun, tmp_path: Path
) -> None:
    def follow() -> None:
        assert zaslon("shadow", weak_model.name, "--once", "--home", two).code == 0

    def say(*verdicts: tuple[int, int]) -> None:
        for verdict in verdicts:
            label(zaslon, two, tmp_path / "labels.csv", dict([verdict]))

    _, *lines = small_run.tomorrow.read_bytes().splitlines()
    a, b, c, d, e, f, g = (int(line.split(b",")[0]) for line in lines[:7])
    say((a, 1))  # before the shadow itself began
    follow()
    say((b, 1), (b, 1), (c, 0), (c, 1), (d, 1), (e, 1), (e, 0))
    follow()
    zaslon("score", small_run.tomorrow, "--home", two)
    say((d, 0), (f, 1), (f, 1), (g, 0), (g, 1))
    follow()
    assert frauds_of(two, weak_model.name) == {a, b, c, f, g}


def frauds_of(home: Path, challenger: str) -> set[int]:
    """The known frauds beside the champion, in the shadow of the home's log."""
    (path,) = (home / "shadow").glob("*.db")
    with closing(SqliteShadowStore(path, read_only=True)) as store:
        match = store.match(champion_of(home), challenger)
        assert match is not None
        return set(store.frauds(match).transaction_id.tolist())
