"""The record that breaks the engine is found by smaller and smaller batches, and only it is rejected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaslon.domain.errors import DataError
from zaslon.domain.events import Kind, RecordBatch
from zaslon.ports import SupersededError
from zaslon.services.fault_isolation import EngineFault, FailedRecords, FaultIsolation, engine_faults

USUAL = 512


def _fault() -> EngineFault:
    with pytest.raises(EngineFault) as raised, engine_faults():
        raise ZeroDivisionError("a text that may quote a record")
    return raised.value


class Log:
    """Records of which some break the engine, decided as the stream decides them."""

    def __init__(self, records: int, broken: set[int], faults_max: int = 3) -> None:
        self.records = [b"%d" % i for i in range(records)]
        self.broken, self.rejected, self.decided = broken, list[int](), list[int]()
        self.lives, self.sizes = 0, list[int]()
        self.faults = FaultIsolation(USUAL, faults_max)

    def decide_all(self) -> None:
        position = 0
        while position < len(self.records):
            part = self.records[position : position + self.faults.records_max]
            batch = RecordBatch.of(part, [Kind.TRANSACTION_LINE] * len(part), [0] * len(part), position)
            self.sizes.append(len(batch))
            is_broken = self.faults.is_broken(batch)
            if is_broken:
                self.rejected.append(position)
            elif self.broken & set(range(position, position + len(batch))):
                self.lives += 1
                self.faults.failed(FailedRecords(position, len(batch), batch.raw(0)), _fault())
                continue
            else:
                self.decided += range(position, position + len(batch))
            position += len(batch)
            if self.faults.is_searching:
                self.faults.succeeded(position, was_broken=is_broken)


@given(st.sets(st.integers(0, 2_999), max_size=6))
def test_broken_records_are_rejected_and_all_others_decided(broken: set[int]) -> None:
    log = Log(3_000, broken, faults_max=len(broken) + 1)
    log.decide_all()
    assert log.rejected == sorted(broken)
    assert sorted(log.decided) == sorted(set(range(3_000)) - broken)
    assert log.lives <= 10 * len(broken)


def test_one_broken_record_costs_at_most_as_many_lives_as_halvings() -> None:
    for position in (0, 1, 255, 256, 300, 511):
        log = Log(1_000, {position})
        log.decide_all()
        assert log.lives <= 10, position


def test_batches_grow_back_to_their_usual_size() -> None:
    log = Log(5_000, {700})
    log.decide_all()
    assert log.sizes[-2] == USUAL
    assert not log.faults.is_searching


def test_a_failure_that_does_not_come_again_rejects_nothing() -> None:
    faults = FaultIsolation(USUAL, 3)
    faults.failed(FailedRecords(0, 512, b"0"), _fault())
    position = 0
    while faults.is_searching:
        position += faults.records_max
        faults.succeeded(position, was_broken=False)
    assert position < 5 * USUAL


def test_records_that_all_fail_stop_the_scorer() -> None:
    log = Log(2_000, set(range(2_000)), faults_max=3)
    with pytest.raises(EngineFault):
        log.decide_all()
    assert log.rejected == [0, 1, 2]


def test_faults_in_a_row_are_forgotten_once_a_record_is_decided() -> None:
    log = Log(2_000, {0, 1, 3, 4, 6, 7, 9, 10}, faults_max=3)
    log.decide_all()
    assert len(log.rejected) == 8


def test_another_record_at_the_same_position_is_not_rejected() -> None:
    faults = FaultIsolation(USUAL, 3)
    faults.failed(FailedRecords(7, 1, b"bad"), _fault())
    for content, is_broken in ((b"bad", True), (b"good", False)):
        batch = RecordBatch.of([content], [Kind.TRANSACTION_LINE], [0], 7)
        assert faults.is_broken(batch) is is_broken
    assert not faults.is_broken(RecordBatch.of([b"bad"], [Kind.TRANSACTION_LINE], [0], 8))
    assert faults.cause == "ZeroDivisionError"


@pytest.mark.parametrize(
    "error", [DataError("no"), SupersededError("no"), MemoryError(), KeyboardInterrupt()]
)
def test_what_is_no_fault_of_ours_passes(error: BaseException) -> None:
    with pytest.raises(type(error)), engine_faults():
        raise error
