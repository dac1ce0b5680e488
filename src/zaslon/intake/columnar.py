"""Parquet as texts, so that the same readers check typed columns too."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import polars as pl

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.errors import InputError
from zaslon.domain.rejections import RecordProblem
from zaslon.intake.characters import EXACT_INTEGER_LIMIT
from zaslon.intake.fields import BINARY_NOISE
from zaslon.intake.layouts import checked_columns
from zaslon.intake.ordinary import problem_of_fault
from zaslon.intake.tables import Table, table_of, table_of_row
from zaslon.system.isolation import in_halves
from zaslon.system.opening import local_path

_ROWS = 250_000
_TEXTS = (pl.String, pl.Binary, pl.Categorical, pl.Enum)
_DECIMAL_DIGITS_MAX = 38  # that Polars reads: 128 bits
_WIDE = (pl.UInt64, pl.Int128, pl.UInt128)  # integers that may not fit into 64 bits with a sign


def parquet_tables(
    address: str, file: IO[bytes], catalogue: Catalogue
) -> Iterator[tuple[Table, RecordProblem | None]]:
    """The rows with the columns that are read, some hundred thousand at a time; one that breaks our code alone.

    Raises:
        InputError: damaged, without rows, or without the catalogue's fields.
    """
    with _seekable(address, file) as path:
        frame = pl.scan_parquet(path, glob=False)
        schema = _careful(address, frame.collect_schema)
        names = checked_columns(f"'{address}'", tuple(schema.names()), catalogue)
        found = {n: field for n in names if (field := catalogue.find_field(n)) is not None}
        used = {name: field for name, field in found.items() if field.role != "ignored"}
        columns = [_as_text(address, name, schema[name], field, catalogue) for name, field in used.items()]
        is_free = [schema[name] in _TEXTS for name in used]
        rows = int(_careful(address, frame.select(pl.len()).collect).item())
        if not rows:
            raise InputError(f"'{address}' has no rows.", hint="Expected transactions.")
        texts = _Texts(columns, is_free, catalogue.record.separator)
        for begin in range(0, rows, _ROWS):
            yield from texts.of(_careful(address, frame.slice(begin, _ROWS).select(list(used)).collect))


class _Texts(NamedTuple):
    """How rows become texts: an expression for each column, which of them are free text, and a line's separator."""

    columns: list[pl.Expr]
    is_free: list[bool]
    separator: str

    def of(self, rows: pl.DataFrame) -> Iterator[tuple[Table, RecordProblem | None]]:
        """The rows as tables, in order; one that breaks our own code alone, with the problem."""
        return in_halves(
            lambda begin, end: (self._table(rows[begin:end]), None), len(rows),
            lambda row, error: self._alone(rows[row : row + 1], error),
        )  # fmt: skip

    def _table(self, rows: pl.DataFrame) -> Table:
        try:
            return table_of(rows.select(self.columns), self.is_free, self.separator)
        except pl.exceptions.PanicException as error:  # no `Exception`: it would end the process
            raise RuntimeError("Polars failed") from error

    def _alone(self, row: pl.DataFrame, error: Exception) -> tuple[Table, RecordProblem]:
        """A row that breaks our code, with its values as Polars writes them; `error` where ordinary rows do so, too."""
        try:
            self._table(pl.DataFrame([_one(name, kind) for name, kind in row.schema.items()]))
        except Exception:  # noqa: BLE001  the first error is more useful
            raise error from None
        values = [_plain(row[name][0]) for name in row.columns]
        return table_of_row(tuple(row.columns), values, self.separator), problem_of_fault(error)


def _one(name: str, kind: Any) -> pl.Series:
    """A column with one ordinary value, or a null where the type has none that can be made of 1."""
    try:
        return pl.Series(name, [1]).cast(kind, strict=False)
    except pl.exceptions.PolarsError:
        return pl.Series(name, [None], dtype=kind)


def _plain(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else str(value).encode()


@contextmanager
def _seekable(address: str, file: IO[bytes]) -> Iterator[Path]:
    """A local file as it is, anything else as a copy: Parquet is read from its end."""
    path = local_path(address)
    if path is not None and path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="zaslon-") as scratch:
        copy = Path(scratch) / "source.parquet"
        with copy.open("wb") as out:
            shutil.copyfileobj(file, out, 1 << 22)
        yield copy


def _careful(address: str, read: Any) -> Any:
    """What `read` gives. Damage shows in many ways, down to a panic of the reader."""
    try:
        return read()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        sentence = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"'{address}' is damaged Parquet: {sentence}.", hint="It was probably cut off; get it again."
        ) from error


def _as_text(address: str, name: str, kind: Any, field: SourceField, catalogue: Catalogue) -> pl.Expr:
    """A typed column as one that `table_of` takes, with values as a person would write them."""
    _refuse_type(address, name, kind, field)
    column = pl.col(name)
    if kind.is_float():
        return _float(column, kind, field, catalogue.minor_digits).alias(name)
    if kind.is_decimal() and kind.scale:  # the zeros at its end are the type's
        return column.cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")
    if kind.is_temporal():
        return _time(column, kind, field).alias(name)
    if kind == pl.Boolean and field.role == "is_fraud":
        return column.cast(pl.Int64)
    if kind.is_integer() and kind not in _WIDE:
        return column.cast(pl.Int64)
    return column if kind == pl.Binary else column.cast(pl.String)


def _refuse_type(address: str, name: str, kind: Any, field: SourceField) -> None:
    if kind.is_nested() or kind in (pl.Object, pl.Duration):
        raise InputError(
            f"Column '{name}' of '{address}' holds {kind}.", hint="Expected a plain value in every row."
        )
    if kind.is_decimal() and kind.precision > _DECIMAL_DIGITS_MAX:
        raise InputError(
            f"Column '{name}' of '{address}' holds decimals of {kind.precision} digits (decimal256), which cannot"
            f" be read: at most {_DECIMAL_DIGITS_MAX} can.",
            hint=f"Store it with at most {_DECIMAL_DIGITS_MAX} digits; no amount needs more.",
        )
    if field.is_text_id and not (kind.is_integer() or kind == pl.Null or kind in _TEXTS):
        raise InputError(
            f"Column '{name}' of '{address}' holds {kind}, and ids are texts.",
            hint="Store it as text; other types lose how it was written.",
        )


def _float(column: pl.Expr, kind: Any, field: SourceField, minor_digits: int) -> pl.Expr:
    if kind != pl.Float64:  # 17.13 as the number that a person would write, not as its binary neighbour
        column = column.cast(pl.String).cast(pl.Float64)
    if field.role == "amount":
        # 17.13 · 5 is 85.64999999999999 in binary: that noise is the type's, not the amount's.
        exact = column.round(minor_digits)
        noise = BINARY_NOISE * column.abs().clip(lower_bound=1.0)
        column = pl.when((column - exact).abs() <= noise).then(exact).otherwise(column)
    if field.role in ("amount", "number"):
        return column.map_batches(_plain_numbers, return_dtype=pl.String)
    # A column of integers with gaps is often stored as floats. Beyond 2**53 a float represents several.
    whole = column.cast(pl.Int64, strict=False)
    is_whole = (whole == column) & (column.abs() < EXACT_INTEGER_LIMIT)
    return pl.when(is_whole).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))


def _plain_numbers(column: pl.Series) -> pl.Series:
    """Numbers without an exponent, as a person would write them: 1e-7 has too many digits, not no form."""
    texts = column.cast(pl.String).str.strip_suffix(".0")
    long = texts.str.contains("e", literal=True).fill_null(False).arg_true()
    if not len(long):
        return texts
    values = column.gather(long).to_list()
    return texts.scatter(long, [np.format_float_positional(value, trim="-") for value in values])


def _time(column: pl.Expr, kind: Any, field: SourceField) -> pl.Expr:
    """Moments in UTC, or as the number that the field's format asks for."""
    if kind == pl.Time:
        return column.cast(pl.String)
    if kind == pl.Date:  # a day is not a time: midnight would be invented
        return column
    if kind.time_zone is not None:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if field.role == "event_time" and field.format == "epoch_seconds":
        return column.dt.epoch("s")
    return column
