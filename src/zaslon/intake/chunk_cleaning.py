"""Chunks of sources cleaned one by one: the same for one process with all sources and a task with one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.clean_report import OverLines
from zaslon.intake.chunks import Chunk, TextChunk
from zaslon.intake.cleaning import CleanFields, Int64, clean_fields
from zaslon.intake.date_gaps import RowDays
from zaslon.intake.examples import example_row
from zaslon.intake.fields import fields_of_broken
from zaslon.intake.layouts import Layout
from zaslon.intake.ordinary import check_cleaning, problem_of_fault
from zaslon.intake.over_lines import torn_records, without
from zaslon.intake.quarantine import QuarantineRows
from zaslon.intake.record_blocks import only_record
from zaslon.intake.staging import frame_of
from zaslon.system.isolation import by_halves, in_halves


@dataclass(frozen=True)
class ReadyRecords:
    """Consecutive records of a chunk that were cleaned.

    Attributes:
        chunk: they.
        rows: the clean ones, in the columns of staged rows but for `order`.
        index, moments, days: of each of those, which record it is, and its time; their days.
        is_suspect: bool[rows], which may be repeats.
        rejected: rows for the quarantine.
        lines_more: how many rows the records are more than records, because of some every line is a row.
        over_lines: those that span lines.
    """

    chunk: Chunk
    rows: pl.DataFrame
    index: Int64
    moments: Int64
    days: RowDays
    is_suspect: NDArray[np.bool_]
    rejected: list[pl.DataFrame]
    lines_more: int
    over_lines: OverLines


class ChunkCleaning:
    """Cleans chunk after chunk. A record that breaks our own code is rejected as `engine_error`.

    Args:
        catalogue, key: how records look, and the secret for pseudonyms.
        arrival_time_seconds: when the sources arrived.
        quarantine: makes the rows for what is rejected.
        suspects: which of the ids of clean rows, with their days, may be repeats.
    """

    def __init__(
        self, catalogue: Catalogue, key: bytes, arrival_time_seconds: int, quarantine: QuarantineRows,
        suspects: Callable[[Int64, RowDays], NDArray[np.bool_]],
    ) -> None:  # fmt: skip
        self._catalogue, self._key, self._arrival = catalogue, key, arrival_time_seconds
        self._quarantine, self._suspects = quarantine, suspects

    def ready(self, chunk: Chunk) -> Iterator[ReadyRecords]:
        """The records of a chunk, in parts that follow each other."""
        yield from in_halves(
            lambda begin, end: self._ready(chunk.part(begin, end)), len(chunk),
            lambda record, error: self._alone(chunk.part(record, record + 1), error),
        )  # fmt: skip

    def ordinary_rows(self) -> pl.DataFrame:
        """An ordinary record as a staged row."""
        return self._ready(self._ordinary_chunk()).rows

    def _ready(self, chunk: Chunk) -> ReadyRecords:
        """Clean records. Whatever looks at each of them is done here, and may fail and be done again.

        Ids are asked for on the way; asked again, a filter of repeats only has more suspects.
        """
        arrival = np.full(len(chunk), self._arrival)
        found = clean_fields(chunk.fields(self._catalogue), self._catalogue, self._key, arrival)
        torn, over_lines = dict[int, pl.DataFrame](), OverLines()
        if chunk.problem is None:
            torn, over_lines = torn_records(chunk, found.rejected, self._catalogue)
        moments = found.transactions.event_time_seconds
        days = RowDays.of(moments)
        return ReadyRecords(
            chunk, frame_of(found.transactions), found.index, moments, days,
            self._suspects(found.transactions.transaction_id, days),
            [*self._quarantine.of_lines(chunk, torn), *self._quarantine.of(chunk, without(found.rejected, set(torn)))],
            sum(map(len, torn.values())) - len(torn), over_lines,
        )  # fmt: skip

    def _alone(self, record: Chunk, error: Exception) -> ReadyRecords:
        """A record that breaks our code; `error` where an ordinary one does so, too."""
        try:
            self._ready(self._ordinary_chunk())
        except Exception:  # noqa: BLE001  the first error is more useful
            raise error from None
        return self._ready(record.broken(problem_of_fault(error)))

    def _ordinary_chunk(self) -> Chunk:
        layout = Layout(True, (), self._catalogue.record.separator)
        return TextChunk.of("", 1, only_record(example_row(self._catalogue, layout)), layout)


def clean_chunk(chunk: Chunk, catalogue: Catalogue, key: bytes, arrival_time_seconds: int) -> CleanFields:
    """The result for its records; one that breaks our own code is rejected as `engine_error`."""

    def work(begin: int, end: int) -> CleanFields:
        arrival = np.full(end - begin, arrival_time_seconds)
        return clean_fields(chunk.part(begin, end).fields(catalogue), catalogue, key, arrival)

    def alone(record: int, error: Exception) -> CleanFields:
        check_cleaning(catalogue, key, error)
        return clean_fields(fields_of_broken(1, catalogue, problem_of_fault(error)), catalogue, key, None)

    return CleanFields.concatenate(by_halves(work, len(chunk), alone))
