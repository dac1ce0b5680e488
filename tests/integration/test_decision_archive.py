"""Decisions copied to a real PostgreSQL: each once, by day, whatever happens in between."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from deploy.kafka.broker import LocalBroker
from tests.integration.kafka_world import Cluster
from tests.postgres_server import LocalPostgres

from zaslon.adapters.relational import decision_archive
from zaslon.bootstrap import build_context
from zaslon.domain.errors import BusyError, ServerError
from zaslon.domain.events import Kind
from zaslon.entrypoints.cli import main
from zaslon.features.plan import plan_features
from zaslon.flows.archive import archive
from zaslon.ports import LogReader
from zaslon.ports.archives import ArchivedDecision
from zaslon.services.context import Context
from zaslon.services.home import keep_champion, load_champion
from zaslon.settings import load_settings
from zaslon.simulate import simulation_profile, write_simulation
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration

START = "2018-04-01"
Command = Callable[..., dict[str, Any]]


def payments(place: Path, start: str, days: int) -> str:
    """A file of some hundred transactions."""
    write_simulation(simulation_profile("handbook", customers=80, terminals=800, start=start), days, 1, place)
    if start != START:  # ids of their own
        header, *lines = place.read_text().splitlines(keepends=True)
        place.write_text(header + "".join(f"9{line}" for line in lines))
    return str(place)


@pytest.fixture
def home(small_world: SmallWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """A home whose log has decisions of four days."""
    home = small_world.in_home(tmp_path / "home").context.home
    assert main(["score", payments(tmp_path / "first.csv", START, 4), "--home", str(home), "--json"]) == 0
    return home


@pytest.fixture
def address(postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new database, named in the settings."""
    found = postgres.new_database()
    monkeypatch.setenv("ZASLON_STORE_URL", found)
    return found


@pytest.fixture
def zaslon(home: Path, address: str, capfd: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str, code: int = 0) -> dict[str, Any]:
        capfd.readouterr()
        assert main([*arguments, "--home", str(home), "--json"]) == code
        found: dict[str, Any] = orjson.loads(capfd.readouterr().out)
        return found

    assert call("store", "migrate")["schema"]
    return call


@pytest.fixture
def database(address: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection


def recorded(home: Path) -> dict[int, dict[str, Any]]:
    context = build_context(load_settings(home=home), reading=True)
    with closing(context.open_journal_for_reading()) as journal:
        found = {position: orjson.loads(outcome) for position, outcome in journal.outcomes()}
    return {position: outcome for position, outcome in found.items() if outcome["outcome"] == "decision"}


def rows(database: psycopg.Connection[Any]) -> dict[int, dict[str, Any]]:
    return dict(
        database.execute("SELECT position, outcome FROM archive.decisions ORDER BY position").fetchall()
    )


def test_every_decision_is_copied_once(
    zaslon: Command, home: Path, database: psycopg.Connection[Any], tmp_path: Path
) -> None:
    first = zaslon("store", "archive", "--once")
    expected = recorded(home)
    assert first["decisions"] == len(expected) > 100
    assert rows(database) == expected
    assert zaslon("store", "archive", "--once")["decisions"] == 0
    zaslon("score", payments(tmp_path / "next.csv", "2018-04-05", 2))
    assert zaslon("store", "archive", "--once")["decisions"] == len(recorded(home)) - len(expected)
    assert rows(database) == recorded(home)
    columns = "day::text, transaction_id, event_time::text, action, score, model"
    (position, outcome), *_ = recorded(home).items()
    found = database.execute(
        f"SELECT {columns} FROM archive.decisions WHERE position = %s", (position,)
    ).fetchone()
    assert found == (
        outcome["event_time"][:10], str(outcome["transaction_id"]), outcome["event_time"], outcome["action"],
        outcome["score"], outcome["model"],
    )  # fmt: skip
    days = {outcome["event_time"][:10] for outcome in recorded(home).values()}
    partitions = database.execute("SELECT count(*) FROM pg_inherits").fetchone()
    assert partitions is not None
    assert partitions[0] >= len(days)


def test_a_streams_decisions_are_copied_while_it_decides(
    zaslon: Command, home: Path, database: psycopg.Connection[Any], broker: LocalBroker,
    small_world: SmallWorld, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Labels, rejections and a change among them are not decisions; the home's own log is another one."""
    cluster = Cluster.new(broker)
    for name, value in cluster.environment("viewer").items():
        monkeypatch.setenv(name, value)
    lines, labels = (
        [r for r, k in zip(small_world.records, small_world.kinds, strict=True) if k == kind]
        for kind in (Kind.TRANSACTION_LINE, Kind.LABEL_JSON)
    )
    context = build_context(load_settings(home=home))
    model, policy = load_champion(context, plan_features(context.catalogue))
    with cluster.scorer(home) as scorer:
        cluster.send("labels", labels[:100])
        cluster.send("input", [*lines[:400], b"nonsense"])
        cluster.wait_for(501, scorer)
        first = zaslon("store", "archive", "--once", "--log", "stream")
        keep_champion(context, model, policy.with_thresholds(0.001, 0.5))
        assert scorer.prints("decide from position")
        cluster.send("input", lines[400:600])
        cluster.wait_for(701, scorer)
        second = zaslon("store", "archive", "--once", "--log", "stream")
        assert zaslon("store", "archive", "--once", "--log", "stream")["decisions"] == 0
    outcomes = list(map(orjson.loads, cluster.published()))
    assert {outcome["outcome"] for outcome in outcomes} == {"decision", "label", "rejection", "change"}
    decided = {outcome["position"]: outcome for outcome in outcomes if outcome["outcome"] == "decision"}
    assert rows(database) == decided
    assert first["decisions"] + second["decisions"] == len(decided) > first["decisions"] > 300
    assert second["next_position"] == len(outcomes) == 702


def test_a_stream_is_opened_once_and_read_on(
    zaslon: Command, home: Path, database: psycopg.Connection[Any], broker: LocalBroker,
    small_world: SmallWorld, address: str,
) -> None:  # fmt: skip
    cluster = Cluster.new(broker)
    kinds = zip(small_world.records, small_world.kinds, strict=True)
    lines = [record for record, kind in kinds if kind == Kind.TRANSACTION_LINE]
    viewer = cluster.context("viewer", home, store_url=address).with_log("stream")
    opened: list[Path] = []

    def open_log(log: Path) -> LogReader:
        opened.append(log)
        return viewer.adapters.open_journal_for_reading(log)

    context = replace(viewer, adapters=replace(viewer.adapters, open_journal_for_reading=open_log))
    sent = [0]

    def is_over(_: float) -> bool:
        if sent[0] == 120:
            return True
        cluster.send("input", lines[sent[0] : sent[0] + 40])
        sent[0] += 40
        cluster.wait_for(sent[0], scorer)
        return False

    with cluster.scorer(home) as scorer:
        report = archive(context, keep_days=None, is_over=is_over, notify=print, waits=True)
    decided = [
        outcome for outcome in map(orjson.loads, cluster.published()) if outcome["outcome"] == "decision"
    ]
    assert rows(database) == {outcome["position"]: outcome for outcome in decided}
    assert (report.decisions, report.next_position, len(opened)) == (len(decided), 120, 1)


def test_a_copy_that_is_cut_off_leaves_nothing_half(
    zaslon: Command, home: Path, database: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zaslon.flows.archive._OUTCOMES", 50)
    database.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.position >= 120 THEN "
        "RAISE EXCEPTION 'cut off'; END IF; RETURN NEW; END $$"
    )
    database.execute(
        "CREATE TRIGGER fail BEFORE INSERT ON archive.decisions FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    assert "cut off" in zaslon("store", "archive", "--once", code=ServerError.exit_code)["error"]["message"]
    kept = rows(database)
    place = database.execute("SELECT next_position FROM archive.places").fetchone()
    assert place is not None
    assert 0 < place[0] <= 120
    assert set(kept) == {position for position in recorded(home) if position < place[0]}
    database.execute("DROP TRIGGER fail ON archive.decisions")
    zaslon("store", "archive", "--once")
    assert rows(database) == recorded(home)


def test_archived_decisions_are_found_by_customer(
    zaslon: Command, home: Path, database: psycopg.Connection[Any]
) -> None:
    zaslon("store", "archive", "--once")
    context = build_context(load_settings(home=home), reading=True)
    with closing(context.open_journal_for_reading()) as journal:
        keys = {
            batch.first_position + index: key
            for batch in journal.read(0)
            for index, key in zip(
                batch.transaction_index.tolist(),
                batch.transactions.entity_keys["customer"].tolist(),
                strict=True,
            )
        }
    ((customer, count),) = Counter(keys.values()).most_common(1)
    mine = [outcome for position, outcome in recorded(home).items() if keys[position] == customer]
    assert len(mine) == count > 3
    first = zaslon("decisions", "customer", str(customer), "--archive", "--limit", "3")
    rest = zaslon(
        "decisions", "customer", str(customer), "--archive", "--before", str(first["next"]), "--limit", "99"
    )
    assert first["decisions"] + rest["decisions"] == mine[::-1]
    assert rest["next"] is None
    assert zaslon("decisions", "customer", str(customer), "--limit", "99")["decisions"] == mine[::-1]


def test_an_archived_entity_is_looked_up_by_an_index(
    zaslon: Command, home: Path, database: psycopg.Connection[Any]
) -> None:
    zaslon("store", "archive", "--once")
    database.execute("ANALYZE archive.entities, archive.decisions")
    database.execute("SET enable_seqscan = off")  # a table of a few pages is read whole
    values = {"entity": "customer", "key": 1, "log": "log", "before": 2**63 - 1, "count": 3}
    statement = re.sub(r":(\w+)\b(?<!::text)", r"%(\1)s", decision_archive._OF_ENTITY.replace("::text", ""))
    plan = "\n".join(line for (line,) in database.execute(f"EXPLAIN {statement}", values).fetchall())
    assert "Seq Scan" not in plan, plan
    assert re.search(r"Index Only Scan Backward using entities_\d+_pkey", plan), plan
    assert re.search(
        r"Index Cond: \(\(entity = .*\) AND \(key = .*\) AND \(log = .*\) AND \(\"?position\"? < ", plan
    ), plan
    assert re.search(r"Index Scan using decisions_\d+_pkey", plan), plan


def test_old_days_are_dropped(zaslon: Command, home: Path, database: psycopg.Connection[Any]) -> None:
    done = zaslon("store", "archive", "--once", "--keep-days", "2")
    days = sorted({outcome["event_time"][:10] for outcome in recorded(home).values()})
    left = {day for (day,) in database.execute("SELECT DISTINCT day::text FROM archive.decisions").fetchall()}
    assert left == set(days[-2:])
    assert done["days_dropped"] == len(days) - 2
    whose = database.execute("SELECT DISTINCT day::text FROM archive.entities").fetchall()
    assert {day for (day,) in whose} == left


def test_one_logs_retention_leaves_the_others_alone(
    zaslon: Command, home: Path, database: psycopg.Connection[Any]
) -> None:
    zaslon("store", "archive", "--once")
    context = build_context(load_settings(home=home), reading=True)
    old = ArchivedDecision(1, 0, "1", "1970-01-02 00:00:00", "allow", 0.5, "m", "p", b"{}", (("card", 7),))
    with closing(context.open_archive()) as first, closing(context.open_archive()) as second:
        first.keep("other", [old], 0, 1)
        second.keep("mine", [old._replace(position=5)], 0, 6)
        assert second.forget_before("mine", 10) == 1
        assert first.decisions_of("other", "card", 7, None, 9) == [(0, b"{}")]
        assert second.decisions_of("mine", "card", 7, None, 9) == []
        assert database.execute("SELECT log FROM archive.decisions WHERE day < '1970-02-01'").fetchall() == [
            ("other",)
        ]
        assert first.forget_before("other", 10) == 1
        second.keep("mine", [old._replace(position=7)], 6, 8)
        assert first.forget_before("mine", 10) == 1  # so does another process, and the day is gone
        with pytest.raises(ServerError, match="no partition"):
            second.keep("mine", [old._replace(position=9)], 8, 10)
        second.keep("mine", [old._replace(position=9)], 8, 10)
    found = database.execute("SELECT position FROM archive.decisions WHERE log = 'mine'").fetchall()
    assert found == [(9,)]


def test_a_second_process_does_not_copy_again(
    zaslon: Command, home: Path, database: psycopg.Connection[Any]
) -> None:
    context = build_context(load_settings(home=home), reading=True)
    with closing(context.open_journal_for_reading()) as journal:
        identity = journal.identity
    with closing(context.open_archive()) as first, closing(context.open_archive()) as second:
        assert first.next_position(identity) == second.next_position(identity) == 0
        first.keep(identity, [], 0, 10)
        with pytest.raises(BusyError, match="Another process archives"):
            second.keep(identity, [], 0, 10)
        assert second.next_position(identity) == 10


def test_a_server_that_is_away_is_waited_for(
    zaslon: Command, home: Path, postgres: LocalPostgres, database: psycopg.Connection[Any]
) -> None:
    database.close()
    said: list[str] = []

    def is_over(_: float) -> bool:
        if not said:
            postgres.kill()
            return False
        if len(said) == 1:
            postgres.go_on()
            return False
        return True

    def note(sentence: str) -> None:
        said.append(sentence)

    context: Context = build_context(load_settings(home=home, store_timeout_seconds=2), reading=True)
    report = archive(context, keep_days=None, is_over=is_over, notify=note, waits=True)
    assert "cannot be used" in said[0]
    assert said[1] == "The archive's server answers again."
    assert report.decisions == len(recorded(home))


def test_without_a_server_the_setting_is_named(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "archive", "--once", "--home", str(home), "--json"]) == ServerError.exit_code
    assert "ZASLON_STORE_URL" in capfd.readouterr().out
