"""Fault isolation: which record breaks our own code, found without stopping the others for good.

After a failure the engine is discarded and recovered. The next batches are smaller: half of the batch
that failed, then half of that, down to the one record that fails alone. It becomes a rejection
`engine_error`, which the log keeps like any other outcome, so that no engine applies the record. Then
batches grow back to their usual size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from zaslon.domain.errors import ZaslonError
from zaslon.domain.events import RecordBatch
from zaslon.ports import SupersededError

# Errors that say nothing about the records: what a person can fix, another scorer, this machine.
_NOT_OURS = (ZaslonError, SupersededError, MemoryError)


class EngineFault(Exception):  # noqa: N818  a fault of ours, found by its cause
    """Our own code failed while it handled records; `__cause__` is what it raised."""


@contextmanager
def engine_faults() -> Iterator[None]:
    """Turn what our own code raises into an `EngineFault`.

    Raises:
        EngineFault: anything that is neither an error for people nor one of the machine.
    """
    try:
        yield
    except _NOT_OURS:
        raise
    except Exception as error:
        raise EngineFault(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class FailedRecords:
    """A batch on which our own code failed: where it begins, how long it is, the bytes of its first record."""

    first_position: int
    count: int
    first: bytes


class FaultIsolation:
    """Says how large the next batch may be, and which record is to be rejected instead of applied.

    A record is known by its log position and its bytes: at the same position the state is the same.

    Args:
        records_max: of a batch while nothing fails.
        faults_max: most records in a row that may fail alone; with more, it is not the records.
    """

    def __init__(self, records_max: int, faults_max: int) -> None:
        self._usual_max = self._records_max = records_max
        self._faults_max = faults_max
        self._faults_in_a_row = 0
        self._broken: tuple[int, bytes] | None = None
        self._suspected_end: int | None = None  # of the records of which one has failed
        self.cause = ""

    @property
    def records_max(self) -> int:
        """How many records the next batch may have."""
        return self._records_max

    @property
    def is_searching(self) -> bool:
        """Whether batches are smaller than usual: each must then be durable before the next is taken."""
        return self._records_max < self._usual_max or self._broken is not None

    def failed(self, records: FailedRecords, fault: EngineFault) -> None:
        """A batch has failed. The engine must be recovered before anything else is processed.

        Raises:
            EngineFault: too many records in a row have failed alone.
        """
        if records.count > 1:
            self._suspected_end = records.first_position + records.count
            self._records_max = records.count // 2
            return
        self._faults_in_a_row += 1
        if self._faults_in_a_row > self._faults_max:
            raise fault
        self._records_max = 1
        self._broken = (records.first_position, records.first)
        self.cause = type(fault.__cause__).__name__

    def is_broken(self, batch: RecordBatch) -> bool:
        """Whether the batch is the record that has failed alone."""
        return len(batch) == 1 and self._broken == (batch.first_position, batch.raw(0))

    def succeeded(self, end_position: int, *, was_broken: bool) -> None:
        """A batch is durable up to a position; `was_broken`: it is the record that had failed."""
        if was_broken:
            self._broken, self._suspected_end = None, None
        else:
            self._faults_in_a_row = 0
        left = 0 if self._suspected_end is None else self._suspected_end - end_position
        if left > 0:
            self._records_max = (left + 1) // 2
        else:
            self._suspected_end = None
            self._records_max = min(2 * self._records_max, self._usual_max)
