"""Which records of old files are not sent to the stream, because their dates are wrong.

The broker stamps the arrival of what is sent. So the stream takes a row of 2019 with the year 2021 for true,
and every later row of its file would be `too_late`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.rejections import Reason, RecordProblem, reason_text
from zaslon.domain.time import SECONDS_PER_DAY, time_text
from zaslon.intake.chunk_cleaning import clean_chunk
from zaslon.intake.chunks import Chunk, TextChunk
from zaslon.intake.date_gaps import DayCounts, RowDays, WrongDates
from zaslon.intake.examples import example_row
from zaslon.intake.layouts import Layout
from zaslon.intake.ordinary import problem_of_fault
from zaslon.intake.record_blocks import only_record
from zaslon.intake.sources import read_source
from zaslon.services.arrival import arrival_of_files
from zaslon.services.context import Context
from zaslon.system.isolation import in_halves
from zaslon.system.opening import is_read_once


class BrokenRecordError(Exception):
    """A record broke our own code before: where it was read, or its day counted."""


@dataclass
class ProducedDates:
    """Which records are sent.

    Attributes:
        arrival_seconds: when the files arrived.
        not_from_seconds: no record of this time or later is sent; None sends all.
        wrong: the last days of the files, if they are there only by a wrong date.
        undated: by source and number, the records that broke our code while their days were counted.
        rejected: how many records were not sent, so far, by reason and field.
    """

    arrival_seconds: int
    not_from_seconds: int | None = None
    wrong: WrongDates | None = None
    undated: dict[tuple[str, int], RecordProblem] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)

    def are_sent(self, chunk: Chunk, context: Context) -> NDArray[np.bool_]:
        """bool[n], which records of a chunk are."""
        sent = np.ones(len(chunk), np.bool_)
        if self.not_from_seconds is None:
            return sent
        cleaned = clean_chunk(chunk, context.catalogue, context.key, np.iinfo(np.int64).max // 2)
        sent[cleaned.index[cleaned.transactions.event_time_seconds >= self.not_from_seconds]] = False
        return sent

    def left_out(self, records: int, context: Context) -> None:
        """Count records that are not sent because of their dates."""
        if records:
            self._count(reason_text(Reason.AFTER_ARRIVAL, _time_field(context)), records)

    def check_days(self, chunk: Chunk) -> None:
        """Do nothing where the days of all records were counted.

        Raises:
            BrokenRecordError: one of them broke our code then.
        """
        numbers = range(chunk.first_record, chunk.first_record + len(chunk))
        if self.undated and any((chunk.source, number) in self.undated for number in numbers):
            raise BrokenRecordError

    def broken(self, chunk: Chunk, record: int, error: Exception, context: Context) -> None:
        """Count a record that is not sent because it breaks our own code, and name it."""
        known = self.undated.get((chunk.source, chunk.first_record + record))
        problem = chunk.problem or known or problem_of_fault(error)
        self._count(reason_text(problem.reason, None), 1)
        place = f"Record {chunk.first_record + record} of '{chunk.source}'"
        context.progress.warn(f"{place} was not sent. {problem.detail}")

    def _count(self, reason: str, records: int) -> None:
        self.rejected[reason] = self.rejected.get(reason, 0) + records

    def warn(self, context: Context) -> None:
        """Say what was not sent, and why: there is no quarantine, the records are in their files."""
        reason = reason_text(Reason.AFTER_ARRIVAL, _time_field(context))
        count = self.rejected.get(reason, 0)
        if not count:
            return
        if self.wrong is None:
            why = f"They are later than {time_text(self.arrival_seconds)}, when they arrived."
        else:
            why = self.wrong.sentence(_time_field(context), self.wrong.first_day * SECONDS_PER_DAY)
        context.progress.warn(f"{count} records were not sent ({reason}). {why}")


def _time_field(context: Context) -> str:
    found = context.catalogue.field_of("event_time")
    assert found is not None, "the catalogue checks this"
    return found.name


def read_dates(context: Context, sources: Sequence[str], arrival_time_seconds: int | None) -> ProducedDates:
    """Read all files for their dates; what can be read once only is sent without."""
    dates, catalogue = ProducedDates(arrival_of_files(context, arrival_time_seconds)), context.catalogue
    if arrival_time_seconds is not None:
        dates.not_from_seconds = arrival_time_seconds + catalogue.record.clock_skew_seconds + 1
    if any(map(is_read_once, sources)) or not catalogue.gap_max_seconds:
        return dates
    counts = DayCounts(catalogue.gap_max_seconds)
    context.progress.start("read dates", None)
    for source in sources:
        for chunk in read_source(source, catalogue, context.options.chunk_bytes):
            for days in _days(chunk, context, dates):
                counts.add(days)
            context.progress.advance(len(chunk))
    dates.wrong = counts.rejected(catalogue, dates.arrival_seconds)
    if dates.wrong is not None:
        dates.not_from_seconds = dates.wrong.first_day * SECONDS_PER_DAY
    return dates


def _days(chunk: Chunk, context: Context, dates: ProducedDates) -> Iterator[RowDays]:
    """The days of a chunk's records. One that breaks our own code has none, so it will not be sent."""

    def of(part: Chunk) -> RowDays:
        cleaned = clean_chunk(part, context.catalogue, context.key, dates.arrival_seconds)
        return RowDays.of(cleaned.transactions.event_time_seconds)

    def alone(record: int, error: Exception) -> RowDays:
        check_ordinary(of, chunk, context, error)
        dates.undated[chunk.source, chunk.first_record + record] = problem_of_fault(error)
        return RowDays.of(np.zeros(0, np.int64))

    return in_halves(lambda begin, end: of(chunk.part(begin, end)), len(chunk), alone)


def check_ordinary(work: Callable[[Chunk], object], chunk: Chunk, context: Context, error: Exception) -> None:
    """Do nothing where `work` can be done with ordinary records: of the chunk's layout, and one with a time.

    Raises:
        Exception: `error`, where it cannot: then no record is to blame for it.
    """
    try:
        for layout in (chunk.layout, Layout(True, (), ",")):
            work(TextChunk.of("", 1, only_record(example_row(context.catalogue, layout)), layout))
    except Exception:  # noqa: BLE001  the first error is more useful
        raise error from None
