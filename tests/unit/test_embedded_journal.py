"""What only the journal in SQLite shows: what stands beside its file."""

from __future__ import annotations

from pathlib import Path

from zaslon.adapters.embedded.journal import SqliteJournal
from zaslon.domain.events import Kind, RecordBatch
from zaslon.domain.outcomes import Rejection


def test_a_closed_journal_is_one_file_also_where_a_reader_was_left_in_the_middle(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    for position in range(2):
        batch = RecordBatch.of([b"x"], [Kind.TRANSACTION_LINE], [1_000], position)
        journal.record(batch, [Rejection(position, "wrong_field_count", "One field.", b"x")], None)
    rows = journal.read(0)
    next(rows)
    assert len(list(tmp_path.iterdir())) > 1, "an open journal has SQLite's files beside it"
    journal.close()
    assert [path.name for path in tmp_path.iterdir()] == ["journal.db"]
