"""What a first line is: JSON, a header of any separator and order, or data without a header."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import orjson

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import InputError, did_you_mean
from zaslon.intake.splitting import has_wrong_quotes, split_line
from zaslon.system.isolation import fault_text

SEPARATORS = (",", ";", "\t", "|")
_NAME_CHARACTERS_MAX, _LISTED_CHARACTERS_MAX = 80, 200
UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_TAB = 9  # bytes below it are in no text
# A header may be longer than a record: it names columns that are not ours too.
HEADER_BYTES_MAX = 64 * 1024
# A number or a time, which no header has and every transaction.
_VALUE = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)|[0-9]{4}-[0-9]{2}-[0-9]{2}.*", re.DOTALL)


@dataclass(frozen=True)
class Layout:
    """How the lines of one source are to be read: JSON, or fields named by `columns`."""

    is_json: bool
    columns: tuple[str, ...]
    separator: str


def check_text(place: str, line: bytes, hint: str) -> None:
    """Do nothing if a source that begins with this line may be text.

    Raises:
        InputError: it is UTF-16 or binary; `place` is what the sentence is about, `hint` what was expected.
    """
    if line.startswith(_UTF16_MARKS):
        raise InputError(f"{place} is UTF-16.", hint="Convert it to UTF-8.")
    if any(byte < _TAB for byte in line):
        raise InputError(f"{place} is binary, not text.", hint=hint)


def broken_header(place: str, error: Exception) -> InputError:
    """The error about a first line that breaks our own code and may be the header, without which no row can be read."""
    return InputError(
        f"{place} cannot be read: its first line may be the header, and Zaslon's own code failed on it:"
        f" {fault_text(error)}.",
        hint="Report it as a bug in Zaslon; meanwhile write the names of the columns in another way.",
    )


def find_layout(address: str, line: bytes, catalogue: Catalogue) -> tuple[Layout, bool]:
    """The layout given by a first record, and whether that record is a header.

    Raises:
        InputError: the record gives none, or names other columns than the catalogue needs.
    """
    separator = catalogue.record.separator
    start = line.lstrip()[:1]
    if start == b"{":
        return Layout(True, (), separator), False
    if start == b"[":
        raise InputError(f"'{address}' begins with a JSON list.", hint="Expected one JSON object a line.")
    header = likely_header(line, catalogue)
    if header is not None:
        return replace(header, columns=checked_columns(f"'{address}'", header.columns, catalogue)), True
    return Layout(False, _columns_of_data(address, _split(line, separator), catalogue), separator), False


def likely_header(line: bytes, catalogue: Catalogue) -> Layout | None:
    """How a record would be read as a header, with names as written; None if it has none of ours."""
    header = _header(line, catalogue)
    return header if line.startswith(b"#") or _known(header.columns, catalogue) else None


def find_header_inside(place: str, line: bytes, layout: Layout, catalogue: Catalogue) -> Layout | None:
    """The layout from here on if a record inside a file is a header, as in files joined by `cat`.

    A header names the catalogue's id, time and amount, or has one known name for each column of the
    `layout` so far; and none of its fields is a number or a time. No field of a transaction can make
    that of it: a transaction has both.

    Raises:
        InputError: it is one and cannot be mapped; `place` is what the sentence is about.
    """
    if not line_names(catalogue).search(line):
        return None
    header = _header(line.removeprefix(UTF8_MARK), catalogue)
    names = [name.lower() for name in header.columns]
    known = {field.role for name in names if (field := catalogue.find_field(name))}
    before = [name.lower() for name in layout.columns]
    is_like_before = len(names) == len(before) > 1 and all(
        name in before or catalogue.find_field(name) for name in names
    )
    if not ({"transaction_id", "event_time", "amount"} <= known or is_like_before):
        return None
    if any(map(is_value, names)) or has_stray_quote(line, layout.separator):
        return None
    return replace(header, columns=checked_columns(place, header.columns, catalogue))


def is_value(name: str) -> bool:
    """Whether a field is a number or a time: no header has such a name."""
    return _VALUE.fullmatch(name) is not None


def has_stray_quote(record: bytes, separator: str) -> bool:
    """Whether a quote that is never closed has joined lines to one record."""
    return len(record.splitlines()) > 1 and has_wrong_quotes(record, separator)


@lru_cache(maxsize=16)
def line_names(catalogue: Catalogue) -> re.Pattern[bytes]:
    """Finds lines that contain any name of the catalogue: a quick check before a closer one."""
    names = (re.escape(name.encode()) for field in catalogue.fields for name in (field.name, *field.aliases))
    return re.compile(b"|".join(names), re.IGNORECASE)


def is_same(left: Layout, right: Layout) -> bool:
    """Whether records of both are read alike."""
    return left.separator == right.separator and [n.lower() for n in left.columns] == [
        n.lower() for n in right.columns
    ]


def _header(line: bytes, catalogue: Catalogue) -> Layout:
    """A line taken for a header, with the separator by which most of its names are known."""
    separator = catalogue.record.separator
    if line.startswith(b"#"):
        # The mission's header has pipes above rows that have commas.
        names = _split(line.removeprefix(b"#"), "|" if b"|" in line else separator)
        return Layout(False, names, separator)
    found = [Layout(False, _split(line, s), s) for s in dict.fromkeys((separator, *SEPARATORS))]
    return max(found, key=lambda header: _known(header.columns, catalogue))


def _split(line: bytes, separator: str) -> tuple[str, ...]:
    return tuple(name.decode("utf-8", "replace").strip() for name in split_line(line, separator))


def _known(names: tuple[str, ...], catalogue: Catalogue) -> int:
    return sum(catalogue.find_field(name) is not None for name in names)


def _columns_of_data(address: str, values: tuple[str, ...], catalogue: Catalogue) -> tuple[str, ...]:
    """The catalogue's columns, if the values of a first line may be a record of them."""
    columns = catalogue.record.columns
    if len(values) == len(columns) and any(v.lstrip("+-")[:1] in tuple("0123456789") for v in values):
        return columns
    raise InputError(
        f"'{address}' is not what the catalogue describes: its first line is neither a header with "
        f"known columns nor a record of {len(columns)} fields separated by "
        f"'{catalogue.record.separator}', but {_shown(values, catalogue)}.",
        hint=_expected(columns, catalogue),
    )


def _shown(values: tuple[str, ...], catalogue: Catalogue) -> str:
    """A first line in a sentence: its values, unless they may be of a customer whom nobody is to see."""
    words = re.split(f"[{''.join(SEPARATORS)}]", ",".join(values))
    if any(field.is_pseudonymised for field in catalogue.fields) and any(map(_VALUE.fullmatch, words)):
        return "a record of 1 field" if len(values) == 1 else f"a record of {len(values)} fields"
    return f"'{_listed(values[: len(catalogue.record.columns) + 1])}'"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name[:_NAME_CHARACTERS_MAX] for name in names)[:_LISTED_CHARACTERS_MAX]


def _expected(columns: tuple[str, ...], catalogue: Catalogue) -> str:
    return f"Expected columns: {', '.join(columns or [f.name for f in catalogue.fields])}."


def names_of(record: bytes) -> Iterable[str]:
    """The names in a JSON object; none if the record is not an object."""
    try:
        content = orjson.loads(record)
    except orjson.JSONDecodeError:
        return ()
    return content if isinstance(content, dict) else ()


def has_needed(names: Iterable[str], catalogue: Catalogue) -> bool:
    """Whether one of the names is that of a field that no record may lack."""
    fields = map(catalogue.find_field, names)
    return any(field is not None and field.required for field in fields)


def other_objects(address: str, names: Iterable[str], catalogue: Catalogue) -> InputError:
    """The error about JSON objects with these names, of which none is needed."""
    return InputError(
        f"'{address}' is not what the catalogue describes: its first JSON objects have none of the "
        f"fields that a record needs, but '{_listed(names)}'.",
        hint=_expected((), catalogue),
    )


def checked_columns(place: str, names: tuple[str, ...], catalogue: Catalogue) -> tuple[str, ...]:
    """The column names, if every required field is among them and none occurs twice.

    Raises:
        InputError: `place` lacks a column or has one twice.
    """
    found: dict[str, str] = {}
    for name in names:
        field = catalogue.find_field(name)
        if field is None:
            continue
        if field.name in found:
            raise InputError(
                f"{place} has two columns for '{field.name}': '{found[field.name]}' and '{name}'.",
                hint="Keep one of them.",
            )
        found[field.name] = name
    for field in catalogue.fields:
        if field.required and field.name not in found:
            raise InputError(
                f"{place} has no column '{field.name}'.",
                hint=did_you_mean(field.name, [n[:_NAME_CHARACTERS_MAX] for n in names]),
            )
    return names
