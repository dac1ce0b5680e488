"""What tasks do with sources: clean one of them, settle repeats among rows of some ids, find original bytes.

Every task is a pure function of its input, so one that is tried twice, or by two executors at once, gives
the same rows; Spark takes those of one try.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import chdir, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from zaslon.adapters.cluster.spark.software import Software
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.clean_report import OverLines
from zaslon.domain.errors import InputError
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.intake.chunk_cleaning import ChunkCleaning, ReadyRecords
from zaslon.intake.chunks import Chunk
from zaslon.intake.date_gaps import RowDays, WrongDates
from zaslon.intake.late_rejections import why_repeats, why_wrong_dates
from zaslon.intake.quarantine import QUARANTINE_SCHEMA, QuarantineRows, reasons_of
from zaslon.intake.settling import SETTLING, settle
from zaslon.intake.sources import read_source
from zaslon.intake.staging import count_flags, in_columns_of_days, with_answers
from zaslon.system.opening import content_version, local_path

if TYPE_CHECKING:  # it needs what only S3 and HDFS need
    from zaslon.adapters.cluster.hadoop.foreign_files import StorageAccess

# What a row of a stage is. Names of our own columns begin with `_`, as no field of a catalogue does.
KIND, CLEAN, REJECTED, SUMMARY = "_kind", 0, 1, 2
COUNTED = "_summary"
PLACE = ("_source_number", "_source_record")
REASON = "_reason_number"
_ROWS_OF_SOURCE_BITS = 40  # of a row's place: a source has at most 2^40 rows, and there are 2^23 sources


@dataclass
class Summary:
    """What one process counted, to be added up.

    Attributes:
        number: of the source.
        reasons: rejected rows by reason and field.
        rows_by_day: clean rows by day number.
        flags: clean rows by flag, in the order of the catalogue.
    """

    number: int = 0
    rows_in: int = 0
    headers_inside: int = 0
    over_lines: OverLines = field(default_factory=OverLines)
    reasons: dict[str, int] = field(default_factory=dict)
    rows_by_day: dict[int, int] = field(default_factory=dict)
    flags: list[int] = field(default_factory=list)
    answers_changed: int = 0

    def add(self, ready: ReadyRecords) -> None:
        """Count records that were cleaned."""
        self.rows_in += len(ready.chunk) + ready.lines_more
        self.over_lines.join(ready.over_lines)
        for rejected in ready.rejected:
            self.reasons = dict(Counter(self.reasons) + reasons_of(rejected))
        self.rows_by_day = dict(Counter(self.rows_by_day) + Counter(rows_by_day(ready.moments)))

    def to_bytes(self) -> bytes:
        """As a row holds it."""
        return orjson.dumps(asdict(self), option=orjson.OPT_NON_STR_KEYS)

    @staticmethod
    def from_bytes(content: bytes) -> Summary:
        """The inverse."""
        values: dict[str, Any] = orjson.loads(content)
        values["over_lines"] = OverLines(**values["over_lines"])
        values["rows_by_day"] = {int(day): rows for day, rows in values["rows_by_day"].items()}
        return Summary(**values)


def staged_schema(catalogue: Catalogue) -> pa.Schema:
    """Rows of sources on their way: clean ones, or rejected ones in the columns of the quarantine, or a summary."""
    return pa.schema(
        [
            (KIND, pa.int8()),
            *([("transaction_text", pa.string())] if catalogue.has_text_ids else []),
            ("transaction_id", pa.int64()),
            ("event_time_seconds", pa.int64()),
            ("amount_minor", pa.int64()),
            *((f"{entity}_key", pa.int64()) for entity in catalogue.entities),
            *((name, pa.float64()) for name in catalogue.number_fields),
            ("flags", pa.int32()),
            ("digest_0", pa.int64()),
            ("digest_1", pa.int64()),
            ("is_fraud", pa.int8()),
            ("scenario", pa.int8()),
            ("order", pa.int64()),
            (PLACE[0], pa.int32()),
            (PLACE[1], pa.int64()),
            (REASON, pa.int16()),
            *((f"_{field.name}", field.type) for field in quarantine_schema()),
            (COUNTED, pa.binary()),
        ]
    )


def quarantine_schema() -> pa.Schema:
    """The columns of the quarantine."""
    kinds = {pl.String: pa.string(), pl.Int64: pa.int64(), pl.Binary: pa.binary(), pl.Boolean: pa.bool_()}
    return pa.schema([(name, kinds[kind]) for name, kind in QUARANTINE_SCHEMA.items()])


def day_columns(catalogue: Catalogue) -> list[str]:
    """The columns of clean days in the order of their files."""
    staged = [name for name in staged_schema(catalogue).names if name != KIND]
    own = staged[: staged.index("order")]
    return in_columns_of_days(pl.DataFrame(schema=own)).columns


@dataclass(frozen=True)
class Sources:
    """The sources of a job, as the driver found them.

    Attributes:
        addresses: as they were given; relative paths are from `directory`.
        versions: what each was when the job began, None where nothing says.
        access: how S3 and HDFS are reached; None where no source is there.
    """

    addresses: tuple[str, ...]
    directory: str
    versions: tuple[tuple[str, ...] | None, ...]
    access: StorageAccess | None = None

    @staticmethod
    def of(addresses: Sequence[str], access: StorageAccess | None = None) -> Sources:
        """Those of a driver in its working directory.

        Raises:
            InputError: one does not exist or may not be read.
        """
        return Sources(tuple(addresses), str(Path.cwd()), tuple(map(content_version, addresses)), access)

    def chunks(self, number: int, catalogue: Catalogue, chunk_bytes: int) -> Iterator[Chunk]:
        """What `read_source` gives of one of them.

        Raises:
            InputError: as `read_source`, or the source is another than when the job began.
        """
        address = self.addresses[number]
        path = local_path(address)
        if self.access is not None:
            self.access.use()
        with nullcontext() if path is None or path.is_absolute() else chdir(self.directory):
            self._check(number)
            yield from read_source(address, catalogue, chunk_bytes)
            self._check(number)

    def _check(self, number: int) -> None:
        address = self.addresses[number]
        if content_version(address) != self.versions[number]:
            raise InputError(
                f"'{address}' changed while it was read.",
                hint="Wait until it is complete, and give it again.",
            )


@dataclass(frozen=True)
class SourceCleaning:
    """Task: cleans whole sources, given by their numbers."""

    catalogue: Catalogue
    key: bytes
    arrival_time_seconds: int
    chunk_bytes: int
    sources: Sources
    software: Software

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Staged rows; one of them is the summary of each source."""
        self.software.check_here()
        for batch in batches:
            for row in batch.to_pylist():
                yield from self._clean(row["number"])

    def _clean(self, number: int) -> Iterator[pa.RecordBatch]:
        schema = staged_schema(self.catalogue)
        quarantine = QuarantineRows(self.catalogue, self.key)
        cleaning = ChunkCleaning(
            self.catalogue, self.key, self.arrival_time_seconds, quarantine, _none_is_suspect
        )
        summary = Summary(number)
        for chunk in self.sources.chunks(number, self.catalogue, self.chunk_bytes):
            summary.headers_inside += chunk.headers
            for ready in cleaning.ready(chunk):
                clean = ready.rows.with_columns(
                    pl.Series("order", (number << _ROWS_OF_SOURCE_BITS) + summary.rows_in + ready.index),
                    pl.lit(number).alias(PLACE[0]), pl.lit(CLEAN).alias(KIND),
                    pl.Series(PLACE[1], ready.chunk.first_record + ready.index),
                )  # fmt: skip
                yield from batches_of(clean, schema)
                for rejected in ready.rejected:
                    rows = rejected.select(pl.lit(REJECTED).alias(KIND), pl.all().name.prefix("_"))
                    yield from batches_of(rows, schema)
                summary.add(ready)
        yield from batches_of(summary_row(summary), schema)


def _none_is_suspect(ids: NDArray[np.int64], _: RowDays) -> NDArray[np.bool_]:
    """Repeats are settled by an exchange, which needs no filter."""
    return np.zeros(len(ids), np.bool_)


@dataclass(frozen=True)
class Settling:
    """Task: settles repeats among all rows of some ids, which are its partition, in the order of input."""

    catalogue: Catalogue
    remember_seconds: int
    software: Software

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """New rows with the answers that count, repeats with the number of their reason, and a summary."""
        self.software.check_here()
        schema = staged_schema(self.catalogue)
        held = list(batches)
        if not held:
            return
        rows = polars_frame(pa.Table.from_batches(held))
        is_repeated = rows["transaction_id"].is_duplicated()
        some = rows.filter(is_repeated)
        settled = settle(some, some.select(SETTLING), self.remember_seconds)
        fresh = pl.concat([rows.filter(~is_repeated), settled.fresh])
        fresh = with_answers(fresh, settled.answers.drop("day"))
        rejected = settled.repeats.select(
            pl.lit(REJECTED).alias(KIND), *PLACE, pl.col("reason").alias(REASON)
        )
        yield from batches_of(fresh, schema)
        yield from batches_of(rejected, schema)
        summary = Summary(
            rows_by_day=rows_by_day(fresh["event_time_seconds"].to_numpy()),
            flags=count_flags(fresh, len(self.catalogue.flag_names)).tolist(),
            answers_changed=settled.answers_changed,
        )
        yield from batches_of(summary_row(summary), schema)


@dataclass(frozen=True)
class Originals:
    """Task: finds the original bytes of rows that were rejected for what only the whole input shows.

    Its partition has the places of such rows, by source and record, and reads each of these sources again.
    """

    catalogue: Catalogue
    key: bytes
    chunk_bytes: int
    sources: Sources
    wrong: WrongDates | None
    software: Software

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of the quarantine."""
        self.software.check_here()
        held = list(batches)
        if not held:
            return
        places = polars_frame(pa.Table.from_batches(held))
        for number in places[PLACE[0]].unique(maintain_order=True).to_list():
            of_source = places.filter(pl.col(PLACE[0]) == number).sort(PLACE[1])
            for found in self._of_source(number, of_source):
                yield from batches_of(found, quarantine_schema())

    def _of_source(self, number: int, places: pl.DataFrame) -> Iterator[pl.DataFrame]:
        quarantine = QuarantineRows(self.catalogue, self.key)
        wanted = places[PLACE[1]].to_numpy()
        for chunk in self.sources.chunks(number, self.catalogue, self.chunk_bytes):
            begin, end = np.searchsorted(wanted, [chunk.first_record, chunk.first_record + len(chunk)])
            if begin == end:
                continue
            rows = quarantine.originals(chunk, wanted[begin:end] - chunk.first_record)
            rows = rows.hstack(places[begin:end].select(REASON, "event_time_seconds"))
            repeats = rows.filter(pl.col(REASON).is_not_null())
            if len(repeats):
                why = why_repeats(repeats.rename({REASON: "reason"}))
                yield quarantine.frame(repeats, why)
            dated = rows.filter(pl.col(REASON).is_null())
            if len(dated) and self.wrong is not None:
                yield quarantine.frame(dated, why_wrong_dates(self.wrong, self.catalogue, dated))


def rows_by_day(event_time_seconds: NDArray[np.int64]) -> dict[int, int]:
    """How many rows each day has, by day number."""
    days, counts = np.unique(event_time_seconds // SECONDS_PER_DAY, return_counts=True)
    return dict(zip(days.tolist(), counts.tolist(), strict=True))


def summary_row(summary: Summary) -> pl.DataFrame:
    """A summary as a row of a stage."""
    return pl.DataFrame({KIND: [SUMMARY], COUNTED: [summary.to_bytes()]})


def polars_frame(table: pa.Table) -> pl.DataFrame:
    """A table of Arrow in Polars."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def batches_of(rows: pl.DataFrame, schema: pa.Schema) -> list[pa.RecordBatch]:
    """Rows in the columns of a schema, null where they have none, in the types that Spark was told."""
    if not len(rows):
        return []
    found = rows.to_arrow()
    columns = [
        found[name].cast(kind) if name in found.column_names else pa.nulls(len(rows), kind)
        for name, kind in zip(schema.names, schema.types, strict=True)
    ]
    return list(pa.table(columns, schema=schema).to_batches(max_chunksize=1 << 16))
