"""Parquet as text lines, so that the same readers check typed columns too."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.errors import InputError
from zaslon.intake.characters import EXACT_INTEGER_LIMIT
from zaslon.intake.fields import BINARY_NOISE
from zaslon.intake.layouts import Layout, checked_columns
from zaslon.system.opening import local_path

_ROWS = 250_000
_NOT_TEXT = "\0"  # a control byte: a value with it is rejected as not_text
_TEXTS = (pl.String, pl.Binary, pl.Categorical, pl.Enum)
_LINE_BREAK = "\v"  # in place of a line break inside a value; it is a control byte as well

Lines = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]


def parquet_lines(address: str, file: IO[bytes], catalogue: Catalogue) -> Iterator[tuple[Layout, Lines]]:
    """The rows as lines of a layout: (buffer, starts, lengths), some hundred thousand at a time.

    Raises:
        InputError: damaged, without rows, or without the catalogue's fields.
    """
    with _seekable(address, file) as path:
        frame = pl.scan_parquet(path, glob=False)
        schema = _careful(address, frame.collect_schema)
        names = checked_columns(f"'{address}'", tuple(schema.names()), catalogue)
        found = {n: field for n in names if (field := catalogue.find_field(n)) is not None}
        used = {name: field for name, field in found.items() if field.role != "ignored"}
        columns = [_as_plain(address, name, schema[name], field, catalogue) for name, field in used.items()]
        layout = Layout(False, tuple(used), catalogue.record.separator)
        rows = int(_careful(address, frame.select(pl.len()).collect).item())
        if not rows:
            raise InputError(f"'{address}' has no rows.", hint="Expected transactions.")
        for begin in range(0, rows, _ROWS):
            part = _careful(address, frame.slice(begin, _ROWS).select(columns).collect)
            yield layout, _lines(part, layout.separator)


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


def _as_plain(address: str, name: str, kind: Any, field: SourceField, catalogue: Catalogue) -> pl.Expr:
    """A typed column as values that are written as a line would write them."""
    column = pl.col(name)
    if kind.is_nested() or kind == pl.Object:
        raise InputError(
            f"Column '{name}' of '{address}' holds {kind}.", hint="Expected a plain value in every row."
        )
    if field.is_text_id and not (kind.is_integer() or kind in _TEXTS):
        raise InputError(
            f"Column '{name}' of '{address}' holds {kind}, and ids are texts.",
            hint="Store it as text; other types lose how it was written.",
        )
    if kind.is_float():
        return _float(column, kind, field, catalogue.minor_digits).alias(name)
    if kind.is_decimal() and kind.scale:  # the zeros at its end are the type's
        return column.cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".").alias(name)
    if kind.is_temporal():
        return _time(column, kind, field).alias(name)
    if kind == pl.Boolean:
        return column.cast(pl.Int8 if field.role == "is_fraud" else pl.String)
    if kind == pl.Binary:
        return _one_line(column.map_batches(_decoded, return_dtype=pl.String)).alias(name)
    return column if kind.is_numeric() else _one_line(column.cast(pl.String)).alias(name)


def _decoded(column: pl.Series) -> pl.Series:
    """Bytes as text; what is not UTF-8 becomes hex after a control byte."""

    def text(value: bytes) -> str:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return _NOT_TEXT + value.hex()

    return pl.Series([None if value is None else text(value) for value in column], dtype=pl.String)


def _one_line(column: pl.Expr) -> pl.Expr:
    return column.str.replace_all("\n", _LINE_BREAK, literal=True)


def _float(column: pl.Expr, kind: Any, field: SourceField, minor_digits: int) -> pl.Expr:
    if kind != pl.Float64:  # 17.13 as the number that a person would write, not as its binary neighbour
        column = column.cast(pl.String).cast(pl.Float64)
    if field.role == "amount":
        # 17.13 · 5 is 85.64999999999999 in binary: that noise is the type's, not the amount's.
        exact = column.round(minor_digits)
        noise = BINARY_NOISE * column.abs().clip(lower_bound=1.0)
        return pl.when((column - exact).abs() <= noise).then(exact).otherwise(column)
    if field.role == "number":
        return column
    # A column of integers with gaps is often stored as floats. Beyond 2**53 a float represents several.
    whole = column.cast(pl.Int64, strict=False)
    is_whole = (whole == column) & (column.abs() < EXACT_INTEGER_LIMIT)
    return pl.when(is_whole).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))


def _time(column: pl.Expr, kind: Any, field: SourceField) -> pl.Expr:
    """Moments in UTC, as the field's format writes them."""
    if kind != pl.Datetime:  # a day is not a time: midnight would be invented
        return column.cast(pl.String)
    moment = column
    if getattr(kind, "time_zone", None) is not None:
        moment = moment.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if field.role == "event_time" and field.format == "epoch_seconds":
        return moment.dt.epoch("s")
    return moment.dt.strftime("%Y-%m-%d %H:%M:%S%.f")


def _lines(part: pl.DataFrame, separator: str) -> Lines:
    out = io.BytesIO()
    part.write_csv(out, include_header=False, separator=separator, float_scientific=False, null_value="")
    buffer = np.frombuffer(out.getvalue(), np.uint8)
    ends = np.flatnonzero(buffer == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    return buffer, starts, ends - starts
