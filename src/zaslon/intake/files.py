"""Clean files: raw sources in, Parquet by day, quarantine and a report out.

1. read chunks          sources
2. clean each           cleaning.clean_fields: the same function as for a stream
3. set suspects aside   repeat_filter
4. reject wrong dates   date_gaps
5. settle repeats, sort and write the days   staging
6. rename into place: all of it or nothing
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
import polars as pl

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import InputError
from zaslon.domain.events import Rejected, Transactions
from zaslon.domain.rejections import Reason
from zaslon.domain.time import parse_day, parse_duration_seconds, time_text
from zaslon.intake.chunks import Chunk
from zaslon.intake.cleaning import CleanFields, Int64, clean_fields
from zaslon.intake.date_gaps import DayCounts, WrongDates
from zaslon.intake.examples import example_row
from zaslon.intake.fields import fields_of_json
from zaslon.intake.hidden_fields import FieldHider, Kept
from zaslon.intake.layouts import Layout
from zaslon.intake.ordinary import check_cleaning, problem_of_fault
from zaslon.intake.over_lines import OverLines, torn_records, without
from zaslon.intake.pseudonyms import table_secret
from zaslon.intake.repeat_filter import RepeatFilter
from zaslon.intake.sources import read_source
from zaslon.intake.staging import Staging, frame_of, transactions_of
from zaslon.system.durable import make_private_file, rename
from zaslon.system.isolation import by_halves
from zaslon.system.opening import local_path
from zaslon.system.replacing import replacing

T = TypeVar("T")

REPORT, QUARANTINE, STAGING = "_report.json", "_quarantine.parquet", ".staging"
_QUARANTINE_SCHEMA = {
    "source": pl.String, "record": pl.Int64, "offset": pl.Int64, "reason": pl.String,
    "field": pl.String, "detail": pl.String, "raw": pl.Binary, "in_clear": pl.Boolean,
}  # fmt: skip
# Rejected rows held in memory before they go to disk, and in a row group of the quarantine.
_QUARANTINE_ROWS_HELD = 100_000
_QUARANTINE_BYTES_HELD = 64 << 20
_ORIGINAL = ("source", "record", "offset", "raw", "layout")
_CODES = {int(reason): reason.code for reason in Reason}
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
    return _clean_chunk(chunk, catalogue, key, arrival_time_seconds, lambda part, found: None)[0]


def _clean_chunk(
    chunk: Chunk, catalogue: Catalogue, key: bytes, arrival_time_seconds: int,
    then: Callable[[Chunk, CleanFields], T],
) -> tuple[CleanFields, list[T]]:  # fmt: skip
    """The same, and what `then` gives of each part of it; a record that breaks `then` is rejected as well."""

    def work(begin: int, end: int) -> tuple[CleanFields, list[T]]:
        part, arrival = chunk.part(begin, end), np.full(end - begin, arrival_time_seconds)
        found = clean_fields(part.fields(catalogue), catalogue, key, arrival)
        return found, [then(part, found)]

    def alone(index: int, error: Exception) -> tuple[CleanFields, list[T]]:
        check_cleaning(catalogue, key, error)
        found = clean_fields(fields_of_json([b""], catalogue), catalogue, key, None)
        return replace(found, rejected=Rejected(found.rejected.index, [(problem_of_fault(error),)])), []

    parts = by_halves(work, len(chunk), alone)
    return CleanFields.concatenate([found for found, _ in parts]), [
        made for _, all_made in parts for made in all_made
    ]


def _as_engine_errors(rows: pl.DataFrame, broken: dict[int, str]) -> pl.DataFrame:
    """Rows of the quarantine, some of which, by index, broke our own code as a sentence says."""
    if not broken:
        return rows
    is_broken = pl.Series([index in broken for index in range(len(rows))])
    detail = pl.Series([broken.get(index) for index in range(len(rows))], dtype=pl.String)
    return rows.with_columns(
        reason=pl.when(is_broken).then(pl.lit(Reason.ENGINE_ERROR.code)).otherwise("reason"),
        field=pl.when(is_broken).then(None).otherwise("field"),
        detail=pl.when(is_broken).then(detail).otherwise("detail"),
    )


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
        )
        self._quarantine: list[pl.DataFrame] = []
        self._held_rows = self._held_bytes = 0  # of the quarantine, in memory
        self._quarantine_parts: list[Path] = []
        self._reasons: dict[str, int] = {}
        self._rows_in = self._headers_inside = 0
        self._over_lines = OverLines()
        self._hider = FieldHider(catalogue, key)
        self._layouts: dict[Layout, int] = {}

    def add(self, chunk: Chunk) -> None:
        """Clean one chunk."""
        self._headers_inside += chunk.headers
        torn: dict[int, pl.DataFrame] = {}

        def look_at_lines(part: Chunk, found: CleanFields) -> tuple[dict[int, pl.DataFrame], OverLines]:
            before = part.first_record - chunk.first_record
            lines, others = torn_records(part, found.rejected, self._catalogue)
            return {before + record: of_record for record, of_record in lines.items()}, others

        found, looks = _clean_chunk(chunk, self._catalogue, self._key, self._arrival, look_at_lines)
        for lines, others in looks:
            torn |= lines
            self._over_lines.join(others)
        order = self._rows_in + found.index
        self._rows_in += len(chunk)
        self._reject_lines(chunk, torn)
        self._reject(chunk, without(found.rejected, set(torn)))
        transactions = found.transactions
        self._set_doubtful_aside(chunk, found)
        suspect = self._filter.suspects(transactions.transaction_id)
        if not suspect.any():
            self._keep(transactions, order)
            return
        self._keep(transactions.take(~suspect), order[~suspect])
        rows = frame_of(transactions.take(suspect)).with_columns(pl.Series("order", order[suspect]))
        self._staging.add_suspects(rows.hstack(self._originals(chunk, found.index[suspect])))

    def _set_doubtful_aside(self, chunk: Chunk, found: CleanFields) -> None:
        """Keep the original bytes of rows whose date may turn out to be wrong: few, or none."""
        moments = found.transactions.event_time_seconds
        doubtful = self._days.add(moments)
        if doubtful.any():
            rows = self._originals(chunk, found.index[doubtful])
            self._staging.add_doubtful(rows.with_columns(event_time_seconds=moments[doubtful]))

    def _keep(self, transactions: Transactions, order: Int64) -> None:
        self._staging.add(frame_of(transactions).with_columns(pl.Series("order", order)))

    def _reject_lines(self, chunk: Chunk, torn: dict[int, pl.DataFrame]) -> None:
        """Reject records line by line."""
        if not torn:
            return
        layout = pl.lit(self._number_of(chunk.layout), pl.Int64)
        lines = pl.concat(torn.values()).with_columns(layout=layout)
        self._hold(lines["reason"].to_list(), lines.to_dict(), are_torn=True)
        self._rows_in += len(lines) - len(torn)

    def _reject(self, chunk: Chunk, rejected: Rejected) -> None:
        if not len(rejected):
            return
        self._hold(
            [_CODES[r] for r in rejected.reason.tolist()],
            {
                **self._originals(chunk, rejected.index).to_dict(),
                "field": rejected.field,
                "detail": rejected.detail,
            },
        )

    def _hold(self, codes: list[str], columns: dict[str, Any], *, are_torn: bool = False) -> None:
        """Count rejected rows and keep them; many of them go to disk. `are_torn`: they are lines of one record."""
        most = self._catalogue.record.max_record_bytes
        frame = self._hidden(pl.DataFrame({**columns, "reason": codes}, schema_overrides=_QUARANTINE_SCHEMA))
        for (code, name), count in Counter(zip(frame["reason"], frame["field"], strict=True)).items():
            reason = f"{code}:{name}" if name else code
            self._reasons[reason] = self._reasons.get(reason, 0) + count
        if are_torn and self._hider.has_work:  # which line has which fields is a guess
            frame = frame.with_columns(in_clear=pl.lit(value=True))
        too_long = pl.col("reason") == Reason.TOO_LONG.code
        raw = pl.when(too_long).then(pl.col("raw").bin.head(most)).otherwise("raw").alias("raw")
        self._quarantine.append(frame.with_columns(raw).select(*_QUARANTINE_SCHEMA))
        self._held_rows += len(frame)
        self._held_bytes += int(self._quarantine[-1].estimated_size())
        if self._held_rows >= _QUARANTINE_ROWS_HELD or self._held_bytes >= _QUARANTINE_BYTES_HELD:
            self._spill_quarantine()

    def _hidden(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of the quarantine without values of pseudonymised fields; `in_clear` where one may be left."""
        if not self._hider.has_work:
            return rows.with_columns(in_clear=pl.lit(False))
        layouts, parts = list(self._layouts), []
        for part in rows.partition_by("layout", maintain_order=True):
            kept, broken = self._hide(part["raw"].to_list(), layouts[part["layout"][0]])
            raws, in_clear = zip(*kept, strict=True)
            columns = pl.Series("raw", raws, pl.Binary), pl.Series("in_clear", in_clear, pl.Boolean)
            parts.append(_as_engine_errors(part.with_columns(columns), broken))
        return pl.concat(parts)

    def _hide(self, raws: list[bytes], layout: Layout) -> tuple[list[Kept], dict[int, str]]:
        """Rows as they may be kept. One that breaks the hiding is kept as it came, and named with a sentence."""
        broken: dict[int, str] = {}

        def alone(index: int, error: Exception) -> list[Kept]:
            self._check_hiding(layout, error)
            broken[index] = problem_of_fault(error).detail
            return [Kept(raws[index], in_clear=True)]

        parts = by_halves(lambda begin, end: self._hider.hide(raws[begin:end], layout), len(raws), alone)
        return [kept for part in parts for kept in part], broken

    def _check_hiding(self, layout: Layout, error: Exception) -> None:
        """Raise `error` where an ordinary row breaks the hiding, too: then no row is to blame for it."""
        try:
            self._hider.hide([example_row(self._catalogue, layout)], layout)
        except Exception:  # noqa: BLE001  the first error is more useful
            raise error from None

    def _originals(self, chunk: Chunk, rows: Int64) -> pl.DataFrame:
        """The places of rows of a chunk in their source, their bytes, and the number of their layout."""
        return pl.DataFrame(
            {
                "source": pl.Series([chunk.source] * len(rows), dtype=pl.String),
                "record": chunk.first_record + rows,
                "offset": chunk.offsets(rows),
                "raw": pl.Series(chunk.originals(rows.tolist()), dtype=pl.Binary),
                "layout": pl.Series([self._number_of(chunk.layout)] * len(rows), dtype=pl.Int64),
            }
        )

    def _number_of(self, layout: Layout) -> int:
        return self._layouts.setdefault(layout, len(self._layouts))

    def _spill_quarantine(self) -> None:
        name = f"quarantine-{len(self._quarantine_parts):06d}.arrow"
        path = make_private_file(self._building / STAGING / name)
        pl.concat(self._quarantine).write_ipc(path, compression="uncompressed")
        self._quarantine_parts.append(path)
        self._quarantine, self._held_rows, self._held_bytes = [], 0, 0

    def finish(self, sources: Sequence[str], rows_of_log: Int64 | None) -> CleanReport:
        """Reject wrong dates, settle repeats, write days and quarantine."""
        if (wrong := self._days.rejected(self._catalogue, self._arrival, rows_of_log)) is not None:
            for dropped in self._staging.drop_days(wrong.first_day):
                self._reject_wrong_dates(wrong, dropped)
        for repeats in self._staging.settle_repeats():
            self._reject_repeats(repeats)
        days, rows = self._staging.finish(self._building)
        self._write_quarantine()
        shutil.rmtree(self._building / STAGING)
        return CleanReport(
            self._rows_in, rows, dict(sorted(self._reasons.items())), self._staging.answers_changed,
            self._headers_inside, self._over_lines,
            dict(zip(self._catalogue.flag_names, self._staging.flags.tolist(), strict=True)), days,
            list(sources), self._catalogue.label, self._catalogue.mapping_hash, time_text(self._arrival),
        )  # fmt: skip

    def _write_quarantine(self) -> None:
        """One file, streamed: even where every row of the input was rejected."""
        self._quarantine.append(pl.DataFrame(schema=_QUARANTINE_SCHEMA))
        self._spill_quarantine()
        path = make_private_file(self._building / QUARANTINE)
        pl.scan_ipc(self._quarantine_parts).sink_parquet(
            path, compression="zstd", row_group_size=_QUARANTINE_ROWS_HELD
        )

    def _reject_wrong_dates(self, wrong: WrongDates, rows: pl.DataFrame) -> None:
        if not len(rows):
            return
        field = self._catalogue.field_of("event_time")
        assert field is not None, "the catalogue checks this"
        self._hold(
            [Reason.AFTER_ARRIVAL.code] * len(rows),
            {
                **rows.select(_ORIGINAL).to_dict(),
                "field": [field.name] * len(rows),
                "detail": [wrong.sentence(field.name, t) for t in rows["event_time_seconds"]],
            },
        )

    def _reject_repeats(self, repeats: pl.DataFrame) -> None:
        if not len(repeats):
            return
        reasons = [Reason(r) for r in repeats["reason"].to_list()]
        self._hold(
            [r.code for r in reasons],
            {
                **repeats.select(_ORIGINAL).to_dict(),
                "field": [None] * len(reasons),
                "detail": [_REPEAT_DETAIL[r] for r in reasons],
            },
        )


def forget_raw_rows(quarantine: Path) -> None:
    """Remove the bytes of rejected rows from a quarantine, and what sentences quote of them; reasons and places stay.

    Raises:
        OSError, PolarsError: it cannot be read or written.
    """
    rows = pl.scan_parquet(quarantine, glob=False)
    if rows.select("raw").head(1).collect()["raw"].null_count() or not rows.select(pl.len()).collect().item():
        return
    partial = quarantine.with_name(f".{quarantine.name}.forgetting")
    make_private_file(partial)
    subject = pl.concat_str(pl.lit("Field '"), "field", pl.lit("'")).fill_null("The record")
    without = rows.with_columns(
        raw=pl.lit(None, pl.Binary), in_clear=pl.lit(value=False),
        detail=pl.concat_str(subject, pl.lit(" is no longer kept.")),
    )  # fmt: skip
    without.sink_parquet(partial, compression="zstd", row_group_size=_QUARANTINE_ROWS_HELD)
    rename(partial, quarantine)


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
