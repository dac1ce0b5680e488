"""Simulated days → files: the mission's text, CSV, JSON lines or the handbook's Parquet."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import polars as pl
import zstandard
from numpy.typing import NDArray

from zaslon.domain.compiled import compiled, inlined
from zaslon.domain.errors import ZaslonError
from zaslon.domain.time import SECONDS_PER_DAY, day_text
from zaslon.simulate.defects import DirtyDay, make_dirty
from zaslon.simulate.profiles import SimulationProfile
from zaslon.simulate.world import SimulatedDay, simulate_days

Format = Literal["mission", "csv", "jsonl", "parquet"]
# The mission's header, literally: the typo and the pipes stand in the real files.
MISSION_HEADER = (
    b"# tranaction_id | tx_datetime | customer_id | terminal_id | tx_amount | tx_time_seconds"
    b" | tx_time_days | tx_fraud | tx_fraud_scenario\n"
)
COLUMNS = (
    "TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT",
    "TX_TIME_SECONDS", "TX_TIME_DAYS", "TX_FRAUD", "TX_FRAUD_SCENARIO",
)  # fmt: skip
_LINE_BYTES_MAX = 160
_PART_ROWS = 250_000


@dataclass
class SimulationReport:
    """What was written: rows, frauds by scenario, injected defects by name."""

    path: str
    rows: int = 0
    days: int = 0
    frauds: dict[str, int] = field(default_factory=lambda: {"1": 0, "2": 0, "3": 0})
    defects: dict[str, int] = field(default_factory=dict)

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def write_simulation(
    profile: SimulationProfile,
    days: int,
    seed: int,
    out: Path,
    *,
    rows: int | None = None,
    format: Format = "mission",  # noqa: A002  the command's word
    progress: Callable[[int], None] | None = None,
) -> SimulationReport:
    """Write a simulation; text is compressed where `out` ends with .gz or .zst.

    The file appears under its name only when it is complete. `rows` stops after exactly that
    many rows (Parquet: after the day that reaches it).

    Raises:
        ZaslonError: numbers out of range, an unknown format, or a place that cannot be written.
    """
    if days < 1 or (rows is not None and rows < 1) or seed < 0:
        raise ZaslonError("days and rows must be at least 1 and the seed at least 0.")
    report = SimulationReport(str(out))
    partial = out.with_name(out.name + ".partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if format == "parquet":
            _write_parquet(profile, days, seed, partial, report, rows, progress)
        else:
            _write_text(profile, days, seed, partial, out.suffix, report, rows, format, progress)
        partial.replace(out)
    except OSError as error:
        raise ZaslonError(f"'{out}' cannot be written: {error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return report


def _dirty_days(
    profile: SimulationProfile, days: int, seed: int, report: SimulationReport
) -> Iterator[DirtyDay]:
    for day in simulate_days(profile, days, seed):
        dirty = make_dirty(day, profile.start_day, profile.defects, seed)
        report.days += 1
        for name, count in dirty.counts.items():
            report.defects[name] = report.defects.get(name, 0) + count
        yield dirty


def _count(report: SimulationReport, scenario: NDArray[np.int8]) -> None:
    report.rows += len(scenario)
    for kind in report.frauds:
        report.frauds[kind] += int(np.count_nonzero(scenario == int(kind)))


def _write_text(
    profile: SimulationProfile, days: int, seed: int, path: Path, suffix: str,
    report: SimulationReport, rows: int | None, format: Format,  # noqa: A002
    progress: Callable[[int], None] | None,
) -> None:  # fmt: skip
    buffer = np.empty(_PART_ROWS * _LINE_BYTES_MAX, np.uint8)
    with _opened(path, suffix) as file:
        file.write(MISSION_HEADER if format == "mission" else b"")
        file.write((",".join(COLUMNS) + "\n").encode() if format == "csv" else b"")
        for dirty in _dirty_days(profile, days, seed, report):
            left = None if rows is None else rows - report.rows
            for begin in range(0, len(dirty.rows[:left]), _PART_ROWS):
                part = dirty.rows[:left][begin : begin + _PART_ROWS]
                length = _format_rows(dirty, part, profile, format, buffer)
                file.write(memoryview(buffer)[:length])
                _count(report, dirty.day.scenario[part])
                if progress:
                    progress(len(part))
            if rows is not None and report.rows >= rows:
                return


def _format_rows(
    dirty: DirtyDay, part: NDArray[np.int64], profile: SimulationProfile,
    format: Format, buffer: NDArray[np.uint8],  # noqa: A002
) -> int:  # fmt: skip
    day = dirty.day
    keys = [f'"{name}":' for name in COLUMNS]
    before = [("{" if i == 0 else ",") + key for i, key in enumerate(keys)]
    texts = before if format == "jsonl" else ["" if i == 0 else "," for i in range(len(COLUMNS))]
    ends = np.cumsum([len(t) for t in texts])
    return _format(
        buffer, part,
        np.frombuffer("".join(texts).encode(), np.uint8), np.concatenate([[0], ends]),
        format == "jsonl", np.frombuffer(day_text(day.day).encode(), np.uint8),
        day.transaction_id, day.second_of_day, day.customer_id, day.terminal_id,
        day.amount_minor, dirty.elapsed_seconds, day.day - profile.start_day, day.scenario,
    )  # fmt: skip


@contextmanager
def _opened(path: Path, suffix: str) -> Iterator[IO[bytes]]:
    with path.open("wb") as raw:
        if suffix == ".gz":
            # No name and no time in the header: the same seed gives the same bytes.
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as file:
                yield file  # type: ignore[misc]
        elif suffix == ".zst":
            with zstandard.ZstdCompressor(level=1).stream_writer(raw) as file:
                yield file  # type: ignore[misc]
        else:
            yield raw


@inlined
def _put_integer(buffer: NDArray[np.uint8], at: int, value: int) -> int:
    if value < 0:
        buffer[at] = 45
        at += 1
        value = -value
    digits = 1
    bound = 10
    while digits < 19 and value >= bound:
        digits += 1
        bound *= 10
    for i in range(at + digits - 1, at - 1, -1):
        buffer[i] = 48 + value % 10
        value //= 10
    return at + digits


@inlined
def _put_two(buffer: NDArray[np.uint8], at: int, value: int) -> int:
    buffer[at] = 48 + value // 10
    buffer[at + 1] = 48 + value % 10
    return at + 2


@inlined
def _put_text(buffer: NDArray[np.uint8], at: int, text: NDArray[np.uint8], begin: int, end: int) -> int:
    for i in range(begin, end):
        buffer[at] = text[i]
        at += 1
    return at


@inlined
def _put_terminal(buffer: NDArray[np.uint8], at: int, terminal: int) -> int:
    """A terminal, or one of the texts that stand in its place: `Err`, `None`, nothing."""
    if terminal >= 0:
        return _put_integer(buffer, at, terminal)
    if terminal == -1:
        buffer[at], buffer[at + 1], buffer[at + 2] = 69, 114, 114
        return at + 3
    if terminal == -2:
        buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3] = 78, 111, 110, 101
        return at + 4
    return at


@compiled
def _format(
    buffer: NDArray[np.uint8], rows: NDArray[np.int64], texts: NDArray[np.uint8],
    ends: NDArray[np.int64], is_json: bool, date: NDArray[np.uint8],
    transaction_id: NDArray[np.int64], second: NDArray[np.int32], customer: NDArray[np.int64],
    terminal: NDArray[np.int64], amount: NDArray[np.int64], elapsed: NDArray[np.int64],
    days: int, scenario: NDArray[np.int8],
) -> int:  # fmt: skip
    """Write the rows as text into `buffer`; returns the bytes written."""
    at = 0
    for row in rows:
        at = _put_text(buffer, at, texts, ends[0], ends[1])
        at = _put_integer(buffer, at, transaction_id[row])
        at = _put_text(buffer, at, texts, ends[1], ends[2])
        if is_json:
            buffer[at] = 34
            at += 1
        at = _put_text(buffer, at, date, 0, date.size)
        buffer[at] = 32
        at = _put_two(buffer, at + 1, second[row] // 3600)
        buffer[at] = 58
        at = _put_two(buffer, at + 1, second[row] // 60 % 60)
        buffer[at] = 58
        at = _put_two(buffer, at + 1, second[row] % 60)
        if is_json:
            buffer[at] = 34
            at += 1
        at = _put_text(buffer, at, texts, ends[2], ends[3])
        at = _put_integer(buffer, at, customer[row])
        at = _put_text(buffer, at, texts, ends[3], ends[4])
        if is_json and terminal[row] < 0:
            buffer[at] = 34
            at = _put_terminal(buffer, at + 1, terminal[row])
            buffer[at] = 34
            at += 1
        else:
            at = _put_terminal(buffer, at, terminal[row])
        at = _put_text(buffer, at, texts, ends[4], ends[5])
        at = _put_integer(buffer, at, amount[row] // 100)
        buffer[at] = 46
        at = _put_two(buffer, at + 1, amount[row] % 100)
        at = _put_text(buffer, at, texts, ends[5], ends[6])
        at = _put_integer(buffer, at, elapsed[row])
        at = _put_text(buffer, at, texts, ends[6], ends[7])
        at = _put_integer(buffer, at, days)
        at = _put_text(buffer, at, texts, ends[7], ends[8])
        at = _put_integer(buffer, at, 1 if scenario[row] > 0 else 0)
        at = _put_text(buffer, at, texts, ends[8], ends[9])
        at = _put_integer(buffer, at, scenario[row])
        if is_json:
            buffer[at] = 125
            at += 1
        buffer[at] = 10
        at += 1
    return at


def _write_parquet(
    profile: SimulationProfile, days: int, seed: int, path: Path,
    report: SimulationReport, rows: int | None, progress: Callable[[int], None] | None,
) -> None:  # fmt: skip
    """The handbook's columns, a row group a day; days are streamed through a scratch directory."""
    parts = path.with_name(path.name + ".days")
    parts.mkdir(exist_ok=True)
    try:
        for day in simulate_days(profile, days, seed):
            left = None if rows is None else rows - report.rows
            frame = _frame(day, profile)[:left]
            frame.write_parquet(parts / f"{day.day}.parquet", compression="zstd")
            _count(report, frame["TX_FRAUD_SCENARIO"].to_numpy())
            report.days += 1
            if progress:
                progress(len(frame))
            if rows is not None and report.rows >= rows:
                break
        pl.scan_parquet(sorted(parts.glob("*.parquet"))).sink_parquet(path, compression="zstd")
    finally:
        for part in parts.glob("*.parquet"):
            part.unlink()
        parts.rmdir()


def _frame(day: SimulatedDay, profile: SimulationProfile) -> pl.DataFrame:
    moment = day.day * SECONDS_PER_DAY + day.second_of_day.astype(np.int64)
    elapsed = moment - profile.start_day * SECONDS_PER_DAY
    columns = (
        day.transaction_id, pl.Series(moment * 1_000_000).cast(pl.Datetime("us")),
        day.customer_id, day.terminal_id, day.amount_minor / 100, elapsed,
        np.full(len(day), day.day - profile.start_day, np.int64),
        (day.scenario > 0).astype(np.int8), day.scenario,
    )  # fmt: skip
    return pl.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
