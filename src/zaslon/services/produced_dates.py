"""Which records of old files are not sent to the stream, because their dates are wrong.

The broker stamps the arrival of what is sent. So the stream takes a row of 2019 with the year 2021 for true,
and every later row of its file would be `too_late`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.rejections import Reason, reason_text
from zaslon.domain.time import SECONDS_PER_DAY, time_text
from zaslon.intake.chunk_cleaning import clean_chunk
from zaslon.intake.chunks import Chunk
from zaslon.intake.date_gaps import DayCounts, RowDays, WrongDates
from zaslon.intake.sources import read_source
from zaslon.services.arrival import arrival_of_files
from zaslon.services.context import Context
from zaslon.system.opening import is_read_once


@dataclass
class ProducedDates:
    """Which records are sent.

    Attributes:
        arrival_seconds: when the files arrived.
        not_from_seconds: no record of this time or later is sent; None sends all.
        wrong: the last days of the files, if they are there only by a wrong date.
        rejected: how many records were not sent, so far, by reason and field.
    """

    arrival_seconds: int
    not_from_seconds: int | None = None
    wrong: WrongDates | None = None
    rejected: dict[str, int] = field(default_factory=dict)

    def are_sent(self, chunk: Chunk, context: Context) -> NDArray[np.bool_]:
        """bool[n], which records of a chunk are."""
        sent = np.ones(len(chunk), np.bool_)
        if self.not_from_seconds is None:
            return sent
        cleaned = clean_chunk(chunk, context.catalogue, context.key, np.iinfo(np.int64).max // 2)
        late = cleaned.transactions.event_time_seconds >= self.not_from_seconds
        sent[cleaned.index[late]] = False
        if late.any():
            reason = reason_text(Reason.AFTER_ARRIVAL, _time_field(context))
            self.rejected[reason] = self.rejected.get(reason, 0) + int(late.sum())
        return sent

    def warn(self, context: Context) -> None:
        """Say what was not sent, and why: there is no quarantine, the records are in their files."""
        if not self.rejected:
            return
        reason, count = next(iter(self.rejected.items()))
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
            cleaned = clean_chunk(chunk, catalogue, context.key, dates.arrival_seconds)
            counts.add(RowDays.of(cleaned.transactions.event_time_seconds))
            context.progress.advance(len(chunk))
    dates.wrong = counts.rejected(catalogue, dates.arrival_seconds)
    if dates.wrong is not None:
        dates.not_from_seconds = dates.wrong.first_day * SECONDS_PER_DAY
    return dates
