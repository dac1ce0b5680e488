"""Files of labels as label records: separated text with a header, or JSON lines."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import orjson

from zaslon.domain.catalogue import Catalogue, Role
from zaslon.domain.errors import InputError
from zaslon.intake.chunks import Lines
from zaslon.intake.labels import label_layout
from zaslon.intake.layouts import SEPARATORS, UTF8_MARK
from zaslon.intake.over_lines import OverLines
from zaslon.intake.record_blocks import RecordReader, TextForm
from zaslon.intake.splitting import has_wrong_quotes, split_line

LABEL_FILE_BYTES_MAX = 1 << 30
_CHUNK_BYTES = 4 << 20
_NAME_CHARACTERS_MAX, _NAMES_MAX = 80, 20


def label_records(source: Path, catalogue: Catalogue, over_lines: OverLines | None = None) -> Iterator[bytes]:
    """Each label of a file as one JSON object; a row that does not fit its header as its own bytes.

    Rows that span lines are counted in `over_lines`; one with a line break in the id or the verdict gives each of
    its lines as a row that is none, because a stray quote has joined them.

    Text has columns transaction_id and is_fraud, under these names or the catalogue's, anywhere among
    others and with any separator. A further header in the file holds from there on.

    Raises:
        InputError: the file cannot be read, is too large, or has no such columns or one of them twice.
    """
    content = _content(source)
    line_end = b"\r" if b"\n" not in content and b"\r" in content else b"\n"
    first = content.partition(line_end)[0]
    if first.lstrip().startswith(b"{"):
        form = TextForm(None, line_end, catalogue.record.max_record_bytes)
        yield from (record for _, record in _numbered(content, form))
        return
    header = _Header(source, first, catalogue)
    form = TextForm(header.separator, line_end, catalogue.record.max_record_bytes)
    for line, record in _numbered(content, form):
        lines = Lines(line, [], record.split(line_end))
        if header.changes_to(record):
            continue
        if len(lines.contents) == 1:
            yield header.label(record)
        elif header.is_torn(record):
            yield from map(_as_no_label, lines.contents)
        else:
            if over_lines is not None:
                over_lines.add_record(lines, str(source), header.separator, header.columns)
            yield header.label(record)


def _content(source: Path) -> bytes:
    try:
        if source.stat().st_size > LABEL_FILE_BYTES_MAX:
            raise InputError(f"'{source}' is larger than {LABEL_FILE_BYTES_MAX >> 20} MiB.")
        content = source.read_bytes().removeprefix(UTF8_MARK)
        content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Labels '{source}' cannot be read: {error}.") from error
    content = content.lstrip(b" \t\r\n")
    if not content:
        raise InputError(f"Labels '{source}' is empty.", hint="Expected transaction_id,is_fraud.")
    return content


def _numbered(content: bytes, form: TextForm) -> Iterator[tuple[int, bytes]]:
    """The records that are not blank, each with the number of its first line."""
    line = 1
    for block in RecordReader(io.BytesIO(content), b"", 0, _CHUNK_BYTES, form):
        for begin, end in zip(block.starts.tolist(), block.ends.tolist(), strict=True):
            record = block.buffer[begin:end].tobytes()
            if record.strip():
                yield line, record
            line += record.count(form.line_end) + 1


def _as_no_label(row: bytes) -> bytes:
    """A row of separated text that is no label: as its own bytes, and never an object, whatever it looks like."""
    return orjson.dumps(row.decode("utf-8", "replace")) if row.lstrip().startswith(b"{") else row


class _Header:
    """Which columns hold the id and the verdict, and by what they are separated."""

    def __init__(self, source: Path, line: bytes, catalogue: Catalogue) -> None:
        self._source, self._layout = source, label_layout(catalogue)
        self.separator = max(
            dict.fromkeys((",", catalogue.record.separator, *SEPARATORS)), key=lambda s: self._known(line, s)
        )
        self._read(_names(line, self.separator))

    def _read(self, names: list[str]) -> None:
        self.columns = len(names)
        self._id = self._column_of("transaction_id", names)
        self._verdict = self._column_of("is_fraud", names)

    def changes_to(self, record: bytes) -> bool:
        """Whether a record is a header; it holds from here on."""
        names = _names(record.removeprefix(UTF8_MARK), self.separator)
        if not (self._places("transaction_id", names) and self._places("is_fraud", names)):
            return False
        self._read(names)
        return True

    def label(self, record: bytes) -> bytes:
        """The record as a JSON object, if it has as many fields as the header."""
        fields = split_line(record, self.separator)
        if len(fields) != self.columns or has_wrong_quotes(record, self.separator):
            return _as_no_label(record)
        identifier, verdict = fields[self._id].decode(), fields[self._verdict].decode()
        return orjson.dumps({"transaction_id": identifier or None, "is_fraud": verdict or None})

    def is_torn(self, record: bytes) -> bool:
        """Whether the id or the verdict of a record has a line break, which neither can have."""
        fields = split_line(record, self.separator)
        if len(fields) != self.columns:
            return False
        return any(b"\n" in fields[place] or b"\r" in fields[place] for place in (self._id, self._verdict))

    def _known(self, line: bytes, separator: str) -> int:
        names = _names(line, separator)
        return len(self._places("transaction_id", names)) + len(self._places("is_fraud", names))

    def _places(self, role: Role, names: list[str]) -> list[int]:
        """The columns that hold the field of a label with this role."""
        field = self._layout.field_of(role)
        return [place for place, name in enumerate(names) if self._layout.find_field(name) is field]

    def _column_of(self, role: Role, names: list[str]) -> int:
        found = self._places(role, names)
        if not found:
            listed = ", ".join(name[:_NAME_CHARACTERS_MAX] for name in names[:_NAMES_MAX])
            raise InputError(
                f"Labels '{self._source}' has no column '{role}'; found {listed}.",
                hint="The first line must name transaction_id and is_fraud.",
            )
        if len(found) > 1:
            raise InputError(
                f"Labels '{self._source}' has two columns for '{role}': '{names[found[0]]}' and"
                f" '{names[found[1]]}'.",
                hint="Keep one of them.",
            )
        return found[0]


def _names(line: bytes, separator: str) -> list[str]:
    return [name.decode("utf-8", "replace").strip() for name in split_line(line, separator)]
