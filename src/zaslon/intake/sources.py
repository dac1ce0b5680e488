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
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import InputError
from zaslon.intake.chunks import Chunk, TableChunk, TextChunk
from zaslon.intake.columnar import parquet_tables
from zaslon.intake.examples import example_row
from zaslon.intake.layouts import (
    HEADER_BYTES_MAX,
    UTF8_MARK,
    Layout,
    broken_header,
    check_text,
    find_header_inside,
    find_layout,
    has_needed,
    is_same,
    is_value,
    likely_header,
    names_of,
    other_objects,
)
from zaslon.intake.ordinary import problem_of_fault
from zaslon.intake.record_blocks import Block, RecordReader, TextForm, only_record
from zaslon.intake.splitting import first_record
from zaslon.system.isolation import by_halves, in_halves, is_fault_of_ours
from zaslon.system.opening import check_unchanged, opened, unpacked, version_of
from zaslon.system.zstd import zstd

_PARQUET = b"PAR1"
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
    for table, problem in parquet_tables(address, file, catalogue):
        yield TableChunk(address, record, table, problem=problem)
        record += len(table)


def _text_chunks(
    address: str, file: IO[bytes], catalogue: Catalogue, chunk_bytes: int
) -> Iterator[TextChunk]:
    first = _first_record(address, file, catalogue)
    reader = RecordReader(file, first.rest, first.offset, chunk_bytes, first.form, first.line)
    source = _TextSource(address, catalogue, reader, first.layout)
    if first.broken is not None:
        yield from source.chunks(first.broken)
    for block in reader:
        yield from source.chunks(block)
    if not source.records:
        raise InputError(f"'{address}' has a header and nothing else.", hint="Expected transactions.")


class _Records(NamedTuple):
    """Records of a block that were looked at.

    Attributes:
        chunk: without headers.
        end: which record of the block is the next one, or the header that follows.
        follows: how what comes behind that header is read; None where none changes that.
    """

    chunk: TextChunk
    end: int
    follows: Layout | None


class _TextSource:
    """Makes chunks of blocks, and sees to headers inside the file."""

    def __init__(self, address: str, catalogue: Catalogue, reader: RecordReader, layout: Layout) -> None:
        self._address, self._catalogue, self._reader, self._layout = address, catalogue, reader, layout
        self.records = 0
        self._headers = 0  # that changed how the file is read

    def chunks(self, block: Block) -> Iterator[TextChunk]:
        """The block's records up to a header that changes how they are read; the reader continues after it.

        They are one chunk, unless one of them breaks our own code: that is a chunk of its own.
        """
        whole = TextChunk.of(self._address, self.records + 1, block, self._layout)
        if whole.problem is not None:
            parts: Iterator[_Records] = iter([_Records(whole, 0, None)])
        else:
            parts = in_halves(
                lambda begin, end: self._read(whole.part(begin, end), begin), len(whole),
                lambda record, error: self._alone(whole, record, error),
            )  # fmt: skip
        for chunk, end, follows in parts:
            numbered = replace(chunk, first_record=self.records + 1)
            self.records += len(chunk)
            yield numbered
            if follows:
                self._change_layout(follows)
                self._reader.read_again(block, end + 1, follows.separator)
                return

    def _read(self, chunk: TextChunk, begin: int) -> _Records:
        """The records of a part of a block, from its record `begin` on, without the headers among them."""
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
        return _Records(chunk, begin + end, follows)

    def _alone(self, whole: TextChunk, record: int, error: Exception) -> _Records:
        """A record of a block that breaks our code; `error` where an ordinary one does so, too."""
        ordinary = only_record(example_row(self._catalogue, self._layout))
        try:
            self._read(TextChunk.of(self._address, 1, ordinary, self._layout), 0)
        except Exception:  # noqa: BLE001  the first error is more useful
            raise error from None
        return _Records(whole.part(record, record + 1).broken(problem_of_fault(error)), record + 1, None)

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
        if not chunk.layout.is_json:
            held.append(chunk)
            break
        for part, found in _with_names(chunk, catalogue):
            held.append(part)
            names.update(found)
        if has_needed(names, catalogue) or chunk.first_record + len(chunk) > _FIRST_RECORDS:
            break
    if names and not has_needed(names, catalogue):
        raise other_objects(address, names, catalogue)
    yield from held
    yield from chunks


def _with_names(chunk: TextChunk, catalogue: Catalogue) -> list[tuple[TextChunk, dict[str, None]]]:
    """JSON records with the names in those that are among the first; one that breaks our code alone, without."""

    def work(begin: int, end: int) -> tuple[TextChunk, dict[str, None]]:
        part, names = chunk.part(begin, end), dict[str, None]()
        if part.problem is None:
            for i in range(min(len(part), _FIRST_RECORDS + 1 - part.first_record)):
                names.update(dict.fromkeys(names_of(part.raw(i))))
        return part, names

    def alone(record: int, error: Exception) -> tuple[TextChunk, dict[str, None]]:
        try:
            names_of(example_row(catalogue, chunk.layout))
        except Exception:  # noqa: BLE001  the first error is more useful
            raise error from None
        return chunk.part(record, record + 1).broken(problem_of_fault(error)), {}

    return by_halves(work, len(chunk), alone)


@dataclass(frozen=True)
class _First:
    """The beginning of a file: how to read the file, and what is left to read of it.

    `broken`: its first record, if that is one and breaks our own code.
    """

    layout: Layout
    form: TextForm
    rest: bytes
    offset: int
    line: int
    broken: Block | None = None


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
    try:
        first = _first_of(content, line_end, catalogue)
        layout, is_header = find_layout(address, first, catalogue)
    except Exception as error:
        if not is_fault_of_ours(error):
            raise
        return _behind_broken(address, content, mark, line_end, catalogue, error)
    form = _form(layout, line_end, catalogue)
    if not is_header:
        return _First(layout, form, content, mark, 1)
    used = len(first) + len(line_end)
    return _First(layout, form, content[used:], mark + used, first.count(line_end) + 2)


def _behind_broken(
    address: str, content: bytes, mark: int, line_end: bytes, catalogue: Catalogue, error: Exception
) -> _First:
    """How a file whose first line breaks our code is read: as one without a header, if that line has a value.

    Raises:
        InputError: the line may be the header.
        Exception: `error`, where an ordinary line breaks our code, too.
    """
    columns, line = catalogue.record.columns, content.partition(line_end)[0]
    layout = Layout(line.lstrip().startswith(b"{"), columns, catalogue.record.separator)
    values = line.decode("utf-8", "replace").split(layout.separator)
    if not layout.is_json and (len(values) != len(layout.columns) or not any(map(is_value, values))):
        raise broken_header(f"'{address}'", error) from error
    try:
        ordinary = example_row(catalogue, layout)
        find_layout(address, _first_of(ordinary + line_end, line_end, catalogue), catalogue)
    except Exception:  # noqa: BLE001  the first error is more useful
        raise error from None
    form = _form(layout, line_end, catalogue)
    piece = line if layout.is_json or line.count(b'"') % 2 == 0 else content.removesuffix(line_end)
    block = only_record(piece, mark, 1, line_end)._replace(problem=problem_of_fault(error))
    used = len(piece) + len(line_end)
    return _First(layout, form, content[used:], mark + used, piece.count(line_end) + 2, block)


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
    hint = "Expected text, JSON lines or Parquet, text also packed with gzip or zstd."
    check_text(f"'{address}'", line, hint)
    if not line.strip():
        raise InputError(f"'{address}' begins with an empty line.", hint="Expected transactions.")
    return line
