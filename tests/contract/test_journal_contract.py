"""What every journal keeps to, whatever is behind it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.contract.conftest import OpenJournal
from tests.log_batches import content_of

from zaslon.admission import change_entry
from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.events import Change, EntryKind, Labels, LogBatch, Originals, Rejected, Transactions
from zaslon.domain.outcomes import (
    Action,
    ChangeMade,
    Decision,
    LabelAccepted,
    Outcome,
    ReasonGiven,
    Rejection,
    Serving,
    Versions,
)
from zaslon.domain.rejections import Reason, RecordProblem
from zaslon.ports import repeated_decision

PROBLEM = RecordProblem(Reason.NOT_A_NUMBER, "tx_amount", "is 'secret'", "a number")
VERSIONS = Versions("model-1", "policy-1", "catalogue-1", 1)


def batch(first: int, records: list[bytes]) -> LogBatch:
    """Records whose content is unique, so that it identifies them."""
    kinds = np.array([_kind(record) for record in records], np.uint8)
    arrivals = np.arange(len(records), dtype=np.int64) + 1_000 + first
    ends = np.cumsum([len(record) for record in records], dtype=np.int64)
    lengths = np.array([len(record) for record in records], np.int64)
    return LogBatch(
        first, kinds, np.zeros(len(records), np.uint8), arrivals,
        _transactions(arrivals[kinds == EntryKind.TRANSACTION]), _labels(arrivals[kinds == EntryKind.LABEL]),
        Rejected(np.flatnonzero(kinds == EntryKind.REJECTED), [(PROBLEM,)] * kinds.tolist().count(2)),
        Originals(np.frombuffer(b"".join(records), np.uint8), ends - lengths, lengths),
    )  # fmt: skip


def _kind(record: bytes) -> EntryKind:
    if record.startswith(b"{"):
        return EntryKind.LABEL
    return EntryKind.REJECTED if len(record) % 3 == 0 else EntryKind.TRANSACTION


def _transactions(ids: NDArray[np.int64]) -> Transactions:
    none, flags = np.full(len(ids), -1, np.int8), np.full(len(ids), 7, np.uint32)
    keys = dict.fromkeys(load_catalogue().entities, ids)
    return Transactions(ids, ids, ids, keys, {}, flags, np.ones((len(ids), 2), np.uint64), none, none)


def _labels(ids: NDArray[np.int64]) -> Labels:
    return Labels(ids, np.full(len(ids), True), ids)


def outcome(position: int, record: bytes) -> Outcome:
    if record.startswith(b"{"):
        return LabelAccepted(position, len(record), is_fraud=True)
    if len(record) % 3 == 0:
        return Rejection(position, (PROBLEM,), record)
    reasons = (ReasonGiven("rule:a", "because", 0.0),)
    return Decision(position, len(record), 5, Action.REVIEW, 0.25, reasons, ("a",), (), VERSIONS)


def outcomes(first: int, records: list[bytes]) -> list[Outcome]:
    return [outcome(first + i, record) for i, record in enumerate(records)]


def contents(read: Iterable[LogBatch]) -> list[dict[str, object]]:
    """Everything that the log holds, record by record."""
    return [content_of(b.part(i, i + 1)) for b in read for i in range(len(b))]


RECORDS = [b"1,2,3", b"", b"{}", b"\xff\x00raw", b"4,5,6,7", b'{"a":1}']


def test_a_new_journal_is_empty_and_keeps_its_identity(open_journal: OpenJournal) -> None:
    journal = open_journal()
    assert journal.next_position == 0
    assert list(journal.read(0)) == []
    assert journal.outcome(0) is None
    assert journal.cursor("file") == 0
    assert journal.serving(0) is None
    identity = journal.identity
    journal.close()
    assert open_journal().identity == identity != ""


def test_records_are_read_back_byte_for_byte(
    open_journal: OpenJournal,
) -> None:
    journal = open_journal()
    journal.record(batch(0, RECORDS[:4]), outcomes(0, RECORDS[:4]), ("file", 4))
    journal.record(batch(4, RECORDS[4:]), outcomes(4, RECORDS[4:]), ("file", 6))
    journal.close()
    again = open_journal()
    assert again.next_position == 6
    assert contents(again.read(0)) == contents([batch(0, RECORDS)])
    assert contents(again.read(1, 5)) == contents([batch(0, RECORDS)])[1:5]
    assert [o for _, o in again.outcomes()] == [o.to_json() for o in outcomes(0, RECORDS)]
    assert [p for p, _ in again.outcomes(3)] == [3, 4, 5]
    assert again.outcome(4) == outcome(4, RECORDS[4]).to_json()
    assert again.cursor("file") == 6


def test_readers_end_when_the_journal_is_closed(open_journal: OpenJournal) -> None:
    journal = open_journal()
    for position in range(4):
        journal.record(
            batch(position, RECORDS[position:][:1]), outcomes(position, RECORDS[position:][:1]), None
        )
    records, results = journal.read(0), journal.outcomes()
    assert len(next(records)) == len(next(results)[1:]) == 1
    journal.close()
    assert (next(records, None), next(results, None)) == (None, None)


def test_pages_are_read_from_the_newest_on(open_journal: OpenJournal) -> None:
    journal = open_journal()
    recorded = journal.record(batch(0, RECORDS), outcomes(0, RECORDS), None)
    assert [outcome for _, outcome in journal.page(None, 6)] == recorded[::-1]
    assert [p for p, _ in journal.page(None, 4)] == [5, 4, 3, 2]
    assert [p for p, _ in journal.page(2, 4)] == [1, 0]
    assert journal.page(0, 4) == []


def test_all_outcomes_of_a_transaction_are_found_oldest_first(open_journal: OpenJournal) -> None:
    journal = open_journal()
    records = [b"1,2,3", b"12345", b"{   }", b"1,2,3,4"]
    journal.record(batch(0, records), outcomes(0, records), None)
    assert [p for p, _ in journal.find(5)] == [0, 1, 2]
    assert journal.find(6) == []
    assert journal.find(2**63) == journal.find(-(2**70)) == []


def test_outcomes_of_text_ids_are_found_by_exactly_that_text(
    open_journal: OpenJournal,
) -> None:
    journal = open_journal()
    names = ["5", "0d9f7a3e-52c1-4e0b-9a55-6f0e4f1f7c11", 'платёж "7", ещё/раз', "5"]
    named: list[Outcome] = [
        Decision(i, name, 5, Action.ALLOW, 0.25, (), (), (), VERSIONS) for i, name in enumerate(names[:3])
    ]
    named.append(LabelAccepted(3, names[3], is_fraud=True))
    journal.record(batch(0, RECORDS[:4]), named, None)
    journal.close()
    again = open_journal()
    assert [[p for p, _ in again.find(name)] for name in names[:3]] == [[0, 3], [1], [2]]
    assert [o for _, o in again.find("5")] == [named[0].to_json(), named[3].to_json()]
    assert again.newest_decision("5") == (0, named[0].to_json())
    assert again.newest_decision("5", 0) is None
    assert again.find(5) == again.find("6") == again.find("") == []


def test_the_newest_decision_before_a_position_is_found(open_journal: OpenJournal) -> None:
    journal = open_journal()
    assert journal.newest_decision(5) is None
    records = [b"12345", b"{   }", b"1,2,3", b"1,2,3,4", b"54321"]
    recorded = journal.record(batch(0, records), outcomes(0, records), None)
    assert journal.newest_decision(5) == (4, recorded[4])
    assert [journal.newest_decision(5, before) for before in range(6)] == [
        None, (0, recorded[0]), (0, recorded[0]), (2, recorded[2]), (2, recorded[2]), (4, recorded[4]),
    ]  # fmt: skip
    for unknown in (6, -1, 2**63, -(2**70), "5"):
        assert journal.newest_decision(unknown) is None


def test_a_repeat_is_answered_with_the_decision_that_it_repeats(open_journal: OpenJournal) -> None:
    journal = open_journal()
    recorded = journal.record(batch(0, [b"12345"]), outcomes(0, [b"12345"]), None)
    repeats, conflicts = (
        (RecordProblem(reason, None, "It has the id of another"),)
        for reason in (Reason.DUPLICATE, Reason.CONFLICTING_DUPLICATE)
    )
    repeat = Rejection(1, repeats, b"", transaction_id=5)
    assert repeated_decision(repeat, journal) == (0, recorded[0])
    assert repeated_decision(replace(repeat, transaction_id=6), journal) is None, "decided in no log of ours"
    assert repeated_decision(replace(repeat, problems=conflicts), journal) is None
    assert repeated_decision(replace(repeat, position=0), journal) is None


@pytest.mark.parametrize("count", [1, 127, 128, 129, 300])
def test_a_batch_of_any_size_is_recorded_whole(open_journal: OpenJournal, count: int) -> None:
    journal = open_journal()
    records = [b"%d,2,3" % i for i in range(count)]
    journal.record(batch(0, records), outcomes(0, records), None)
    assert [o for _, o in journal.outcomes()] == [o.to_json() for o in outcomes(0, records)]


def test_a_batch_and_its_cursor_are_recorded_together_or_not_at_all(open_journal: OpenJournal) -> None:
    class Broken(Rejection):
        def to_json(self) -> bytes:
            raise RuntimeError("no outcome can be made of this")

    journal = open_journal()
    journal.record(batch(0, RECORDS[:2]), outcomes(0, RECORDS[:2]), ("file", 2))
    wrong: list[Outcome] = [*outcomes(2, RECORDS[2:3]), Broken(3, (PROBLEM,), b"")]
    with pytest.raises(RuntimeError, match="no outcome"):
        journal.record(batch(2, RECORDS[2:4]), wrong, ("file", 4))
    assert journal.next_position == 2
    assert journal.cursor("file") == 2
    assert [p for p, _ in journal.outcomes()] == [0, 1]
    journal.record(batch(2, RECORDS[2:4]), outcomes(2, RECORDS[2:4]), ("file", 4))
    assert journal.next_position == 4


def test_a_batch_that_does_not_continue_the_log_is_a_mistake(open_journal: OpenJournal) -> None:
    journal = open_journal()
    for first, given_outcomes in ((1, outcomes(1, RECORDS)), (0, outcomes(0, RECORDS[:1]))):
        with pytest.raises(ValueError, match="continue"):
            journal.record(batch(first, RECORDS), given_outcomes, None)
    assert journal.next_position == 0


def test_cursors_of_different_sources_do_not_touch(open_journal: OpenJournal) -> None:
    journal = open_journal()
    journal.record(batch(0, RECORDS[:1]), outcomes(0, RECORDS[:1]), ("a", 1))
    journal.record(batch(1, []), [], ("b", 9))
    assert (journal.cursor("a"), journal.cursor("b"), journal.cursor("c")) == (1, 9, 0)
    assert journal.next_position == 1


def test_which_versions_served_is_known_for_every_position(open_journal: OpenJournal) -> None:
    journal = open_journal()
    journal.serve(VERSIONS)
    journal.record(batch(0, RECORDS[:3]), outcomes(0, RECORDS[:3]), None)
    journal.serve(VERSIONS)
    later = Versions("model-2", "policy-1", "catalogue-1", 2)
    journal.serve(later)
    journal.record(batch(3, RECORDS[3:]), outcomes(3, RECORDS[3:]), None)
    journal.close()
    again = open_journal()
    assert [again.serving(p) for p in range(6)] == [VERSIONS] * 3 + [later] * 3
    assert again.serving(-1) is None


def test_what_decided_is_listed_newest_first(open_journal: OpenJournal) -> None:
    journal = open_journal()
    assert list(journal.servings()) == []
    journal.serve(VERSIONS)
    assert list(journal.servings()) == [Serving(0, None, VERSIONS)]
    journal.record(batch(0, RECORDS[:3]), outcomes(0, RECORDS[:3]), None)
    change, later = Change("model-2", "policy-2", 7, "anna", "because"), replace(VERSIONS, model="model-2")
    made = ChangeMade(3, later, change.number, change.by, change.reason)
    journal.record(change_entry(change, 3, 2_000, load_catalogue()), [made], None)
    journal.record(batch(4, RECORDS[3:]), outcomes(4, RECORDS[3:]), None)
    journal.close()
    assert list(open_journal().servings()) == [
        Serving(3, 2_000, later, change), Serving(0, 1_000, VERSIONS)
    ]  # fmt: skip


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.binary(max_size=20), max_size=5), max_size=6), st.data())
def test_any_records_in_any_batches_are_read_as_they_were(
    open_journal: OpenJournal, parts: list[list[bytes]], data: st.DataObject
) -> None:
    journal = open_journal()
    begin = position = journal.next_position
    for part in parts:
        journal.record(batch(position, part), outcomes(position, part), ("s", position + len(part)))
        position += len(part)
    records = [record for part in parts for record in part]
    low = data.draw(st.integers(0, len(records)))
    high = data.draw(st.integers(low, len(records)))
    assert contents(journal.read(begin + low, begin + high)) == contents([batch(begin, records)])[low:high]
    journal.close()


def test_records_can_be_read_without_originals(open_journal: OpenJournal) -> None:
    journal = open_journal()
    journal.record(batch(0, RECORDS), outcomes(0, RECORDS), None)
    (read,) = journal.read(0, originals=False)
    assert content_of(read) == content_of(replace(batch(0, RECORDS), originals=None))
