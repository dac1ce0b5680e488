"""Clean files: raw sources in, Parquet by day, quarantine and a report out.

1. read chunks          sources
2. clean each           cleaning.clean_fields: the same function as for a stream
3. set suspects aside   repeat_filter
4. reject wrong dates   date_gaps
5. settle repeats, sort and write the days   staging
6. rename into place: all of it or nothing
At each step a row that breaks our own code is rejected as `engine_error`, and the others go on.
"""

from __future__ import annotations

import shutil
import time
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import InputError
from zaslon.domain.events import Transactions
from zaslon.domain.rejections import Reason
from zaslon.domain.time import parse_day, parse_duration_seconds, time_text
from zaslon.intake.chunks import Chunk, TextChunk
from zaslon.intake.cleaning import CleanFields, Int64, clean_fields
from zaslon.intake.date_gaps import DayCounts, RowDays, WrongDates
from zaslon.intake.examples import example_row
from zaslon.intake.fields import fields_of_broken
from zaslon.intake.layouts import Layout
from zaslon.intake.ordinary import check_cleaning, problem_of_fault
from zaslon.intake.over_lines import OverLines, torn_records, without
from zaslon.intake.pseudonyms import table_secret
from zaslon.intake.quarantine import Quarantine
from zaslon.intake.record_blocks import only_record
from zaslon.intake.repeat_filter import RepeatFilter
from zaslon.intake.settling import DIGEST
from zaslon.intake.sources import read_source
from zaslon.intake.staging import Staging, frame_of, transactions_of
from zaslon.system.isolation import by_halves, in_halves
from zaslon.system.opening import local_path
from zaslon.system.replacing import replacing

REPORT, QUARANTINE, STAGING = "_report.json", "_quarantine.parquet", ".staging"
_REPEAT_DETAIL = {
    Reason.DUPLICATE: "The transaction occurs earlier in the input with the same content.",
    Reason.CONFLICTING_DUPLICATE: "The id occurs earlier in the input with other content.",
}


@dataclass
class CleanReport:
    """Rows in = clean + rejected, to the last row.

    Of a record that is torn apart by a stray quote every line is a row.
    `answers_changed`: clean rows whose answer came, or became another, with a repeat.
    `arrived`: the declared arrival of all rows; with the same one the same input gives the same bytes.
    """

    rows_in: int = 0
    rows_clean: int = 0
    rows_rejected: dict[str, int] = field(default_factory=dict)
    answers_changed: int = 0
    headers_inside: int = 0  # further headers, as in files joined by `cat`; no rows
    over_lines: OverLines = field(default_factory=OverLines)  # rows with line breaks in quotes
    flags: dict[str, int] = field(default_factory=dict)
    days: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    catalogue: str = ""
    mapping: str = ""
    arrived: str = ""
    seconds: float = 0.0

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def clean_files(
    sources: Sequence[str],
    out: Path,
    catalogue: Catalogue,
    *,
    key: bytes,
    arrival_time_seconds: int,
    chunk_bytes: int,
    repeat_filter_bytes: int,
    rows_of_log: Int64 | None = None,
    progress: Callable[[int], None] | None = None,
) -> CleanReport:
    """Clean all sources into `out`, which appears or is replaced as a whole.

    Memory depends on `chunk_bytes`, `repeat_filter_bytes` and the largest single day, not on how
    many days there are.

    Args:
        sources, out, catalogue: what is cleaned, where to, and how its records look.
        key: secret for pseudonyms, digests and the filter of repeats.
        arrival_time_seconds: when the sources arrived: a later row, beyond `record.clock_skew`, is
            rejected as `after_arrival`.
        chunk_bytes: about how much is read at once.
        repeat_filter_bytes: memory of the filter that finds suspects of being repeats.
        rows_of_log: rows by day of the log that the sources continue, as far as it knows them, None for none:
            it shows which of the last days are there only by a wrong date.
        progress: called with the number of rows of every chunk.

    Raises:
        InputError: a source is not what it should be, `out` holds something else or cannot be
            written, another run is writing it, or nothing says whether the dates of rows after a gap
            are right.
    """
    if not sources:
        raise InputError("There is nothing to clean.", hint="Name at least one file.")
    _refuse_sources_in(out, sources)
    begin = time.perf_counter()
    with replacing(out, REPORT, "zaslon clean") as building:
        cleaning = _Cleaning(building, catalogue, key, repeat_filter_bytes, arrival_time_seconds)
        for source in sources:
            for chunk in read_source(source, catalogue, chunk_bytes):
                cleaning.add(chunk)
                if progress:
                    progress(len(chunk))
        report = cleaning.finish(sources, rows_of_log)
        lasting = report.to_json_dict()
        del lasting["seconds"]  # the same input gives the same bytes, however long it took
        (building / REPORT).write_bytes(
            orjson.dumps(lasting, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        )
    report.seconds = round(time.perf_counter() - begin, 3)
    return report


def _refuse_sources_in(out: Path, sources: Sequence[str]) -> None:
    for source in sources:
        path = local_path(source)
        if path is not None and out.resolve() in path.resolve().parents:
            raise InputError(
                f"'{source}' lies in '{out}', which would be replaced.",
                hint="Name another directory with --out.",
            )


def clean_chunk(chunk: Chunk, catalogue: Catalogue, key: bytes, arrival_time_seconds: int) -> CleanFields:
    """The result for its records; one that breaks our own code is rejected as `engine_error`."""

    def work(begin: int, end: int) -> CleanFields:
        arrival = np.full(end - begin, arrival_time_seconds)
        return clean_fields(chunk.part(begin, end).fields(catalogue), catalogue, key, arrival)

    def alone(record: int, error: Exception) -> CleanFields:
        check_cleaning(catalogue, key, error)
        return clean_fields(fields_of_broken(1, catalogue, problem_of_fault(error)), catalogue, key, None)

    return CleanFields.concatenate(by_halves(work, len(chunk), alone))


@dataclass(frozen=True)
class _Ready:
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


class _Cleaning:
    """One run over all sources."""

    def __init__(
        self, building: Path, catalogue: Catalogue, key: bytes, repeat_filter_bytes: int, arrival: int
    ) -> None:
        self._building, self._catalogue, self._key, self._arrival = building, catalogue, key, arrival
        self._days = DayCounts(catalogue.gap_max_seconds)
        self._filter = RepeatFilter(repeat_filter_bytes, table_secret(key))
        self._staging = Staging(
            building / STAGING,
            len(catalogue.flag_names),
            table_secret(key),
            parse_duration_seconds(catalogue.retention.remember),
            self._reject_staged,
        )
        self._quarantine = Quarantine(building / STAGING, catalogue, key)
        self._rows_in = self._headers_inside = 0
        self._over_lines = OverLines()
        self._begins: list[tuple[int, str, int]] = []  # `order`, source and record with which chunks begin

    def add(self, chunk: Chunk) -> None:
        """Clean one chunk."""
        self._headers_inside += chunk.headers
        for ready in in_halves(
            lambda begin, end: self._ready(chunk.part(begin, end)), len(chunk),
            lambda record, error: self._alone(chunk.part(record, record + 1), error),
        ):  # fmt: skip
            self._take(ready)

    def _ready(self, chunk: Chunk) -> _Ready:
        """Clean records. Whatever looks at each of them is done here, and may fail and be done again.

        The filter of repeats is entered on the way: again, it only has more suspects.
        """
        arrival = np.full(len(chunk), self._arrival)
        found = clean_fields(chunk.fields(self._catalogue), self._catalogue, self._key, arrival)
        torn, over_lines = dict[int, pl.DataFrame](), OverLines()
        if chunk.problem is None:
            torn, over_lines = torn_records(chunk, found.rejected, self._catalogue)
        moments = found.transactions.event_time_seconds
        return _Ready(
            chunk, frame_of(found.transactions), found.index, moments, RowDays.of(moments),
            self._filter.suspects(found.transactions.transaction_id),
            [*self._quarantine.of_lines(chunk, torn), *self._quarantine.of(chunk, without(found.rejected, set(torn)))],
            sum(map(len, torn.values())) - len(torn), over_lines,
        )  # fmt: skip

    def _alone(self, record: Chunk, error: Exception) -> _Ready:
        """A record that breaks our code; `error` where an ordinary one does so, too."""
        try:
            self._ready(self._ordinary_chunk())
        except Exception:  # noqa: BLE001  the first error is more useful
            raise error from None
        return self._ready(record.broken(problem_of_fault(error)))

    def _ordinary_chunk(self) -> Chunk:
        layout = Layout(True, (), self._catalogue.record.separator)
        return TextChunk.of("", 1, only_record(example_row(self._catalogue, layout)), layout)

    def _take(self, ready: _Ready) -> None:
        """Count records, and put them where they belong."""
        chunk, order = ready.chunk, self._rows_in + ready.index
        self._begins.append((self._rows_in, chunk.source, chunk.first_record))
        self._rows_in += len(chunk) + ready.lines_more
        self._over_lines.join(ready.over_lines)
        for rejected in ready.rejected:
            self._quarantine.take(rejected)
        rows = ready.rows.with_columns(pl.Series("order", order))
        doubtful, suspect = self._days.add(ready.days), ready.is_suspect
        if doubtful.any():  # few, or none: their dates may turn out to be wrong
            kept = self._quarantine.originals(chunk, ready.index[doubtful])
            self._staging.add_doubtful(
                kept.with_columns(event_time_seconds=ready.moments[doubtful], order=order[doubtful])
            )
        if suspect.any():
            suspects = rows.filter(suspect)
            self._staging.add_suspects(
                suspects.hstack(self._quarantine.originals(chunk, ready.index[suspect]))
            )
            rows = rows.filter(~suspect)
        self._staging.add(rows)

    def finish(self, sources: Sequence[str], rows_of_log: Int64 | None) -> CleanReport:
        """Reject wrong dates, settle repeats, write days and quarantine."""
        if (wrong := self._days.rejected(self._catalogue, self._arrival, rows_of_log)) is not None:
            for dropped in self._staging.drop_days(wrong.first_day):
                self._reject_rows(dropped, partial(self._wrong_dates, wrong))
        for repeats in self._staging.settle_repeats():
            self._reject_rows(repeats, _repeats)
        days, rows = self._staging.finish(self._building)
        self._quarantine.write(self._building / QUARANTINE)
        shutil.rmtree(self._building / STAGING)
        return CleanReport(
            self._rows_in, rows, dict(sorted(self._quarantine.reasons.items())), self._staging.answers_changed,
            self._headers_inside, self._over_lines,
            dict(zip(self._catalogue.flag_names, self._staging.flags.tolist(), strict=True)), days,
            list(sources), self._catalogue.label, self._catalogue.mapping_hash, time_text(self._arrival),
        )  # fmt: skip

    def _wrong_dates(self, wrong: WrongDates, rows: pl.DataFrame) -> dict[str, Any]:
        """Why rows are rejected that are there only by a wrong date."""
        field = self._catalogue.field_of("event_time")
        assert field is not None, "the catalogue checks this"
        return {
            "reason": [Reason.AFTER_ARRIVAL.code] * len(rows), "field": [field.name] * len(rows),
            "detail": [wrong.sentence(field.name, t) for t in rows["event_time_seconds"]],
        }  # fmt: skip

    def _reject_rows(self, rows: pl.DataFrame, why: Callable[[pl.DataFrame], dict[str, Any]]) -> None:
        """Reject staged rows with their original bytes; one that breaks `why` as one that breaks our code."""
        if not len(rows):
            return

        def alone(row: int, error: Exception) -> pl.DataFrame:
            try:
                why(self._ordinary_rows())
            except Exception:  # noqa: BLE001  the first error is more useful
                raise error from None
            return self._quarantine.engine_errors(rows[row : row + 1], error)

        for frame in in_halves(
            lambda begin, end: self._quarantine.frame(rows[begin:end], why(rows[begin:end])), len(rows), alone
        ):
            self._quarantine.take(frame)

    def _reject_staged(self, rows: pl.DataFrame, error: Exception) -> None:
        """Reject staged rows that break our code; those whose bytes were not kept with their columns as JSON."""
        try:
            self._staging.check(self._ordinary_rows())
        except Exception:  # noqa: BLE001  the first error is more useful
            raise error from None
        kept = rows if "raw" in rows.columns else self._as_json(rows)
        self._quarantine.take(self._quarantine.engine_errors(kept, error))

    def _ordinary_rows(self) -> pl.DataFrame:
        """An ordinary record as a staged row, and its repeat."""
        rows = self._ready(self._ordinary_chunk()).rows
        return pl.concat([rows, rows]).with_columns(
            order=pl.Series([0, 1]), reason=pl.Series([int(Reason.DUPLICATE)] * 2, dtype=pl.UInt8)
        )

    def _as_json(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Staged rows with their places and, as their bytes, their columns as JSON."""
        begins = [self._begins[bisect(self._begins, (order, chr(0x10FFFF))) - 1] for order in rows["order"]]
        clean = rows.drop("order", *DIGEST).to_dicts()
        return self._quarantine.places(
            [source for _, source, _ in begins],
            [first + order - begin for order, (begin, _, first) in zip(rows["order"], begins, strict=True)],
            [orjson.dumps(row) for row in clean],
        )


def _repeats(rows: pl.DataFrame) -> dict[str, Any]:
    """Why rows are rejected that are repeats."""
    reasons = [Reason(r) for r in rows["reason"].to_list()]
    return {
        "reason": [r.code for r in reasons], "field": [None] * len(reasons),
        "detail": [_REPEAT_DETAIL[r] for r in reasons],
    }  # fmt: skip


def clean_days(out: Path, catalogue: Catalogue) -> list[tuple[int, Path]]:
    """(day number, Parquet file) of a clean output, oldest first.

    Raises:
        InputError: the directory is not a clean output, or was made with another mapping.
    """
    report = _report_of(out, catalogue)
    return [(parse_day(day), out / f"day={day}" / "part-0.parquet") for day in report["days"]]


def clean_arrival_seconds(out: Path, catalogue: Catalogue) -> int:
    """When the files of a clean output arrived, seconds since 1970.

    Raises:
        InputError: as `clean_days`, or the output was made before arrivals were noted.
    """
    try:
        arrived = datetime.fromisoformat(_report_of(out, catalogue)["arrived"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"'{out / REPORT}' does not say when the files arrived.", hint="Clean the files again."
        ) from error
    return int(arrived.replace(tzinfo=UTC).timestamp())


def _report_of(out: Path, catalogue: Catalogue) -> dict[str, Any]:
    try:
        report = orjson.loads((out / REPORT).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InputError(
            f"'{out}' holds no clean data: {error}.", hint="Make them with `zaslon clean`."
        ) from error
    if not isinstance(report, dict) or "days" not in report:
        raise InputError(
            f"'{out / REPORT}' is not a report of `zaslon clean`.", hint="Clean the files again."
        )
    if report.get("mapping") != catalogue.mapping_hash:
        raise InputError(
            f"'{out}' was cleaned with catalogue {report.get('catalogue')}, whose fields differ "
            f"from those of {catalogue.label}.",
            hint="Clean the files again with this catalogue.",
        )
    return report


def read_clean_day(path: Path, catalogue: Catalogue) -> Transactions:
    """The transactions of one clean day, in log order.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return transactions_of(pl.read_parquet(path), catalogue)
    except (OSError, pl.exceptions.PolarsError, KeyError) as error:
        raise InputError(
            f"Clean day '{path}' cannot be read: {error}.", hint="Clean the files again."
        ) from error
