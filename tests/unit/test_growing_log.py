"""A log that another process writes is read on as it grows, and opened once."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.test_journal_contract import RECORDS, batch, contents, outcomes

from zaslon.adapters.embedded.sqlite_journal import SqliteJournal
from zaslon.bootstrap import build_context
from zaslon.domain.errors import SystemRefusedError
from zaslon.ports import LogReader
from zaslon.services.context import Context
from zaslon.services.logs import GrowingLog
from zaslon.settings import load_settings


def grow(context: Context, *records: bytes) -> None:
    with closing(context.open_journal()) as journal:
        first = journal.next_position
        journal.record(batch(first, [*records]), outcomes(first, [*records]), None)


class Counted:
    """A context whose readers are counted."""

    def __init__(self, home: Path) -> None:
        made = build_context(load_settings(home=home))
        self.opened = 0
        self.context = replace(made, adapters=replace(made.adapters, open_journal_for_reading=self._open))
        self.catalogue = made.catalogue

    def _open(self, log: Path) -> LogReader:
        self.opened += 1
        return SqliteJournal(log / "journal.db", self.catalogue, read_only=True)


def test_a_log_is_opened_once_and_read_on(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    grow(counted.context, *RECORDS[:2])
    with closing(GrowingLog(counted.context)) as log:
        reader = log.reader()
        assert (reader.next_position, len(contents(reader.read(0)))) == (2, 2)
        grow(counted.context, *RECORDS[2:])
        assert reader.next_position == 2, "until it is asked for again"
        reader = log.reader()
        assert reader.next_position == len(RECORDS)
        assert contents(reader.read(0)) == contents([batch(0, RECORDS[:2]), batch(2, RECORDS[2:])])
    assert counted.opened == 1


def test_a_log_that_takes_its_place_is_opened(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    grow(counted.context, *RECORDS[:2])
    with closing(GrowingLog(counted.context)) as log:
        before = log.reader().identity
        (tmp_path / "log").rename(tmp_path / "log-1")
        grow(counted.context, RECORDS[0])
        reader = log.reader()
        assert (reader.next_position, counted.opened) == (1, 2)
        assert reader.identity != before
        shutil.rmtree(tmp_path / "log")
        with pytest.raises(SystemRefusedError, match="cannot be used"):
            log.reader()


def test_a_closed_log_is_opened_again(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    grow(counted.context, *RECORDS)
    log = GrowingLog(counted.context)
    log.close()
    assert log.reader().next_position == len(RECORDS)
    log.close()
    assert log.reader().next_position == len(RECORDS)
    log.close()
    assert counted.opened == 2
