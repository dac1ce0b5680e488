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
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.clean_report import CleanReport, DatedRows, OverLines
from zaslon.domain.errors import DataError, InputError
from zaslon.domain.events import Transactions
from zaslon.domain.rejections import Reason
from zaslon.domain.time import parse_day, parse_duration_seconds, time_text
from zaslon.intake.chunk_cleaning import ChunkCleaning, ReadyRecords
from zaslon.intake.chunks import Chunk
from zaslon.intake.cleaning import Int64
from zaslon.intake.date_gaps import DayCounts
from zaslon.intake.earlier_days import EarlierDays, KnownIds
from zaslon.intake.earlier_output import REPORT, Earlier, Taking
from zaslon.intake.late_rejections import why_repeats, why_wrong_dates
from zaslon.intake.pseudonyms import table_secret
from zaslon.intake.quarantine import QUARANTINE, Quarantine
from zaslon.intake.repeat_filter import RepeatFilter
from zaslon.intake.settling import DIGEST
from zaslon.intake.sources import read_source
from zaslon.intake.staging import Staging, transactions_of
from zaslon.system.isolation import in_halves
from zaslon.system.opening import local_path
from zaslon.system.replacing import replacing

STAGING = ".staging"


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
    taking: Taking | None = None,
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
        taking: the same sources with what `out` holds, to which they are added; None where `out` keeps no ledger.

    Returns:
        What became of the rows of these sources.

    Raises:
        InputError: a source is not what it should be, `out` holds something else or cannot be
            written, another run is writing it, or nothing says whether the dates of rows after a gap
            are right.
    """
    earlier = None if taking is None else taking.earlier

    def cleaned(building: Path) -> CleanReport:
        cleaning = _Cleaning(building, catalogue, key, repeat_filter_bytes, arrival_time_seconds, earlier)
        for source in sources:
            for chunk in read_source(source, catalogue, chunk_bytes):
                cleaning.add(chunk)
                if progress:
                    progress(len(chunk))
        return cleaning.finish(sources, rows_of_log)

    return publish_clean(sources, out, cleaned, taking)


def publish_clean(
    sources: Sequence[str], out: Path, clean: Callable[[Path], CleanReport], taking: Taking | None = None
) -> CleanReport:
    """Let `clean` write days and quarantine into a new directory, and put it in the place of `out` with its report.

    With `taking` it has a ledger, too, and what `clean` did not write of the earlier output; the report in it is of all.

    Raises:
        InputError: there are no sources, or one lies in `out`; `out` holds something else, cannot be written, or
            another run is writing it.
        DataError: rows in are not clean + rejected.
    """
    if not sources:
        raise InputError("There is nothing to clean.", hint="Name at least one file.")
    _refuse_sources_in(out, sources)
    begin = time.perf_counter()
    with replacing(out, REPORT, "zaslon clean") as building:
        if taking is not None:
            taking.check_place(out)
        report = clean(building)
        check_complete(report)
        whole = report if taking is None else taking.finish(building, report)
        lasting = whole.to_json_dict()
        del lasting["seconds"]  # the same input gives the same bytes, however long it took
        (building / REPORT).write_bytes(
            orjson.dumps(lasting, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        )
    report.seconds = round(time.perf_counter() - begin, 3)
    return report


def check_complete(report: CleanReport) -> None:
    """Rows in = clean + rejected, whatever did the work: an output that lacks rows takes nobody's place.

    Raises:
        DataError: the numbers differ.
    """
    rejected = sum(report.rows_rejected.values())
    if report.rows_in != report.rows_clean + rejected:
        raise DataError(
            f"Of {report.rows_in:,} rows {report.rows_clean:,} came out clean and {rejected:,} rejected.",
            hint="Run it again; if it stays so, report it.",
        )


def _refuse_sources_in(out: Path, sources: Sequence[str]) -> None:
    for source in sources:
        path = local_path(source)
        if path is not None and out.resolve() in path.resolve().parents:
            raise InputError(
                f"'{source}' lies in '{out}', which would be replaced.",
                hint="Name another directory with --out.",
            )


class _Cleaning:
    """One run over all sources."""

    def __init__(
        self, building: Path, catalogue: Catalogue, key: bytes, repeat_filter_bytes: int, arrival: int,
        earlier: Earlier | None,
    ) -> None:  # fmt: skip
        self._building, self._catalogue, self._arrival, self._earlier = building, catalogue, arrival, earlier
        self._days = DayCounts(catalogue.gap_max_seconds)
        if earlier is not None:
            self._days.add_days(earlier.ledger.dated.rows_by_day)
        remember = parse_duration_seconds(catalogue.retention.remember)
        days = EarlierDays(
            {} if earlier is None else earlier.days, remember, has_text_ids=catalogue.has_text_ids
        )
        ids = KnownIds(RepeatFilter(repeat_filter_bytes, table_secret(key)), days)
        self._staging = Staging(
            building / STAGING,
            len(catalogue.flag_names),
            table_secret(key),
            remember,
            self._reject_staged,
            days,
        )
        self._quarantine = Quarantine(building / STAGING, catalogue, key)
        self._chunks = ChunkCleaning(catalogue, key, arrival, self._quarantine, ids.suspects)
        self._rows_in = self._headers_inside = 0
        self._over_lines = OverLines()
        self._begins: list[tuple[int, str, int]] = []  # `order`, source and record with which chunks begin

    def add(self, chunk: Chunk) -> None:
        """Clean one chunk."""
        self._headers_inside += chunk.headers
        for ready in self._chunks.ready(chunk):
            self._take(ready)

    def _take(self, ready: ReadyRecords) -> None:
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
        wrong = self._days.rejected(self._catalogue, self._arrival, rows_of_log)
        if self._earlier is not None:
            self._earlier.check_dates(wrong)
        if wrong is not None:
            for dropped in self._staging.drop_days(wrong.first_day):
                self._reject_rows(dropped, partial(why_wrong_dates, wrong, self._catalogue))
        for repeats in self._staging.settle_repeats():
            self._reject_rows(repeats, why_repeats)
        days, rows = self._staging.finish(self._building)
        self._quarantine.write(self._building / QUARANTINE)
        shutil.rmtree(self._building / STAGING)
        return CleanReport(
            self._rows_in, rows, dict(sorted(self._quarantine.reasons.items())), self._staging.answers_changed,
            self._headers_inside, self._over_lines,
            dict(zip(self._catalogue.flag_names, self._staging.flags.tolist(), strict=True)), days,
            list(sources), self._catalogue.label, self._catalogue.mapping_hash, time_text(self._arrival),
            dated=DatedRows(self._days.rows_by_day(), None if wrong is None else wrong.first_day),
        )  # fmt: skip

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
        rows = self._chunks.ordinary_rows()
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
    return checked_report(report, str(out), catalogue)


def checked_report(report: Any, place: str, catalogue: Catalogue) -> dict[str, Any]:
    """The report of clean days that fit the catalogue.

    Raises:
        InputError: it is none, or of another mapping; `place` is where it was.
    """
    if not isinstance(report, dict) or "days" not in report:
        raise InputError(f"'{place}' holds no report of `zaslon clean`.", hint="Clean the files again.")
    if report.get("mapping") != catalogue.mapping_hash:
        raise InputError(
            f"'{place}' was cleaned with catalogue {report.get('catalogue')}, whose fields differ "
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
