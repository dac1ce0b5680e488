"""Decisions about one customer or terminal are found by an index that is derived from the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from tests.unit.test_pseudonymised_numbers import HASHED

from zaslon.adapters.embedded.entity_index import SqliteEntityIndex
from zaslon.domain.errors import BusyError, InputError
from zaslon.entrypoints.cli import main
from zaslon.intake.pseudonyms import pseudonym
from zaslon.ports import LogReader
from zaslon.services import entity_decisions
from zaslon.services.context import Context
from zaslon.services.entity_decisions import EntityDecisions, entity_key
from zaslon.services.poison import guarded_engine
from zaslon.testing import SmallWorld

RECORDS = 600
Positions = dict[tuple[str, int], list[int]]


@pytest.fixture(scope="module")
def decided(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """A world with the first records in its log; made once, not changed by a test but for the index."""
    world = small_world.in_home(tmp_path_factory.mktemp("decided") / "home")
    record(world, 0, RECORDS, world.context)
    return world


def record(world: SmallWorld, begin: int, end: int, context: Context) -> None:
    with closing(context.open_journal()) as journal:
        guard = guarded_engine(context, journal, context.open_snapshots(journal))
        for first in range(begin, end, 100):
            guard.decide(
                world.batch(first, first + 100), lambda batch, found: void(journal.record(batch, found, None))
            )


def void(_: object) -> None:
    """Nothing."""


@pytest.fixture
def log(decided: SmallWorld) -> Iterator[LogReader]:
    with closing(decided.context.open_journal_for_reading()) as journal:
        yield journal


def positions_in(log: LogReader) -> Positions:
    """Of every entity, by looking at every record of the log."""
    found = defaultdict[tuple[str, int], list[int]](list)
    for batch in log.read(0):
        for name, keys in batch.transactions.entity_keys.items():
            for index, key in zip(batch.transaction_index.tolist(), keys.tolist(), strict=True):
                found[name, key].append(batch.first_position + index)
    return {named: sorted(positions, reverse=True) for named, positions in found.items()}


@pytest.mark.parametrize("at_once", [7, 250, 10_000])
def test_the_index_has_what_the_whole_log_has(
    decided: SmallWorld, log: LogReader, tmp_path: Path, at_once: int
) -> None:
    expected = positions_in(log)
    with closing(SqliteEntityIndex(tmp_path / "index.db", decided.context.catalogue)) as index:
        left = [RECORDS]
        while left[-1]:
            left.append(index.catch_up(log, at_once))
        assert left == [max(0, RECORDS - at_once * n) for n in range(len(left))]
        assert index.catch_up(log, at_once) == 0
        found = {named: index.positions(*named, None, RECORDS) for named in expected}
        assert found == expected
        (name, key), positions = max(expected.items(), key=lambda item: len(item[1]))
        assert index.positions(name, key, positions[1], 2) == positions[2:4]
        assert index.positions(name, 2**62, None, 5) == []


def test_the_index_of_another_log_or_catalogue_is_begun_again(
    decided: SmallWorld, log: LogReader, small_world: SmallWorld, tmp_path: Path
) -> None:
    catalogue = decided.context.catalogue
    with closing(SqliteEntityIndex(tmp_path / "index.db", catalogue)) as index:
        index.catch_up(log, RECORDS)
    other = small_world.in_home(tmp_path / "home")
    record(other, 0, 100, other.context)
    with closing(other.context.open_journal_for_reading()) as shorter:
        expected = positions_in(shorter)
        for known in (catalogue, catalogue.model_copy(update={"version": 99})):
            with closing(SqliteEntityIndex(tmp_path / "index.db", known)) as index:
                assert index.catch_up(shorter, 60) == 40
                assert index.catch_up(shorter, 60) == 0
                assert {named: index.positions(*named, None, 100) for named in expected} == expected


@pytest.mark.parametrize("content", [b"no database" * 400, b"", b"SQLite format 3\x00" + b"\x01" * 4_000])
def test_a_file_that_is_not_an_index_is_replaced(
    decided: SmallWorld, log: LogReader, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "index.db").write_bytes(content)
    with closing(SqliteEntityIndex(tmp_path / "index.db", decided.context.catalogue)) as index:
        assert index.catch_up(log, RECORDS) == 0


def test_an_index_with_damaged_pages_is_made_again(
    decided: SmallWorld, log: LogReader, tmp_path: Path
) -> None:
    path, catalogue = tmp_path / "index.db", decided.context.catalogue
    with closing(SqliteEntityIndex(path, catalogue)) as index:
        index.catch_up(log, RECORDS)
    (name, key), expected = max(positions_in(log).items(), key=lambda item: len(item[1]))
    content = path.read_bytes()
    path.write_bytes(content[:4_096] + b"\x07" * (len(content) - 4_096))
    with closing(SqliteEntityIndex(path, catalogue)) as index:
        with pytest.raises(BusyError, match="was damaged and is made again"):
            index.catch_up(log, RECORDS)
        assert index.catch_up(log, RECORDS) == 0
        assert index.positions(name, key, None, RECORDS) == expected


def test_an_entity_comes_before_a_field_of_the_same_name(small_world: SmallWorld) -> None:
    context = small_world.context
    first, second = [field for field in context.catalogue.fields if field.entity is not None]
    crossed = {first.name: first.model_copy(update={"name": second.entity})}
    fields = tuple(crossed.get(field.name, field) for field in context.catalogue.fields)
    catalogue = context.catalogue.model_copy(update={"fields": fields})
    name, _ = entity_key(replace(context, catalogue=catalogue), str(second.entity), "5")
    assert name == second.entity


def test_a_value_that_is_not_utf_8_names_no_entity(small_world: SmallWorld) -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        entity_key(small_world.context, "terminal", "\udcff")


def test_two_readers_share_one_index(decided: SmallWorld, log: LogReader, tmp_path: Path) -> None:
    expected = positions_in(log)
    path, catalogue = tmp_path / "index.db", decided.context.catalogue
    with (
        closing(SqliteEntityIndex(path, catalogue)) as one,
        closing(SqliteEntityIndex(path, catalogue)) as other,
    ):
        assert [one.catch_up(log, 100), other.catch_up(log, 100), one.catch_up(log, 1_000)] == [500, 400, 0]
        assert {named: other.positions(*named, None, RECORDS) for named in expected} == expected


def test_a_long_log_is_read_on_by_the_next_look_up(
    decided: SmallWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(entity_decisions, "INDEXED_RECORDS", 100)
    adapters = replace(
        decided.context.adapters,
        open_entity_index=lambda _: SqliteEntityIndex(tmp_path / "index.db", decided.context.catalogue),
    )
    with closing(EntityDecisions(replace(decided.context, adapters=adapters))) as found:
        with pytest.raises(BusyError, match="still lacks 500 of 600 records"):
            found.catch_up(lambda: True)
        read: list[int] = []
        found.catch_up(lambda: False, read.append)
        assert read == [100] * 5


def test_the_key_of_a_value_is_what_admission_makes_of_it(small_world: SmallWorld) -> None:
    context = small_world.context
    for entity in ("customer", "customer_id"):
        for value in ("7", " 7 ", "7.0"):
            assert entity_key(context, entity, value) == ("customer", 7)
    hashed = replace(context, catalogue=HASHED, key=b"secret")
    assert entity_key(hashed, "terminal", "7") == ("terminal", pseudonym(b"7", b"secret"))


@pytest.mark.parametrize(
    ("entity", "value", "sentence"),
    [
        ("custmer", "7", "no entity 'custmer'. Did you mean 'customer'"),
        ("tx_amount", "7", "no entity 'tx_amount'"),
        ("customer", "seven", "No customer is called so. Field 'customer_id'"),
        ("customer", "", "No customer is called so"),
        ("customer", "1e999", "No customer is called so"),
    ],
)
def test_a_value_that_names_no_entity_is_refused_by_name(
    small_world: SmallWorld, entity: str, value: str, sentence: str
) -> None:
    with pytest.raises(InputError) as found:
        entity_key(small_world.context, entity, value)
    assert sentence in str(found.value)


@pytest.fixture
def zaslon(decided: SmallWorld, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def call(*arguments: object) -> tuple[int, str]:
        capfd.readouterr()
        code = main([*map(str, arguments), "--home", str(decided.context.home)])
        return code, capfd.readouterr().out

    return call


def test_the_command_pages_through_the_decisions_of_a_terminal(
    zaslon: Callable[..., tuple[int, str]], log: LogReader
) -> None:
    decisions = {
        position: json for position, json in log.outcomes() if orjson.loads(json)["outcome"] == "decision"
    }
    (name, key), positions = max(positions_in(log).items(), key=lambda item: len(item[1]))
    expected = [orjson.loads(decisions[position]) for position in positions if position in decisions]
    assert len(expected) >= 5
    found: list[object] = []
    more: list[object] = []
    while True:
        code, printed = zaslon("decisions", name, key, "--limit", 2, *more, "--json")
        assert code == 0
        page = orjson.loads(printed)
        found += page["decisions"]
        if page["next"] is None:
            break
        more = ["--before", page["next"]]
    assert found == expected
    code, printed = zaslon("decisions", name, key, "--limit", 2)
    assert code == 0 and "--before" in printed


def test_the_command_says_what_it_cannot_find(zaslon: Callable[..., tuple[int, str]]) -> None:
    assert orjson.loads(zaslon("decisions", "customer", 999_999_999, "--json")[1]) == {
        "decisions": [],
        "next": None,
    }
    code, printed = zaslon("decisions", "card", 7, "--json")
    assert code == InputError.exit_code
    assert "no entity 'card'" in orjson.loads(printed)["error"]["message"]
