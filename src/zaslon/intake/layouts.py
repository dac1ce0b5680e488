"""What a first line tells: JSON, a header of any separator and order, or data without a header."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import InputError, did_you_mean

_SEPARATORS = (",", ";", "\t", "|")
_NAME_CHARACTERS_MAX, _SHOWN_CHARACTERS_MAX = 80, 200


@dataclass(frozen=True)
class Layout:
    """How the lines of one source are to be read: JSON, or fields named by `columns`."""

    is_json: bool
    columns: tuple[str, ...]
    separator: str


def find_layout(address: str, line: bytes, catalogue: Catalogue) -> tuple[Layout, bool]:
    """The layout that a first line tells, and whether that line is a header.

    Raises:
        InputError: the line tells none, or names other columns than the catalogue needs.
    """
    separator = catalogue.record.separator
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    if text.lstrip().startswith("{"):
        return Layout(True, (), separator), False
    if text.lstrip().startswith("["):
        raise InputError(f"'{address}' begins with a JSON list.", hint="Expected one JSON object a line.")
    if text.startswith("#"):
        # The mission's header has pipes above rows that have commas.
        names = _split(text.removeprefix("#"), "|" if "|" in text else separator)
        return Layout(False, checked_columns(address, names, catalogue), separator), True
    header = max(
        ((*_split(text, s), s) for s in dict.fromkeys((separator, *_SEPARATORS))),
        key=lambda names: _known(names[:-1], catalogue),
    )
    if _known(header[:-1], catalogue):
        return Layout(False, checked_columns(address, header[:-1], catalogue), header[-1]), True
    return Layout(False, _columns_of_data(address, _split(text, separator), catalogue), separator), False


def _split(text: str, separator: str) -> tuple[str, ...]:
    return tuple(name.strip().strip('"') for name in text.split(separator))


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
        f"'{catalogue.record.separator}', but '{_shown(values[: len(columns) + 1])}'.",
        hint=_expected(columns, catalogue),
    )


def _shown(names: Iterable[str]) -> str:
    return ", ".join(name[:_NAME_CHARACTERS_MAX] for name in names)[:_SHOWN_CHARACTERS_MAX]


def _expected(columns: tuple[str, ...], catalogue: Catalogue) -> str:
    return f"Expected columns: {', '.join(columns or [f.name for f in catalogue.fields])}."


def names_of(record: bytes) -> Iterable[str]:
    """The names in a JSON object; none where the record is no object."""
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
        f"fields that a record needs, but '{_shown(names)}'.",
        hint=_expected((), catalogue),
    )


def checked_columns(address: str, names: tuple[str, ...], catalogue: Catalogue) -> tuple[str, ...]:
    """The column names, if every required field is among them and none stands twice.

    Raises:
        InputError: names the column that is missing or doubled.
    """
    found: dict[str, str] = {}
    for name in names:
        field = catalogue.find_field(name)
        if field is None:
            continue
        if field.name in found:
            raise InputError(
                f"'{address}' has two columns for '{field.name}': '{found[field.name]}' and '{name}'.",
                hint="Keep one of them.",
            )
        found[field.name] = name
    for field in catalogue.fields:
        if field.required and field.name not in found:
            raise InputError(
                f"'{address}' has no column '{field.name}'.",
                hint=did_you_mean(field.name, [n[:_NAME_CHARACTERS_MAX] for n in names]),
            )
    return names
