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
from dataclasses import dataclass
from typing import IO

import numpy as np
import zstandard
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import InputError
from zaslon.intake.columnar import parquet_lines
from zaslon.intake.fields import Fields, fields_of_json, fields_of_lines
from zaslon.intake.layouts import Layout, find_layout, has_needed, names_of, other_objects
from zaslon.system.opening import opened, unpacked

_PARQUET = b"PAR1"
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
# A header may be longer than a record: it names columns that are not ours too.
_FIRST_LINE_BYTES_MAX = 64 * 1024
# JSON has no header: so many records tell whether a file is ours.
_FIRST_RECORDS = 100


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of one source.

    Attributes:
        source: its address.
        first_record: number of record 0 within the source, from 1; headers do not count.
        offset: byte offset of the chunk in the (unpacked) source, -1 where there are no lines.
        buffer, starts, lengths: record i is buffer[starts[i] : starts[i] + lengths[i]].
        layout: how to read them.
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
        """The original bytes of one record; of one that is too long, its beginning."""
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
        with opened(address) as file:
            start = file.peek(4)[:4]
            if not start:
                raise InputError(f"'{address}' is empty.", hint="Expected transactions.")
            if start == _PARQUET:
                yield from _parquet_chunks(address, file, catalogue)
            else:
                chunks = _text_chunks(address, unpacked(file), catalogue, chunk_bytes)
                yield from _of_this_kind(address, chunks, catalogue)
    except InputError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise InputError(
            f"'{address}' is damaged: {error}.", hint="It was probably cut off; get it again."
        ) from error
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"'{address}' cannot be read: {error}.") from error


def _parquet_chunks(address: str, file: io.BufferedReader, catalogue: Catalogue) -> Iterator[Chunk]:
    record = 1
    for layout, (buffer, starts, lengths) in parquet_lines(address, file, catalogue):
        yield Chunk(address, record, -1, buffer, starts, lengths, layout)
        record += len(starts)


def _text_chunks(address: str, file: IO[bytes], catalogue: Catalogue, chunk_bytes: int) -> Iterator[Chunk]:
    first = _first_line(address, file)
    mark = len(_UTF8_MARK) if first.startswith(_UTF8_MARK) else 0
    layout, is_header = find_layout(address, first[mark:], catalogue)
    rest, begin, record = (b"", len(first), 1) if is_header else (first[mark:], mark, 1)
    for offset, block in _blocks(file, rest, begin, chunk_bytes, catalogue.record.max_record_bytes):
        buffer = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(buffer == ord("\n"))
        if not block.endswith(b"\n"):
            ends = np.append(ends, len(buffer))
        starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
        yield Chunk(address, record, offset, buffer, starts, ends - starts, layout)
        record += len(starts)
    if record == 1:
        raise InputError(f"'{address}' has a header and nothing else.", hint="Expected transactions.")


def _of_this_kind(address: str, chunks: Iterator[Chunk], catalogue: Catalogue) -> Iterator[Chunk]:
    """The chunks, held back until one of the first JSON objects has a field that a record needs."""
    held: list[Chunk] = []
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


def _first_line(address: str, file: IO[bytes]) -> bytes:
    line = file.readline(_FIRST_LINE_BYTES_MAX)
    if not line:
        raise InputError(f"'{address}' is empty.", hint="Expected transactions.")
    if line.startswith(_UTF16_MARKS):
        raise InputError(f"'{address}' is UTF-16.", hint="Convert it to UTF-8.")
    if any(byte < 9 for byte in line):
        raise InputError(
            f"'{address}' is binary, not text.",
            hint="Expected text, JSON lines or Parquet, text also packed with gzip or zstd.",
        )
    if len(line) == _FIRST_LINE_BYTES_MAX:
        raise InputError(
            f"'{address}' begins with a line of more than {_FIRST_LINE_BYTES_MAX >> 10} KiB.",
            hint="Expected one transaction a line.",
        )
    if not line.strip():
        raise InputError(f"'{address}' begins with an empty line.", hint="Expected transactions.")
    return line


def _blocks(
    file: IO[bytes], rest: bytes, offset: int, chunk_bytes: int, most_bytes: int
) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines and where they begin in the file.

    Of a line that is longer than a record may be only the beginning is kept: enough to see that it
    is too long, wherever the pieces end.
    """
    kept_bytes = most_bytes + 2  # the record and its line end
    forgotten = 0
    if rest.endswith(b"\n"):
        yield offset, rest
        offset, rest = offset + len(rest), b""
    while piece := file.read(chunk_bytes):
        if forgotten or len(rest) > kept_bytes:
            end = piece.find(b"\n")
            forgotten += len(rest) - kept_bytes + (len(piece) if end < 0 else end)
            rest = rest[:kept_bytes]
            if end < 0:
                continue
            yield offset, rest + b"\n"
            offset += len(rest) + forgotten + 1
            rest, piece, forgotten = b"", piece[end + 1 :], 0
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield offset, rest + piece[:cut]
            offset += len(rest) + cut
            rest = b""
        rest += piece[cut:]
    if rest:
        yield offset, rest[:kept_bytes]
