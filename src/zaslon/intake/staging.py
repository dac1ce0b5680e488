"""Between reading and the clean days: rows by day on disk, suspects aside, then everything final."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import ID_TEXT, NO_KEY, Transactions, public_ids
from zaslon.domain.rejections import Reason
from zaslon.domain.time import DAYS_MAX, SECONDS_PER_DAY, day_text

# Rows held in memory before they go to disk, and suspects looked up in one pass.
_ROWS_HELD_MAX = 2_000_000
_SUSPECTS_PER_PASS = 2_000_000
# Ids that are texts stand beside their hashes, by which all else is done until the days are written.
_TEXT = "transaction_text"
_DIGEST = ("digest_0", "digest_1")  # the two words of a transaction's digest


def frame_of(transactions: Transactions) -> pl.DataFrame:
    """Clean transactions as the columns of the staged rows."""
    columns = {
        **({} if transactions.id_text is None else {_TEXT: public_ids(transactions)}),
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


class Staging:
    """Rows on their way to the clean days. `order` is the row's number in the whole input."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._held: list[pl.DataFrame] = []
        self._held_rows = 0
        self._parts: dict[int, list[Path]] = {}
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
        """Rows that may be repeats, with `source`, `record`, `offset` and `raw`."""
        path = self._directory / f"suspects-{len(self._suspects):06d}.arrow"
        rows.write_ipc(path, compression="uncompressed")
        self._suspects.append(path)

    def add_doubtful(self, rows: pl.DataFrame) -> None:
        """Original bytes of rows whose days may be dropped, beside `add` and `add_suspects`.

        Columns: `event_time_seconds`, `source`, `record`, `offset`, `raw`.
        """
        path = self._directory / f"doubtful-{len(self._doubtful):06d}.arrow"
        rows.write_ipc(path, compression="uncompressed")
        self._doubtful.append(path)

    def drop_days(self, first_day: int) -> Iterator[pl.DataFrame]:
        """Drop the rows of the days from `first_day` on; yields them as `add_doubtful` took them.

        Call it before repeats are settled: a dropped row is not the first of its id.
        """
        self._flush()
        self._first_dropped_day = first_day
        for day in [day for day in self._parts if day >= first_day]:
            for path in self._parts.pop(day):
                path.unlink()
        for path in self._doubtful:
            yield _read(path).filter(first_day <= _DAY)

    def _flush(self) -> None:
        if not self._held_rows:
            return
        rows = pl.concat(self._held)
        self._held, self._held_rows = [], 0
        day = rows["event_time_seconds"].to_numpy() // SECONDS_PER_DAY
        found = np.unique(day)
        for number in found.tolist():
            part = rows if len(found) == 1 else rows.filter(pl.Series(day == number))
            self._write(number, part)

    def _write(self, day: int, part: pl.DataFrame) -> None:
        parts = self._parts.setdefault(day, [])
        path = self._directory / f"day-{day}-{len(parts):06d}.arrow"
        part.write_ipc(path, compression="uncompressed")
        parts.append(path)

    def settle_repeats(self) -> Iterator[pl.DataFrame]:
        """Look every suspect up exactly; yields those that are repeats, with their `reason`.

        The first of an id in the order of input stays. Suspects that are no repeats join the rest.
        """
        self._flush()
        count = sum(len(_read(path, ["transaction_id"])) for path in self._suspects)
        passes = -(-count // _SUSPECTS_PER_PASS)
        for number in range(passes):
            mine = (pl.col("transaction_id") % passes == number) & (self._first_dropped_day > _DAY)
            suspects = pl.concat([_read(path).filter(mine) for path in self._suspects])
            if len(suspects):
                yield self._settle(suspects.sort("order"))
        self._flush()

    def _settle(self, suspects: pl.DataFrame) -> pl.DataFrame:
        wanted = np.sort(suspects["transaction_id"].to_numpy())
        columns = ["transaction_id", "event_time_seconds", *_DIGEST, "order", "is_fraud"]
        kept = [suspects.select(columns)]
        for path in [p for parts in self._parts.values() for p in parts]:
            ids = _read(path, ["transaction_id"])["transaction_id"].to_numpy()
            hits = _among(ids, wanted)
            if hits.any():
                kept.append(_read(path, columns).filter(pl.Series(hits)))
        first = pl.concat(kept).sort("order").group_by("transaction_id", maintain_order=True).first()
        joined = suspects.join(
            first.rename({c: f"first_{c}" for c in columns if c != "transaction_id"}),
            on="transaction_id", how="left", maintain_order="left",
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
        last = repeats.filter(pl.col("is_fraud") >= 0).group_by("transaction_id", maintain_order=True).last()
        news = last.filter(pl.col("is_fraud") != pl.col("first_is_fraud"))
        self.answers_changed += len(news)
        day = pl.col("event_time_seconds") // SECONDS_PER_DAY
        answer = news.select(day.alias("day"), pl.col("first_order").alias("order"), "is_fraud", "scenario")
        for number in answer["day"].unique().to_list():
            parts = self._answers.setdefault(number, [])
            path = self._directory / f"answers-{number}-{len(parts):06d}.arrow"
            rows = answer.filter(pl.col("day") == number)
            rows.drop("day").write_ipc(path, compression="uncompressed")
            parts.append(path)

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
            directory = out / f"day={day_text(day)}"
            directory.mkdir()
            frame.write_parquet(directory / "part-0.parquet", compression="lz4", statistics=False)
            rows += len(frame)
            for path in self._parts[day]:
                path.unlink()
        return [day_text(day) for day in sorted(self._parts)], rows


_ASIDE = ("source", "record", "offset", "raw")
_DAY = pl.col("event_time_seconds") // SECONDS_PER_DAY


def _read(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    wanted = None if columns is None else list(columns)
    return pl.read_ipc(path, columns=wanted)


def _among(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[n]: which ids are in the sorted `wanted`."""
    place = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    return np.asarray(wanted[place] == ids)
