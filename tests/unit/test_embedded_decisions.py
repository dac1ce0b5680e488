"""The store of copied decisions: what is kept can be looked up, what is old makes room."""

from __future__ import annotations

from pathlib import Path

import pytest

from zaslon.adapters.embedded import id_columns
from zaslon.adapters.embedded.decision_store import SqliteDecisions
from zaslon.domain.errors import SystemRefusedError
from zaslon.domain.outcomes import LabelAccepted


class SameDigest:
    """A digest that takes all texts for one."""

    @staticmethod
    def blake2b(_: bytes, digest_size: int) -> SameDigest:
        assert digest_size == 8
        return SameDigest()

    def digest(self) -> bytes:
        return bytes(8)


def some(*positions: int) -> list[tuple[int, int, bytes]]:
    return [(position, position * 10, b"decision %d" % position) for position in positions]


def test_kept_decisions_are_found_after_a_restart(tmp_path: Path) -> None:
    store = SqliteDecisions(tmp_path / "d.db", 100)
    assert store.checkpoint == b""
    store.keep(some(0, 1, 3), b"place 1")
    store.keep(some(3, 4), b"place 2")  # the third again
    store.close()
    again = SqliteDecisions(tmp_path / "d.db", 100)
    assert again.checkpoint == b"place 2"
    assert again.find(30) == [(3, b"decision 3")]
    assert again.find(2**70) == again.find(5) == []
    assert [position for position, _ in again.page(None, 3)] == [4, 3, 1]
    assert [position for position, _ in again.page(3, 3)] == [1, 0]
    again.close()


def test_two_texts_with_one_digest_are_distinguished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_columns, "hashlib", SameDigest)
    store = SqliteDecisions(tmp_path / "d.db", 100)
    one, other = LabelAccepted(1, "a", True).to_json(), LabelAccepted(2, "b", True).to_json()
    store.keep([(1, "a", one), (2, "b", other)], b"")
    assert store.find("a") == [(1, one)]
    assert store.find("b") == [(2, other)]
    assert store.find("c") == []
    store.close()


def test_older_decisions_make_room_also_after_a_restart(tmp_path: Path) -> None:
    store = SqliteDecisions(tmp_path / "d.db", 3)
    store.keep(some(*range(10)), b"")
    assert [position for position, _ in store.page(None, 10)] == [9, 8, 7]
    store.close()
    again = SqliteDecisions(tmp_path / "d.db", 3)
    again.keep([], b"")
    assert [position for position, _ in again.page(None, 10)] == [9, 8, 7]
    again.clear()
    assert (again.page(None, 10), again.checkpoint) == ([], b"")
    again.keep(some(0), b"")
    assert again.find(0) == [(0, b"decision 0")]
    again.close()


def test_a_reader_in_another_thread_sees_what_is_kept(tmp_path: Path) -> None:
    store = SqliteDecisions(tmp_path / "d.db", 100)
    reader = SqliteDecisions(tmp_path / "d.db", 100, read_only=True)
    store.keep(some(7), b"")
    assert reader.find(70) == [(7, b"decision 7")]
    with pytest.raises(SystemRefusedError, match="readonly"):
        reader.keep(some(8), b"")
    reader.close()
    store.close()


@pytest.mark.parametrize("content", [b"no database" * 400, b""])
def test_a_file_that_is_not_a_store_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.db").write_bytes(content)
    store = SqliteDecisions(tmp_path / "d.db", 100)
    assert store.checkpoint == b""
    store.keep(some(1), b"place")
    assert store.find(10) == [(1, b"decision 1")]
    store.close()


def test_a_missing_decision_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemRefusedError, match=r"nothing\.db"):
        SqliteDecisions(tmp_path / "nothing.db", 100, read_only=True)
