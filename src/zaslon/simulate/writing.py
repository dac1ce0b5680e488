"""Simulated days → files: the mission's text, CSV, JSON lines or the handbook's Parquet."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
import polars as pl

from zaslon.domain.errors import ZaslonError, did_you_mean
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.simulate.defects import DEFECTS, DirtyDay, make_dirty
from zaslon.simulate.profiles import SimulationProfile, whole_number
from zaslon.simulate.text_lines import COLUMNS, LINE_BYTES_MAX, TextFormat, format_rows, header
from zaslon.simulate.world import simulate_days
from zaslon.system.durable import make_directory, rename
from zaslon.system.zstd import zstd

Format = Literal["mission", "csv", "jsonl", "parquet"]
_FORMATS = ("mission", "csv", "jsonl", "parquet")
_PACKED = (".gz", ".zst")
ROWS_MAX = 10**12
_PART_ROWS = 100_000


@dataclass
class SimulationReport:
    """What was written, counted over the rows that are in the file.

    Attributes:
        path: the file.
        rows: rows, repeats included.
        days: days begun.
        frauds: rows by scenario `1`, `2`, `3`.
        defects: rows by name of `DEFECTS`; a row is counted once, so the sums must agree with a
            cleaning report to the row.
    """

    path: str
    rows: int = 0
    days: int = 0
    frauds: dict[str, int] = field(default_factory=lambda: {"1": 0, "2": 0, "3": 0})
    defects: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DEFECTS, 0))

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def _add(self, dirty: DirtyDay, part: slice) -> None:
        self.rows += len(dirty.rows[part])
        scenarios = np.bincount(dirty.day.scenario[dirty.rows[part]], minlength=4)
        for scenario in self.frauds:
            self.frauds[scenario] += int(scenarios[int(scenario)])
        for name, count in dirty.counts(part).items():
            self.defects[name] += count


def write_simulation(
    profile: SimulationProfile,
    days: int,
    seed: int,
    out: Path,
    *,
    rows: int | None = None,
    format: Format | None = None,  # noqa: A002  the command's word
    progress: Callable[[int], None] | None = None,
) -> SimulationReport:
    """Write a simulation; text is compressed where `out` ends with .gz or .zst.

    Without a format it is Parquet, CSV or JSON lines where `out` ends with .parquet, .csv or .jsonl
    (before .gz or .zst), and the mission's text else.

    The file appears under its name only when it is complete. `rows` stops after exactly that many
    rows, if the days hold so many; `progress` is called with the rows of each part. Parquet has
    typed columns: a terminal that is not a number and a time of 24:00:00 are nulls there.

    Raises:
        ZaslonError: numbers out of range, an unknown format, or a place that cannot be written.
    """
    format = format or _format_by_name(out)  # noqa: A001
    _check(rows, out, format)
    simulated = simulate_days(profile, days, seed)
    dirty_days = (make_dirty(day, profile, seed) for day in simulated)
    report = SimulationReport(str(out))
    parts = _parts(dirty_days, report, rows, progress)
    partial = out.with_name(out.name + ".partial")
    try:
        make_directory(out.parent)
        if format == "parquet":
            _write_parquet(parts, partial)
        else:
            _write_text(parts, partial, out.suffix, format)
        rename(partial, out)
    except OSError as error:
        raise ZaslonError(f"'{out}' cannot be written: {error}.") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return report


def _format_by_name(out: Path) -> Format:
    name = out.stem if out.suffix in _PACKED else out.name
    ending = Path(name).suffix.removeprefix(".")
    return cast(Format, ending) if ending in _FORMATS else "mission"


def _check(rows: int | None, out: Path, format: str) -> None:  # noqa: A002
    if format not in _FORMATS:
        raise ZaslonError(f"Unknown format '{format}'.", hint=did_you_mean(format, _FORMATS))
    if rows is not None:
        whole_number("rows", rows, 1, ROWS_MAX)
    if format == "parquet" and out.suffix in _PACKED:
        raise ZaslonError(
            f"'{out}' would be Parquet under the name of compressed text.",
            hint="Parquet is compressed inside: give a name that ends with .parquet.",
        )
    if format != "parquet" and out.suffix == ".parquet":
        raise ZaslonError(
            f"'{out}' would be text under the name of Parquet.",
            hint="Leave --format out, or give a name that ends otherwise.",
        )
    if out.is_dir():
        raise ZaslonError(f"'{out}' is a directory.", hint="Give the name of a file.")


def _parts(
    dirty_days: Iterator[DirtyDay], report: SimulationReport, rows: int | None,
    progress: Callable[[int], None] | None,
) -> Iterator[tuple[DirtyDay, slice]]:  # fmt: skip
    """The rows to write in parts of bounded size; each is counted once it has been written."""
    for dirty in dirty_days:
        report.days += 1
        today = len(dirty.rows) if rows is None else min(len(dirty.rows), rows - report.rows)
        for begin in range(0, today, _PART_ROWS):
            part = slice(begin, min(begin + _PART_ROWS, today))
            yield dirty, part
            report._add(dirty, part)
            if progress:
                progress(part.stop - part.start)
        if rows is not None and report.rows >= rows:
            return


def _write_text(
    parts: Iterator[tuple[DirtyDay, slice]], path: Path, suffix: str, format: TextFormat,  # noqa: A002
) -> None:  # fmt: skip
    buffer = np.empty(_PART_ROWS * LINE_BYTES_MAX, np.uint8)
    with _opened(path, suffix) as file:
        file.write(header(format))
        for dirty, part in parts:
            length = format_rows(dirty, part, format, buffer)
            file.write(buffer[:length].data)


@contextmanager
def _opened(path: Path, suffix: str) -> Iterator[IO[bytes]]:
    with path.open("wb") as raw:
        if suffix == ".gz":
            # No name and no time in the header: the same seed gives the same bytes.
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as file:
                yield cast(IO[bytes], file)
        elif suffix == ".zst":
            with zstd.ZstdFile(raw, "wb", level=1) as packed:
                yield cast(IO[bytes], packed)
        else:
            yield raw


def _write_parquet(parts: Iterator[tuple[DirtyDay, slice]], path: Path) -> None:
    """Write each part to a scratch file, then stream all into one: memory stays constant."""
    with tempfile.TemporaryDirectory(prefix=path.name, dir=path.parent) as scratch:
        written: list[Path] = []
        for dirty, part in parts:
            written.append(Path(scratch, f"{len(written)}.parquet"))
            _frame(dirty, part).write_parquet(written[-1], compression="zstd")
        if not written:
            pl.DataFrame(schema=_SCHEMA).write_parquet(path)
            return
        pl.scan_parquet(written).sink_parquet(path, compression="zstd")


_TYPES: tuple[type[pl.DataType] | pl.DataType, ...] = (
    pl.Int64, pl.Datetime("us"), pl.Int64, pl.Int64, pl.Float64,
    pl.Int64, pl.Int32, pl.Int8, pl.Int8,
)  # fmt: skip
_SCHEMA = pl.Schema(zip(COLUMNS, _TYPES, strict=True))


def _frame(dirty: DirtyDay, part: slice) -> pl.DataFrame:
    day, rows = dirty.day, dirty.rows[part]
    second, terminal = day.second_of_day[rows], day.terminal_id[rows]
    moment = (day.day * SECONDS_PER_DAY + second.astype(np.int64)) * 1_000_000
    values = (
        day.transaction_id[rows],
        pl.Series(moment).cast(pl.Datetime("us")).set(pl.Series(second == SECONDS_PER_DAY), None),
        day.customer_id[rows],
        pl.Series(terminal).set(pl.Series(terminal < 0), None),
        day.amount_minor[rows] / 100,
        dirty.elapsed_seconds[rows],
        np.full(len(rows), dirty.elapsed_days),
        day.is_fraud[rows].astype(np.int8),
        day.scenario[rows],
    )
    return pl.DataFrame(dict(zip(COLUMNS, values, strict=True)), schema_overrides=_SCHEMA)
