"""Files of labels as label records: separated text with a header, or JSON lines."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import orjson

from zaslon.domain.catalogue import Catalogue, Role
from zaslon.domain.clean_report import OverLines
from zaslon.domain.errors import InputError
from zaslon.domain.rejections import RecordProblem
from zaslon.intake.chunks import TextChunk
from zaslon.intake.examples import example_row
from zaslon.intake.labels import label_layout
from zaslon.intake.layouts import (
    HEADER_BYTES_MAX,
    SEPARATORS,
    UTF8_MARK,
    Layout,
    broken_header,
    check_text,
    has_stray_quote,
    is_value,
    line_names,
)
from zaslon.intake.ordinary import problem_of_fault
from zaslon.intake.over_lines import count_over_lines, torn_field
from zaslon.intake.record_blocks import RecordReader, TextForm, only_record
from zaslon.intake.splitting import first_record, split_line
from zaslon.intake.words import ANSWERS
from zaslon.system.isolation import in_halves, is_fault_of_ours
from zaslon.system.opening import check_unchanged, version_of

LABEL_FILE_BYTES_MAX = 1 << 30
_CHUNK_BYTES = 4 << 20
_NAME_CHARACTERS_MAX, _NAMES_MAX = 80, 20
_BLANK_LINES = re.compile(rb"([ \t]*[\r\n])*")
_ROLES: tuple[Role, ...] = ("transaction_id", "is_fraud")


class LabelRow(NamedTuple):
    """A row of a file of labels.

    Attributes:
        content: a label as a JSON object; a row that is none as its own bytes.
        problem: why the row is rejected, where it breaks our own code.
    """

    content: bytes
    problem: RecordProblem | None = None


def label_rows(source: Path, catalogue: Catalogue, over_lines: OverLines | None = None) -> Iterator[LabelRow]:
    """Each label of a file as one JSON object; a row that does not fit its header as its own bytes.

    Rows that span lines are counted in `over_lines`; one with a line break in the id or the verdict gives each of
    its lines as a row that is none, because a stray quote has joined them. A blank line is no row.

    Text has columns transaction_id and is_fraud, under these names or the catalogue's, anywhere among
    others and with any separator. A further header in the file holds from there on.

    Raises:
        InputError: the file cannot be read, is too large or no text, changed while it was read, or has no such
            columns or one of them twice.
    """
    content, catalogue = _content(source), label_layout(catalogue)
    line_end = b"\r" if b"\n" not in content and b"\r" in content else b"\n"
    blank = _BLANK_LINES.match(content)
    begin = blank.end() if blank else 0
    first = content[begin : begin + HEADER_BYTES_MAX]
    if first.lstrip().startswith(b"{"):
        layout = Layout(True, (), ",")
    else:
        check_text(f"Labels '{source}'", first.splitlines()[0], "Expected text or JSON lines.")
        header, layout = _careful_header(source, first, line_end, catalogue)
        begin += len(header) + len(line_end)
    rows = _Rows(catalogue, layout)
    for chunk in _chunks(source, content, begin, line_end, catalogue, layout):
        yield from rows.of(chunk)
    if over_lines is not None:
        over_lines.join(rows.over_lines)


def _content(source: Path) -> bytes:
    try:
        if source.stat().st_size > LABEL_FILE_BYTES_MAX:
            raise InputError(f"'{source}' is larger than {LABEL_FILE_BYTES_MAX >> 20} MiB.")
        with source.open("rb") as file:
            version, content = version_of(file), file.read().removeprefix(UTF8_MARK)
            check_unchanged(str(source), file, version)
    except OSError as error:
        raise InputError(f"Labels '{source}' cannot be read: {error}.") from error
    if not content or content.isspace():
        raise InputError(f"Labels '{source}' is empty.", hint="Expected transaction_id,is_fraud.")
    return content


def _chunks(
    source: Path, content: bytes, begin: int, line_end: bytes, catalogue: Catalogue, layout: Layout
) -> Iterator[TextChunk]:
    """The records from byte `begin` on, which begins a line."""
    file = io.BytesIO(content)
    file.seek(begin)
    separator = None if layout.is_json else layout.separator
    form = TextForm(separator, line_end, catalogue.record.max_record_bytes)
    line = content.count(line_end, 0, begin) + 1
    record = 1
    for block in RecordReader(file, b"", begin, _CHUNK_BYTES, form, line):
        yield TextChunk.of(str(source), record, block, layout)
        record += len(block.starts)


class _Rows:
    """The rows of chunks that follow each other; one that breaks our own code is alone with its problem.

    Attributes:
        over_lines: those that span lines.
    """

    def __init__(self, catalogue: Catalogue, layout: Layout) -> None:
        self._catalogue, self._layout = catalogue, layout
        self.over_lines = OverLines()

    def of(self, chunk: TextChunk) -> Iterator[LabelRow]:
        """The rows of the next chunk."""
        if chunk.problem is not None:
            yield LabelRow(chunk.raw(0), chunk.problem)
            return
        work = lambda begin, end: self._read(chunk.part(begin, end))  # noqa: E731
        for layout, over, rows in in_halves(work, len(chunk), lambda i, error: self._alone(chunk, i, error)):
            self._layout = layout
            self.over_lines.join(over)
            yield from rows

    def _read(self, chunk: TextChunk) -> tuple[Layout, OverLines, list[LabelRow]]:
        """The rows of a part, and the layout that holds behind it."""
        layout, over = self._layout, OverLines()
        if layout.is_json:
            raws = filter(bytes.strip, chunk.originals(range(len(chunk))))
            return layout, over, list(map(LabelRow, raws))
        rows: list[LabelRow] = []
        for part in _parts(replace(chunk, layout=layout), self._catalogue):
            layout = part.layout
            rows += map(LabelRow, _labels(part, self._catalogue, over))
        return layout, over, rows

    def _alone(
        self, chunk: TextChunk, record: int, error: Exception
    ) -> tuple[Layout, OverLines, list[LabelRow]]:
        """A row that breaks our code; `error` where an ordinary one does so, too."""
        try:
            self._read(
                TextChunk.of("", 1, only_record(example_row(self._catalogue, self._layout)), self._layout)
            )
        except Exception:  # noqa: BLE001  the first error is more useful
            raise error from None
        return self._layout, OverLines(), [LabelRow(chunk.raw(record), problem_of_fault(error))]


def _labels(chunk: TextChunk, catalogue: Catalogue, over_lines: OverLines) -> Iterator[bytes]:
    """The records of a chunk under its header."""
    fields, over = chunk.fields(catalogue), set(chunk.over_lines().tolist())
    for record, reason in enumerate(fields.reason.tolist()):
        if record in over:
            if reason and torn_field(chunk, record, fields.problems[record], catalogue) is not None:
                yield from map(_as_no_label, chunk.lines_of(record).contents)
                continue
            over_lines.join(count_over_lines(chunk, [record]))
        if not reason:
            values = [fields.text(number, record).decode() or None for number in range(len(catalogue.fields))]
            yield orjson.dumps(dict(zip(_ROLES, values, strict=True)))
        elif (raw := chunk.raw(record)).strip():
            yield _as_no_label(raw)


def _as_no_label(row: bytes) -> bytes:
    """A row of separated text that is no label: as its own bytes, and never an object, whatever it looks like."""
    return orjson.dumps(row.decode("utf-8", "replace")) if row.lstrip().startswith(b"{") else row


def _parts(chunk: TextChunk, catalogue: Catalogue) -> Iterator[TextChunk]:
    """The records between headers, each part with the layout that holds for it; the last may have no record."""
    begin, layout, names = 0, chunk.layout, line_names(catalogue)
    for record in range(len(chunk)):
        raw = chunk.raw(record)
        if names.search(raw) and (columns := _header_inside(raw, layout, catalogue)):
            yield replace(chunk.part(begin, record), layout=layout)
            begin, layout = record + 1, replace(layout, columns=columns)
    yield replace(chunk.part(begin, len(chunk)), layout=layout)


def _header_inside(record: bytes, layout: Layout, catalogue: Catalogue) -> tuple[str, ...] | None:
    """The names in a record that is a header; None for any other.

    It names the id and the verdict once, has no number, no time and no verdict, and a word where the verdict
    was so far: a label has a verdict or none there, whoever wrote its other fields.
    """
    names = _names(record.removeprefix(UTF8_MARK), layout.separator)
    if any(len(_places(role, names, catalogue)) != 1 for role in _ROLES):
        return None
    (place,) = _places("is_fraud", layout.columns, catalogue)
    verdict = names[place].lower() if place < len(names) else None
    is_label = any(map(_is_verdict, names)) or verdict in ("", *catalogue.record.null_words)
    if is_label or len(record) > HEADER_BYTES_MAX or has_stray_quote(record, layout.separator):
        return None
    return names


def _is_verdict(name: str) -> bool:
    """Whether a field is a number, a time or a word that means a verdict."""
    return is_value(name) or any(name.encode() in words for words in ANSWERS.values())


def _careful_header(
    source: Path, content: bytes, line_end: bytes, catalogue: Catalogue
) -> tuple[bytes, Layout]:
    """The first header. Without it no row can be read, so one that breaks our code is an error of the file."""
    try:
        return _first_header(source, content, line_end, catalogue)
    except Exception as error:
        if not is_fault_of_ours(error):
            raise
        raise broken_header(f"Labels '{source}'", error) from error


def _first_header(
    source: Path, content: bytes, line_end: bytes, catalogue: Catalogue
) -> tuple[bytes, Layout]:
    """The header with which a content begins, and which columns it gives, separated by what."""
    line = content.partition(line_end)[0]
    separators = dict.fromkeys((",", catalogue.record.separator, *SEPARATORS))
    separator = max(separators, key=lambda s: _known(_names(line, s), catalogue))
    header = first_record(content, separator, line_end)
    if len(header) == HEADER_BYTES_MAX:
        raise InputError(
            f"Labels '{source}' begins with a line of more than {HEADER_BYTES_MAX >> 10} KiB.",
            hint="Expected transaction_id,is_fraud.",
        )
    names = _names(header, separator)
    for role in _ROLES:
        _check_column(source, role, names, catalogue)
    return header, Layout(False, names, separator)


def _known(names: tuple[str, ...], catalogue: Catalogue) -> int:
    return sum(len(_places(role, names, catalogue)) for role in _ROLES)


def _places(role: Role, names: tuple[str, ...], catalogue: Catalogue) -> list[int]:
    """The columns that hold the field of a label with this role."""
    field = catalogue.field_of(role)
    return [place for place, name in enumerate(names) if catalogue.find_field(name) is field]


def _check_column(source: Path, role: Role, names: tuple[str, ...], catalogue: Catalogue) -> None:
    found = _places(role, names, catalogue)
    if not found:
        listed = ", ".join(name[:_NAME_CHARACTERS_MAX] for name in names[:_NAMES_MAX])
        raise InputError(
            f"Labels '{source}' has no column '{role}'; found {listed}.",
            hint="The first line must name transaction_id and is_fraud.",
        )
    if len(found) > 1:
        raise InputError(
            f"Labels '{source}' has two columns for '{role}': '{names[found[0]]}' and '{names[found[1]]}'.",
            hint="Keep one of them.",
        )


def _names(line: bytes, separator: str) -> tuple[str, ...]:
    return tuple(name.decode("utf-8", "replace").strip() for name in split_line(line, separator))
