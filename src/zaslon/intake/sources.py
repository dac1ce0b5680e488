"""Files as chunks of raw records: text, CSV, JSON lines or Parquet, plain, gzip or zstd, anywhere.

How the form is found: by the first bytes (`PAR1`, gzip, zstd), then by the first line. `#` begins
the mission's header, `{` is JSON, a line of known names is a CSV header, and a line with as many
fields as the catalogue has columns and a number first is data without header.
"""

from __future__ import annotations

import gzip
import io
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import fsspec
import numpy as np
import polars as pl
import zstandard
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import InputError, did_you_mean
from zaslon.intake.fields import BINARY_NOISE, Fields, fields_of_json, fields_of_lines

_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_PARQUET_ROWS = 250_000


@dataclass(frozen=True)
class Layout:
    """How the lines of one source are to be read: JSON, or fields named by `columns`."""

    is_json: bool
    columns: tuple[str, ...]
    separator: str


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of one source.

    Attributes:
        source: its address.
        first_record: number of record 0 within the source, from 1; headers do not count.
        offset: byte offset of the chunk in the (unpacked) source, -1 where there are no lines.
        buffer, starts, lengths: record i is buffer[starts[i] : starts[i] + lengths[i]].
        layout: how to read them.
        bytes_read: for progress.
    """

    source: str
    first_record: int
    offset: int
    buffer: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    layout: Layout

    def __len__(self) -> int:
        return len(self.starts)

    def raw(self, index: int) -> bytes:
        """The original bytes of one record."""
        start = int(self.starts[index])
        return self.buffer[start : start + int(self.lengths[index])].tobytes()

    def fields(self, catalogue: Catalogue) -> Fields:
        """Where the fields of the records stand."""
        if self.layout.is_json:
            return fields_of_json([self.raw(i) for i in range(len(self))], catalogue)
        return fields_of_lines(
            self.buffer, self.starts, self.lengths, catalogue,
            self.layout.columns, self.layout.separator,
        )  # fmt: skip


def read_source(address: str, catalogue: Catalogue, chunk_bytes: int) -> Iterator[Chunk]:
    """The records of one file or fsspec address, in chunks of about `chunk_bytes`.

    Raises:
        InputError: missing, empty, binary, damaged, or without the catalogue's fields.
    """
    try:
        with _opened(address) as file:
            start = file.read(4)
            file.seek(0)
            if not start:
                raise InputError(f"'{address}' is empty.", hint="Expected transactions.")
            if start == _PARQUET:
                yield from _parquet_chunks(address, file, catalogue)
            else:
                yield from _text_chunks(address, _unpacked(file, start), catalogue, chunk_bytes)
    except InputError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise InputError(
            f"'{address}' is damaged: {error}.", hint="It was probably cut off; get it again."
        ) from error
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"'{address}' cannot be read: {error}.") from error


def _opened(address: str) -> IO[bytes]:
    if "://" not in address and Path(address).is_dir():
        raise InputError(f"'{address}' is a directory.", hint="Name its files: DIR/*.txt.")
    return cast(IO[bytes], fsspec.open(address, "rb").open())


def _unpacked(file: IO[bytes], start: bytes) -> IO[bytes]:
    if start.startswith(_GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start == _ZSTD:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return cast(IO[bytes], reader)
    return file


def _text_chunks(address: str, file: IO[bytes], catalogue: Catalogue, chunk_bytes: int) -> Iterator[Chunk]:
    first = _first_line(address, file, catalogue)
    layout, is_header = find_layout(address, first, catalogue)
    rest, offset, record = (b"", len(first), 1) if is_header else (first, 0, 1)
    for block in _blocks(file, rest, chunk_bytes, catalogue.record.max_record_bytes):
        buffer = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(buffer == ord("\n"))
        if not block.endswith(b"\n"):
            ends = np.append(ends, len(buffer))
        starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
        yield Chunk(address, record, offset, buffer, starts, ends - starts, layout)
        record += len(starts)
        offset += len(block)


def _first_line(address: str, file: IO[bytes], catalogue: Catalogue) -> bytes:
    line = b""
    while len(line) <= catalogue.record.max_record_bytes and not line.endswith(b"\n"):
        piece = file.read(1)
        if not piece:
            break
        line += piece
    if b"\0" in line or any(byte < 9 for byte in line):
        raise InputError(f"'{address}' is binary, not text.", hint="Expected text, JSON or Parquet.")
    if not line.strip():
        raise InputError(f"'{address}' begins with an empty line.", hint="Expected transactions.")
    return line


def _blocks(file: IO[bytes], rest: bytes, chunk_bytes: int, most_bytes: int) -> Iterator[bytes]:
    """Blocks of whole lines. Of a line beyond `most_bytes` only its beginning is kept."""
    while piece := file.read(chunk_bytes):
        cut = piece.rfind(b"\n") + 1
        if cut == 0:
            # No line ends here: what is longer than a record may be is rejected, so forget the rest.
            rest = (rest + piece)[: most_bytes + 2]
            continue
        block = rest + piece[:cut]
        rest = piece[cut:]
        yield block
    if rest:
        yield rest


def find_layout(address: str, line: bytes, catalogue: Catalogue) -> tuple[Layout, bool]:
    """The layout that a first line tells, and whether that line is a header.

    Raises:
        InputError: the line tells none, or names other columns than the catalogue needs.
    """
    separator = catalogue.record.separator
    text = line.decode("utf-8", "replace").strip().removeprefix("\ufeff")
    if text.startswith("{"):
        return Layout(True, (), separator), False
    if text.startswith("#"):
        names = tuple(n.strip() for n in text.removeprefix("#").split("|"))
        return Layout(False, _checked(address, names, catalogue), separator), True
    values = tuple(v.strip().strip('"') for v in text.split(separator))
    is_data = values[0].lstrip("-+").isdigit()
    if is_data and len(values) == len(catalogue.record.columns):
        return Layout(False, catalogue.record.columns, separator), False
    if is_data or len(values) < 2:
        raise InputError(
            f"'{address}' is not what the catalogue describes: its first line has {len(values)} "
            f"fields separated by '{separator}', expected {len(catalogue.record.columns)}.",
            hint=f"Expected columns: {', '.join(catalogue.record.columns)}.",
        )
    return Layout(False, _checked(address, values, catalogue), separator), True


def _checked(address: str, names: tuple[str, ...], catalogue: Catalogue) -> tuple[str, ...]:
    """The column names, if every required field is among them."""
    found = {field.name for name in names if (field := catalogue.find_field(name)) is not None}
    for field in catalogue.fields:
        if field.required and field.name not in found:
            raise InputError(
                f"'{address}' has no column '{field.name}'.",
                hint=did_you_mean(field.name, [n[:80] for n in names]),
            )
    return names


def _parquet_chunks(address: str, file: IO[bytes], catalogue: Catalogue) -> Iterator[Chunk]:
    """Typed columns as text lines, so that the same readers check them."""
    with tempfile.TemporaryDirectory(prefix="zaslon-") as scratch:
        path = Path(address)
        if "://" in address:
            path = Path(scratch) / "source.parquet"
            with path.open("wb") as copy:
                while piece := file.read(1 << 22):
                    copy.write(piece)
        try:
            frame = pl.scan_parquet(path)
            schema = frame.collect_schema()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"'{address}' is damaged Parquet: {error}.") from error
        names = _checked(address, tuple(schema.names()), catalogue)
        used = [n for n in names if catalogue.find_field(n) is not None]
        rows = int(frame.select(pl.len()).collect().item())
        columns = [_as_plain(name, schema[name], catalogue) for name in used]
        for begin in range(0, rows, _PARQUET_ROWS):
            part = frame.slice(begin, _PARQUET_ROWS).select(columns).collect()
            yield _frame_chunk(address, part, tuple(used), begin + 1, catalogue)


def _as_plain(name: str, kind: Any, catalogue: Catalogue) -> pl.Expr:
    """A typed column as values that are written as a line would write them."""
    column = pl.col(name)
    field = catalogue.find_field(name)
    if field is not None and field.role == "amount" and kind.is_float():
        # 17.13 · 5 is 85.64999999999999 in binary: that noise is the type's, not the amount's.
        exact = column.cast(pl.Float64).round(catalogue.minor_digits)
        noise = BINARY_NOISE * column.abs().clip(lower_bound=1.0)
        return pl.when((column - exact).abs() <= noise).then(exact).otherwise(column).alias(name)
    if kind in (pl.Datetime, pl.Date):
        return column.cast(pl.Datetime("us"))
    if kind == pl.Boolean:
        return column.cast(pl.Int8)
    if kind == pl.Binary:
        return column.cast(pl.String, strict=False)
    return column


def _frame_chunk(
    address: str, part: pl.DataFrame, columns: tuple[str, ...], first: int, catalogue: Catalogue
) -> Chunk:
    separator = catalogue.record.separator
    out = io.BytesIO()
    part.write_csv(
        out, include_header=False, separator=separator, datetime_format="%Y-%m-%d %H:%M:%S%.f",
        float_scientific=False, null_value="",
    )  # fmt: skip
    buffer = np.frombuffer(out.getvalue(), np.uint8)
    ends = np.flatnonzero(buffer == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    layout = Layout(False, columns, separator)
    return Chunk(address, first, -1, buffer, starts, ends - starts, layout)
