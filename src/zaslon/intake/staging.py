"""Between reading and the clean days: rows by day on disk, suspects aside, then everything final."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import ID_TEXT, NO_KEY, Transactions, public_ids
from zaslon.domain.rejections import Reason
from zaslon.domain.time import DAYS_MAX, SECONDS_PER_DAY, day_text
from zaslon.system.durable import PRIVATE_DIRECTORY, make_directory, make_private_file
from zaslon.system.siphash import hashes_of, secret_words

# Rows held in memory before they go to disk, and suspects looked up in one pass.
_ROWS_HELD_MAX = 2_000_000
_SUSPECTS_PER_PASS = 2_000_000
# Ids that are texts are kept with their hashes, which everything else uses until the days are written.
_TEXT = "transaction_text"
_DIGEST = ("digest_0", "digest_1")  # the two words of a transaction's digest


def frame_of(transactions: Transactions) -> pl.DataFrame:
    """Clean transactions as the columns of the staged rows."""
    columns = {
        **(
            {}
            if transactions.id_text is None
            else {_TEXT: pl.Series(public_ids(transactions), dtype=pl.String)}
        ),
        "transaction_id": transactions.transaction_id,
        "event_time_seconds": transactions.event_time_seconds,
        "amount_minor": transactions.amount_minor,
        **{f"{name}_key": _with_nulls(keys) for name, keys in transactions.entity_keys.items()},
        **transactions.numbers,
        "flags": transactions.flags,
        **{name: transactions.digest[:, half] for half, name in enumerate(_DIGEST)},
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
        column["flags"], np.column_stack([column[name] for name in _DIGEST]), column["is_fraud"], column["scenario"],
        id_text,
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
    """

    def __init__(self, directory: Path, flags: int, secret: bytes, remember_seconds: int) -> None:
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

        Columns: `event_time_seconds`, `source`, `record`, `offset`, `raw`, `layout`.
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
            yield _read(path).filter(first_day <= _DAY)

    def _flush(self, *, is_input_over: bool = False) -> None:
        """Put the held rows aside by day: on disk, or in memory where no more input comes."""
        if not self._held_rows:
            return
        stays = is_input_over and self._kept_rows + self._held_rows <= _ROWS_HELD_MAX
        rows = pl.concat(self._held)
        self._held, self._held_rows = [], 0
        day = rows["event_time_seconds"].to_numpy() // SECONDS_PER_DAY
        if (np.diff(day) < 0).any():
            by_day = np.argsort(day, kind="stable")
            rows, day = rows[by_day], day[by_day]
        begins = np.flatnonzero(np.diff(day, prepend=-1))
        for begin, end in pairwise([*begins.tolist(), len(day)]):
            parts = self._parts.setdefault(int(day[begin]), [])
            part = rows[begin:end]
            parts.append(part if stays else self._written(part, f"day-{day[begin]}-{len(parts):06d}"))
        self._kept_rows += len(rows) if stays else 0

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
                yield self._settle(suspects.sort("order"))
        self._flush(is_input_over=True)

    def _of_pass(self, number: int, passes: int, rows: pl.DataFrame) -> pl.DataFrame:
        """The suspects that one pass settles. The hash is keyed: no choice of ids puts all into one pass."""
        hashes = hashes_of(rows["transaction_id"].to_numpy(), self._secret)
        mine = pl.Series(hashes % np.uint64(passes) == number)
        return rows.filter(mine).filter(self._first_dropped_day > _DAY)

    def _settle(self, suspects: pl.DataFrame) -> pl.DataFrame:
        wanted = np.sort(suspects["transaction_id"].to_numpy())
        columns = ["transaction_id", "event_time_seconds", *_DIGEST, "order", "is_fraud"]
        kept = [suspects.select(columns)]
        for path in [p for parts in self._parts.values() for p in parts]:
            ids = _read(path, ["transaction_id"])["transaction_id"].to_numpy()
            hits = _among(ids, wanted)
            if hits.any():
                kept.append(_read(path, columns).filter(pl.Series(hits)))
        rows = pl.concat(kept).sort("order")
        ids, moments = rows["transaction_id"].to_numpy(), rows["event_time_seconds"].to_numpy()
        first = rows[repeated_rows(ids, moments, self._remember_seconds)].select(
            pl.all().name.prefix("first_")
        )
        joined = suspects.join(
            pl.concat([rows.select("order"), first], how="horizontal"),
            on="order", how="left", maintain_order="left",
        )  # fmt: skip
        new = pl.col("order") == pl.col("first_order")
        same = pl.all_horizontal(
            pl.col(name) == pl.col(f"first_{name}") for name in ("event_time_seconds", *_DIGEST)
        )
        fresh = joined.filter(new).select([c for c in suspects.columns if c not in _ASIDE])
        if len(fresh):
            self.add(fresh)
        self._keep_answers(joined.filter(~new & same))
        reason = pl.when(same).then(int(Reason.DUPLICATE)).otherwise(int(Reason.CONFLICTING_DUPLICATE))
        return joined.filter(~new).with_columns(reason.cast(pl.UInt8).alias("reason"))

    def _keep_answers(self, repeats: pl.DataFrame) -> None:
        """Keep the last answer to each transaction, in the order of input, where the first row has another."""
        last = repeats.filter(pl.col("is_fraud") >= 0).group_by("first_order", maintain_order=True).last()
        news = last.filter(pl.col("is_fraud") != pl.col("first_is_fraud"))
        self.answers_changed += len(news)
        day = pl.col("event_time_seconds") // SECONDS_PER_DAY
        answer = news.select(day.alias("day"), pl.col("first_order").alias("order"), "is_fraud", "scenario")
        for number in answer["day"].unique().to_list():
            parts = self._answers.setdefault(number, [])
            rows = answer.filter(pl.col("day") == number).drop("day")
            parts.append(self._written(rows, f"answers-{number}-{len(parts):06d}"))

    def _answered(self, day: int, frame: pl.DataFrame) -> pl.DataFrame:
        """The day's rows with the answers that came with their repeats."""
        if day not in self._answers:
            return frame
        answers = pl.concat([_read(path) for path in self._answers[day]])
        return (
            frame.join(answers, on="order", how="left", suffix="_last")
            .with_columns(pl.coalesce(f"{name}_last", name).alias(name) for name in ("is_fraud", "scenario"))
            .drop("is_fraud_last", "scenario_last")
        )

    def finish(self, out: Path) -> tuple[list[str], int]:
        """Write every day, sorted by time and id; returns the days and the number of rows."""
        rows = 0
        for day in sorted(self._parts):
            frame = self._answered(day, pl.concat([_read(path) for path in self._parts[day]])).drop("order")
            if _TEXT in frame.columns:
                frame = frame.rename({"transaction_id": "transaction_key", _TEXT: "transaction_id"})
            frame = frame.sort("event_time_seconds", "transaction_id")
            self._count_flags(frame)
            directory = out / f"day={day_text(day)}"
            directory.mkdir(mode=PRIVATE_DIRECTORY)
            path = make_private_file(directory / "part-0.parquet")
            frame.write_parquet(path, compression="lz4", statistics=False)
            rows += len(frame)
            for part in self._parts[day]:
                self._discard(part)
            self._parts[day] = []
        return [day_text(day) for day in sorted(self._parts)], rows

    def _count_flags(self, rows: pl.DataFrame) -> None:
        flags = rows["flags"].to_numpy()
        odd = flags[flags != 0]
        for bit in range(len(self.flags)):
            self.flags[bit] += np.count_nonzero(odd >> np.uint32(bit) & np.uint32(1))


_ASIDE = ("source", "record", "offset", "raw", "layout")
_DAY = pl.col("event_time_seconds") // SECONDS_PER_DAY


def repeated_rows(
    ids: NDArray[np.int64], event_time_seconds: NDArray[np.int64], remember_seconds: int
) -> NDArray[np.int64]:
    """int64[n], which row each repeats, itself where it is new. Rows are in the order of input.

    A row repeats the nearest new one with its id that is less than `remember_seconds` away.
    """
    _, first, group = np.unique(ids, return_index=True, return_inverse=True)
    repeats = first[group]
    is_far = np.abs(event_time_seconds - event_time_seconds[repeats]) >= remember_seconds
    if not is_far.any():
        return np.asarray(repeats)
    is_used_again = np.zeros(len(first), np.bool_)
    is_used_again[group[is_far]] = True
    new: dict[int, list[tuple[int, int]]] = {}  # by group, times and rows, in the order of time
    for row in np.flatnonzero(is_used_again[group]).tolist():
        known, moment = new.setdefault(int(group[row]), []), int(event_time_seconds[row])
        place = bisect(known, (moment,))
        near = known[max(place - 1, 0) : place + 1]  # of two equally near ones the earlier
        time, nearest = min(near, key=lambda other: abs(moment - other[0]), default=(-remember_seconds, row))
        if abs(moment - time) >= remember_seconds:
            known.insert(place, (moment, row))
            nearest = row
        repeats[row] = nearest
    return np.asarray(repeats)


def _read(part: Part, columns: Sequence[str] | None = None) -> pl.DataFrame:
    if isinstance(part, Path):
        return pl.read_ipc(part, columns=None if columns is None else list(columns))
    return part if columns is None else part.select(columns)


def _among(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[n]: which ids are in the sorted `wanted`."""
    place = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    return np.asarray(wanted[place] == ids)
