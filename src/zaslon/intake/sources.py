"""Files as chunks of raw records: text, CSV, JSON lines or Parquet, plain, gzip or zstd, anywhere.

How the form is found: by the first bytes (`PAR1`, gzip, zstd), then by the first line. `#` begins
the mission's header, `{` is JSON, a line with known names is a CSV header, and a line with as many
fields as the catalogue has columns is data without header.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import InputError
from zaslon.intake.chunks import Chunk, TableChunk, TextChunk
from zaslon.intake.columnar import parquet_tables
from zaslon.intake.layouts import (
    HEADER_BYTES_MAX,
    UTF8_MARK,
    Layout,
    find_header_inside,
    find_layout,
    has_needed,
    is_same,
    likely_header,
    names_of,
    other_objects,
)
from zaslon.intake.record_blocks import Block, RecordReader, TextForm
from zaslon.intake.splitting import first_record
from zaslon.system.opening import check_unchanged, opened, unpacked, version_of
from zaslon.system.zstd import zstd

_PARQUET = b"PAR1"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# Headers inside one file after which it is read otherwise: each costs another look at what follows.
_LAYOUTS_MAX = 1_000
# JSON has no header: so many records decide whether a file is ours.
_FIRST_RECORDS = 100


def read_source(address: str, catalogue: Catalogue, chunk_bytes: int) -> Iterator[Chunk]:
    """The records of one file or fsspec address, in chunks of about `chunk_bytes`.

    Raises:
        InputError: missing, empty, binary, damaged, without the catalogue's fields, or changed while it is read.
    """
    try:
        with opened(address) as file:
            version, start = version_of(file), file.peek(4)[:4]
            if not start:
                raise InputError(f"'{address}' is empty.", hint="Expected transactions.")
            if start == _PARQUET:
                yield from _parquet_chunks(address, file, catalogue)
            else:
                chunks = _text_chunks(address, unpacked(file), catalogue, chunk_bytes)
                yield from _of_this_kind(address, chunks, catalogue)
            check_unchanged(address, file, version)
    except InputError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError) as error:
        raise InputError(
            f"'{address}' is damaged: {error}.", hint="It was probably cut off; get it again."
        ) from error
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"'{address}' cannot be read: {error}.") from error


def _parquet_chunks(address: str, file: io.BufferedReader, catalogue: Catalogue) -> Iterator[Chunk]:
    record = 1
    for table in parquet_tables(address, file, catalogue):
        yield TableChunk(address, record, table)
        record += len(table)


def _text_chunks(
    address: str, file: IO[bytes], catalogue: Catalogue, chunk_bytes: int
) -> Iterator[TextChunk]:
    first = _first_record(address, file, catalogue)
    reader = RecordReader(file, first.rest, first.offset, chunk_bytes, first.form, first.line)
    source = _TextSource(address, catalogue, reader, first.layout)
    for block in reader:
        yield from source.chunks(block)
    if not source.records:
        raise InputError(f"'{address}' has a header and nothing else.", hint="Expected transactions.")


class _TextSource:
    """Makes chunks of blocks, and sees to headers inside the file."""

    def __init__(self, address: str, catalogue: Catalogue, reader: RecordReader, layout: Layout) -> None:
        self._address, self._catalogue, self._reader, self._layout = address, catalogue, reader, layout
        self.records = 0
        self._headers = 0  # that changed how the file is read

    def chunks(self, block: Block) -> Iterator[TextChunk]:
        """The block's records up to a header that changes how they are read; the reader continues after it."""
        chunk = TextChunk.of(self._address, self.records + 1, block, self._layout)
        chunk = replace(chunk, split=chunk.fields(self._catalogue)) if not self._layout.is_json else chunk
        headers, follows = self._headers_in(chunk)
        end = headers[-1] if follows else len(chunk)
        if headers:
            keep = np.setdiff1d(np.arange(end), headers)
            chunk = replace(
                chunk,
                starts=chunk.starts[keep],
                lengths=chunk.lengths[keep],
                first_lines=chunk.first_lines[keep],
                split=None,
                headers=len(headers),
            )
        self.records += len(chunk)
        yield chunk
        if follows:
            self._change_layout(follows)
            self._reader.read_again(block, end + 1, follows.separator)

    def _headers_in(self, chunk: TextChunk) -> tuple[list[int], Layout | None]:
        """Which records are headers, up to the first of another layout, and that layout."""
        found: list[int] = []
        for i in _no_transactions(chunk, self._catalogue).tolist():
            if chunk.lengths[i] > HEADER_BYTES_MAX:
                continue
            place = f"The header of '{self._address}' behind record {chunk.first_record + i - 1 - len(found)}"
            layout = find_header_inside(place, chunk.raw(i), self._layout, self._catalogue)
            if layout is not None:
                found.append(i)
                if not is_same(layout, self._layout):
                    return found, layout
        return found, None

    def _change_layout(self, layout: Layout) -> None:
        self._layout = layout
        self._headers += 1
        if self._headers > _LAYOUTS_MAX:
            raise InputError(
                f"'{self._address}' has more than {_LAYOUTS_MAX} headers of different kinds.",
                hint="Clean the files one by one instead of joined.",
            )


def _no_transactions(chunk: TextChunk, catalogue: Catalogue) -> NDArray[np.int64]:
    """Which records have no time or no amount in their columns; a header has neither anywhere."""
    if chunk.split is None:
        return np.zeros(0, np.int64)
    fields, digits = chunk.split, (ord("0"), ord("9"))
    has_both = np.ones(len(chunk), np.bool_)
    for number, field in enumerate(catalogue.fields):
        if field.role in ("event_time", "amount"):
            # An empty field at the end of the buffer begins behind it.
            begin = fields.buffer[np.minimum(fields.start[number], len(fields.buffer) - 1)]
            is_value = (begin >= digits[0]) & (begin <= digits[1])
            if field.role == "amount":
                is_value |= (begin == ord("-")) | (begin == ord("+")) | (begin == ord("."))
            has_both &= is_value & (fields.length[number] > 0)
    return np.flatnonzero(~has_both)


def _of_this_kind(address: str, chunks: Iterator[TextChunk], catalogue: Catalogue) -> Iterator[TextChunk]:
    """The chunks, held back until one of the first JSON objects has a field that a record needs."""
    held: list[TextChunk] = []
    names: dict[str, None] = {}
    for chunk in chunks:
        held.append(chunk)
        if not chunk.layout.is_json:
            break
        for i in range(min(len(chunk), _FIRST_RECORDS + 1 - chunk.first_record)):
            names.update(dict.fromkeys(names_of(chunk.raw(i))))
        if has_needed(names, catalogue) or chunk.first_record + len(chunk) > _FIRST_RECORDS:
            break
    if names and not has_needed(names, catalogue):
        raise other_objects(address, names, catalogue)
    yield from held
    yield from chunks


@dataclass(frozen=True)
class _First:
    """The beginning of a file: how to read the file, and what is left to read of it."""

    layout: Layout
    form: TextForm
    rest: bytes
    offset: int
    line: int


def _first_record(address: str, file: IO[bytes], catalogue: Catalogue) -> _First:
    line = _first_line(address, file)
    # A file has one kind of line end: CR alone only without any LF.
    line_end = b"\r" if b"\n" not in line and b"\r" in line else b"\n"
    if line_end == b"\n" and len(line) == HEADER_BYTES_MAX:
        raise InputError(
            f"'{address}' begins with a line of more than {HEADER_BYTES_MAX >> 10} KiB.",
            hint="Expected one transaction a line.",
        )
    mark = len(UTF8_MARK) if line.startswith(UTF8_MARK) else 0
    content = line[mark:] + _behind_open_quotes(file, line)
    first = _first_of(content, line_end, catalogue)
    layout, is_header = find_layout(address, first, catalogue)
    form = _form(layout, line_end, catalogue)
    if not is_header:
        return _First(layout, form, content, mark, 1)
    used = len(first) + len(line_end)
    return _First(layout, form, content[used:], mark + used, first.count(line_end) + 2)


def _first_of(content: bytes, line_end: bytes, catalogue: Catalogue) -> bytes:
    """The first line; if it begins a header with line breaks inside quoted names, the whole header."""
    line = content.partition(line_end)[0]
    header = likely_header(content, catalogue)
    if header is None:
        return line
    record = first_record(content, header.separator, line_end)
    return line if likely_header(record, catalogue) is None else record


def _form(layout: Layout, line_end: bytes, catalogue: Catalogue) -> TextForm:
    separator = None if layout.is_json else layout.separator
    return TextForm(separator, line_end, catalogue.record.max_record_bytes)


def _behind_open_quotes(file: IO[bytes], line: bytes) -> bytes:
    """Further lines, up to the one with which the number of quotes is even."""
    found, is_open = b"", line.count(b'"') % 2 == 1
    while is_open and len(found) < HEADER_BYTES_MAX and (more := file.readline(HEADER_BYTES_MAX)):
        found += more
        is_open = is_open ^ (more.count(b'"') % 2 == 1)
    return found


def _first_line(address: str, file: IO[bytes]) -> bytes:
    line = file.readline(HEADER_BYTES_MAX)
    if not line:
        raise InputError(f"'{address}' is empty.", hint="Expected transactions.")
    if line.startswith(_UTF16_MARKS):
        raise InputError(f"'{address}' is UTF-16.", hint="Convert it to UTF-8.")
    if any(byte < 9 for byte in line):
        raise InputError(
            f"'{address}' is binary, not text.",
            hint="Expected text, JSON lines or Parquet, text also packed with gzip or zstd.",
        )
    if not line.strip():
        raise InputError(f"'{address}' begins with an empty line.", hint="Expected transactions.")
    return line
