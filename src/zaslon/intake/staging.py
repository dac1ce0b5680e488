"""Between reading and the clean days: rows by day on disk, suspects aside, then everything final."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import ID_TEXT, NO_KEY, Transactions, public_ids
from zaslon.domain.time import DAYS_MAX, SECONDS_PER_DAY, day_text
from zaslon.intake.earlier_days import EarlierDays
from zaslon.intake.settling import DIGEST, SETTLING, TEXT, Settled, among, settle
from zaslon.system.durable import PRIVATE_DIRECTORY, make_directory, make_private_file
from zaslon.system.isolation import by_halves, in_halves
from zaslon.system.siphash import hashes_of, secret_words

# Rows held in memory before they go to disk, and suspects looked up in one pass.
_ROWS_HELD_MAX = 2_000_000
_SUSPECTS_PER_PASS = 2_000_000
# Rows of clean days are in this order, which is that of the log.
LOG_ORDER = ("event_time_seconds", "transaction_id")


def frame_of(transactions: Transactions) -> pl.DataFrame:
    """Clean transactions as the columns of the staged rows.

    Bits are in signed columns: not every reader of Parquet knows unsigned ones (Spark makes decimals of them).
    """
    columns = {
        **(
            {}
            if transactions.id_text is None
            else {TEXT: pl.Series(public_ids(transactions), dtype=pl.String)}
        ),
        "transaction_id": transactions.transaction_id,
        "event_time_seconds": transactions.event_time_seconds,
        "amount_minor": transactions.amount_minor,
        **{f"{name}_key": _with_nulls(keys) for name, keys in transactions.entity_keys.items()},
        **transactions.numbers,
        "flags": transactions.flags.view(np.int32),
        **{name: transactions.digest[:, half].view(np.int64) for half, name in enumerate(DIGEST)},
        "is_fraud": transactions.is_fraud,
        "scenario": transactions.scenario,
    }
    return pl.DataFrame(columns)


def _with_nulls(keys: NDArray[np.int64]) -> pl.Series:
    """Keys of an entity, null where there is none."""
    is_missing = keys == NO_KEY
    return pl.Series(keys).set(pl.Series(is_missing), None) if is_missing.any() else pl.Series(keys)


def transactions_of(frame: pl.DataFrame, catalogue: Catalogue) -> Transactions:
    """The transactions in a day of the clean Parquet, where `transaction_id` is what people know them by."""
    id_text = None
    if catalogue.has_text_ids:
        id_text = np.array(frame["transaction_id"].cast(pl.Binary).to_list(), ID_TEXT)
        frame = frame.drop("transaction_id").rename({"transaction_key": "transaction_id"})
    column = {name: frame[name].to_numpy() for name in frame.columns}
    return Transactions(
        column["transaction_id"], column["event_time_seconds"], column["amount_minor"],
        {name: frame[f"{name}_key"].fill_null(NO_KEY).to_numpy() for name in catalogue.entities},
        {name: column[name] for name in catalogue.number_fields},
        column["flags"].view(np.uint32), np.column_stack([column[name].view(np.uint64) for name in DIGEST]),
        column["is_fraud"], column["scenario"], id_text,
    )  # fmt: skip


Part = Path | pl.DataFrame  # rows of one day, on disk or in memory


class Staging:
    """Rows on their way to the clean days. `order` is the row's number in the whole input.

    At most _ROWS_HELD_MAX rows are held in memory, those of the last days to be written as well: an input
    of no more than that is never written before its days are.

    Args:
        directory: for rows that are not held; made here.
        flags: how many flags a row may have; `flags` counts the rows of the days that have each.
        secret: 16 bytes that key the hash of ids.
        remember_seconds: for how long an id is known; a row this much before or after another one uses it again.
        broken: takes rows that break our own code, with the columns that they were given with; where ordinary
            rows break it, too, it raises the error.
        earlier: clean days of files that were taken before, whose rows come first.
    """

    def __init__(
        self, directory: Path, flags: int, secret: bytes, remember_seconds: int,
        broken: Callable[[pl.DataFrame, Exception], None], earlier: EarlierDays | None = None,
    ) -> None:  # fmt: skip
        make_directory(directory)  # original bytes go into it
        self._remember_seconds = remember_seconds
        self._secret = secret_words(secret)
        self._directory, self.flags = directory, np.zeros(flags, np.int64)
        self._held: list[pl.DataFrame] = []
        self._held_rows = 0
        self._parts: dict[int, list[Part]] = {}
        self._kept_rows = 0  # in memory among the parts
        self._suspects: list[Path] = []
        self._doubtful: list[Path] = []
        self._answers: dict[int, list[Path]] = {}
        self.answers_changed = 0
        self._first_dropped_day = DAYS_MAX
        self._broken = broken
        self._earlier = earlier or EarlierDays({}, remember_seconds)
        self._orders_aside: list[int] = []  # of rows that broke our code

    def add(self, rows: pl.DataFrame) -> None:
        """Rows that are certainly no repeats."""
        self._held.append(rows)
        self._held_rows += len(rows)
        if self._held_rows >= _ROWS_HELD_MAX:
            self._flush()

    def add_suspects(self, rows: pl.DataFrame) -> None:
        """Rows that may be repeats, with `source`, `record`, `offset`, `raw` and `layout`."""
        self._suspects.append(self._written(rows, f"suspects-{len(self._suspects):06d}"))

    def add_doubtful(self, rows: pl.DataFrame) -> None:
        """Original bytes of rows whose days may be dropped, beside `add` and `add_suspects`.

        Columns: `event_time_seconds`, `order`, `source`, `record`, `offset`, `raw`, `layout`.
        """
        self._doubtful.append(self._written(rows, f"doubtful-{len(self._doubtful):06d}"))

    def drop_days(self, first_day: int) -> Iterator[pl.DataFrame]:
        """Drop the rows of the days from `first_day` on; yields them as `add_doubtful` took them.

        Call it before repeats are settled: a dropped row is not the first of its id.
        """
        self._flush(is_input_over=True)
        self._first_dropped_day = first_day
        for day in [day for day in self._parts if day >= first_day]:
            for part in self._parts.pop(day):
                self._discard(part)
        for path in self._doubtful:
            rows = _read(path).filter(first_day <= _DAY)
            yield rows.filter(~pl.col("order").is_in(self._orders_aside)) if self._orders_aside else rows

    def _flush(self, *, is_input_over: bool = False) -> None:
        """Put the held rows aside by day: on disk, or in memory where no more input comes."""
        if not self._held_rows:
            return
        stays = is_input_over and self._kept_rows + self._held_rows <= _ROWS_HELD_MAX
        rows = pl.concat(self._held)
        self._held, self._held_rows = [], 0

        def alone(row: int, error: Exception) -> list[tuple[int, pl.DataFrame]]:
            self._set_aside(rows[row : row + 1], error)
            return []

        for days in in_halves(lambda begin, end: _by_day(rows[begin:end]), len(rows), alone):
            for day, part in days:
                parts = self._parts.setdefault(day, [])
                parts.append(part if stays else self._written(part, f"day-{day}-{len(parts):06d}"))
                self._kept_rows += len(part) if stays else 0

    def _written(self, rows: pl.DataFrame, name: str) -> Path:
        path = make_private_file(self._directory / f"{name}.arrow")
        rows.write_ipc(path, compression="uncompressed")
        return path

    def _discard(self, part: Part) -> None:
        if isinstance(part, Path):
            part.unlink()
        else:
            self._kept_rows -= len(part)

    def settle_repeats(self) -> Iterator[pl.DataFrame]:
        """Look every suspect up exactly; yields those that are repeats, with their `reason`.

        Of records with one id, less than `remember_seconds` apart, the first in the order of input is kept.
        Suspects that are not repeats join the rest.
        """
        self._flush(is_input_over=True)
        count = sum(len(_read(path, ["transaction_id"])) for path in self._suspects)
        passes = -(-count // _SUSPECTS_PER_PASS)
        for number in range(passes):
            suspects = pl.concat([self._of_pass(number, passes, _read(path)) for path in self._suspects])
            if len(suspects):
                yield from self._settle(suspects.sort("order"))
        self._flush(is_input_over=True)

    def _of_pass(self, number: int, passes: int, rows: pl.DataFrame) -> pl.DataFrame:
        """The suspects that one pass settles. The hash is keyed: no choice of ids puts all into one pass."""
        hashes = hashes_of(rows["transaction_id"].to_numpy(), self._secret)
        mine = pl.Series(hashes % np.uint64(passes) == number)
        return rows.filter(mine).filter(self._first_dropped_day > _DAY)

    def _settle(self, suspects: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Settle the suspects of a pass; where an id breaks our code, its suspects are set aside."""
        rows, ids = self._with_their_ids(suspects), suspects["transaction_id"].unique().sort()

        def work(begin: int, end: int) -> Settled | None:
            if end - begin == len(ids):
                return settle(suspects, rows, self._remember_seconds)
            mine = pl.col("transaction_id").is_in(ids[begin:end].implode())
            return settle(suspects.filter(mine), rows.filter(mine), self._remember_seconds)

        def alone(number: int, error: Exception) -> None:
            self._set_aside(suspects.filter(transaction_id=ids[number]), error)

        for settled in in_halves(work, len(ids), alone):
            if settled is not None:
                if len(settled.fresh):
                    self.add(settled.fresh)
                self._keep_answers(settled.answers, settled.answers_changed)
                yield settled.repeats

    def _with_their_ids(self, suspects: pl.DataFrame) -> pl.DataFrame:
        """Columns SETTLING of all rows with ids of the suspects, in the order of input."""
        wanted = np.sort(suspects["transaction_id"].to_numpy())
        kept = [suspects.select(SETTLING)]
        for path in [p for parts in self._parts.values() for p in parts]:
            ids = _read(path, ["transaction_id"])["transaction_id"].to_numpy()
            hits = among(ids, wanted)
            if hits.any():
                kept.append(_read(path, SETTLING).filter(pl.Series(hits)))
        days = np.unique(suspects["event_time_seconds"].to_numpy() // SECONDS_PER_DAY)
        return pl.concat([*kept, *self._earlier.with_ids(days, wanted, SETTLING)]).sort("order")

    def _set_aside(self, rows: pl.DataFrame, error: Exception) -> None:
        """Take rows that break our code out of the staged ones. Those of earlier files stay, and it is raised."""
        if rows["order"][0] < 0:
            raise error
        self._broken(rows, error)
        self._orders_aside += rows["order"].to_list()

    def _keep_answers(self, answers: pl.DataFrame, changed: int) -> None:
        """Keep answers for when their days are written."""
        self.answers_changed += changed
        for number in answers["day"].unique().to_list():
            parts = self._answers.setdefault(number, [])
            rows = answers.filter(pl.col("day") == number).drop("day")
            parts.append(self._written(rows, f"answers-{number}-{len(parts):06d}"))

    def finish(self, out: Path) -> tuple[list[str], int]:
        """Write every day that has new rows or answers, sorted by time and id; returns these days and the number of new rows."""
        days, count = [], 0
        for day in sorted({*self._parts, *self._answers}):
            earlier, parts = self._earlier.rows(day), self._parts.pop(day, [])
            if not parts and not len(earlier):  # all that was answered broke our code
                continue
            rows = pl.concat([_read(path) for path in parts]) if parts else earlier.clear()
            if len(earlier):
                rows = pl.concat([earlier.select(rows.columns), rows])
                self.flags -= count_flags(earlier, len(self.flags))
            rows, flags = self._sound(day, rows)
            if len(rows):
                directory = out / f"day={day_text(day)}"
                directory.mkdir(mode=PRIVATE_DIRECTORY)
                path = make_private_file(directory / "part-0.parquet")
                rows.write_parquet(path, compression="lz4", statistics=False)
                days.append(day_text(day))
            self.flags += flags
            count += len(rows) - len(earlier)
            for part in parts:
                self._discard(part)
        return days, count

    def _sound(self, day: int, rows: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.int64]]:
        """A day as it is written, and how many rows have each flag; rows that break our code are set aside."""
        paths = self._answers.get(day, [])
        answers = pl.concat([_read(path) for path in paths]) if paths else None
        flags = len(self.flags)
        parts = by_halves(
            lambda begin, end: _finished(rows[begin:end], answers, flags), len(rows),
            lambda row, error: self._set_aside(rows[row : row + 1], error),
        )  # fmt: skip
        if len(parts) == 1 and parts[0] is not None:
            return parts[0]
        sound = [part for part in parts if part is not None] or [_finished(rows[:0], answers, flags)]
        return _sorted(pl.concat([rows for rows, _ in sound])), np.sum([flags for _, flags in sound], axis=0)

    def check(self, rows: pl.DataFrame) -> None:
        """Do with ordinary rows what is done with staged ones; they are not kept. Raises whatever fails."""
        _by_day(rows)
        settle(rows, rows.select(SETTLING), self._remember_seconds)
        _finished(rows, None, len(self.flags))


def _finished(
    rows: pl.DataFrame, answers: pl.DataFrame | None, flags: int
) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """Rows of a day as they are written, with these answers of their repeats; how many have each flag."""
    if answers is not None:
        rows = with_answers(rows, answers)
    return _sorted(in_columns_of_days(rows.drop("order"))), count_flags(rows, flags)


def with_answers(rows: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Staged rows with the answers that came with their repeats, by `order`."""
    return (
        rows.join(answers, on="order", how="left", suffix="_last", maintain_order="left")
        .with_columns(pl.coalesce(f"{name}_last", name).alias(name) for name in ("is_fraud", "scenario"))
        .drop("is_fraud_last", "scenario_last")
    )


def in_columns_of_days(rows: pl.DataFrame) -> pl.DataFrame:
    """Staged rows in the columns of clean days, where `transaction_id` is what people know them by."""
    if TEXT not in rows.columns:
        return rows
    return rows.rename({"transaction_id": "transaction_key", TEXT: "transaction_id"})


def count_flags(rows: pl.DataFrame, flags: int) -> NDArray[np.int64]:
    """int64[flags], how many rows have each flag."""
    given = rows["flags"].to_numpy()
    odd = given[given != 0].view(np.uint32)
    return np.array(
        [np.count_nonzero(odd >> np.uint32(bit) & np.uint32(1)) for bit in range(flags)], np.int64
    )


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort(LOG_ORDER)


def _by_day(rows: pl.DataFrame) -> list[tuple[int, pl.DataFrame]]:
    """Rows in the order of input as those of each day."""
    day = rows["event_time_seconds"].to_numpy() // SECONDS_PER_DAY
    if (np.diff(day) < 0).any():
        by_day = np.argsort(day, kind="stable")
        rows, day = rows[by_day], day[by_day]
    begins = np.flatnonzero(np.diff(day, prepend=-1))
    return [(int(day[begin]), rows[begin:end]) for begin, end in pairwise([*begins.tolist(), len(day)])]


_DAY = pl.col("event_time_seconds") // SECONDS_PER_DAY


def _read(part: Part, columns: Sequence[str] | None = None) -> pl.DataFrame:
    if isinstance(part, Path):
        return pl.read_ipc(part, columns=None if columns is None else list(columns))
    return part if columns is None else part.select(columns)
