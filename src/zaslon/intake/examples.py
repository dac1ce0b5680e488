"""Example records: what a catalogue accepts, made up, to try and to warm up the path with."""

from __future__ import annotations

import math
from collections.abc import Mapping

import orjson

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.time import time_text
from zaslon.intake.json_array import array_elements, nesting
from zaslon.intake.json_members import member_counts
from zaslon.intake.layouts import Layout

EXAMPLE_SECONDS = 1_599_998_400  # event time of the first example: 2020-09-13 12:00:00
_ENTITIES = 100  # so many keys of each entity take turns
_FIRST_ID = 1_000_000


def example_record(catalogue: Catalogue, number: int = 0, given: Mapping[str, str] | None = None) -> bytes:
    """The JSON of an ordinary transaction with every field that the catalogue requires.

    `given` are values of fields by their names, which it has instead.

    Examples with other numbers have other ids where the catalogue's range allows it; each is a second
    later than the one before.
    """
    named = {f.name: _value(f, number) for f in catalogue.fields if f.required and f.role != "ignored"}
    return orjson.dumps(named | dict(given or {}))


def example_row(catalogue: Catalogue, layout: Layout) -> bytes:
    """An ordinary record of a source with this layout: of separated text, one with its number of fields."""
    return (
        example_record(catalogue)
        if layout.is_json
        else layout.separator.join("1" for _ in layout.columns).encode()
    )


def read_examples() -> None:
    """Parse a body as the service does, so that no first request waits for compiled code."""
    elements = array_elements(b'[{"a": [1]}]')
    assert elements is not None
    assert nesting(elements[0]) == 2
    assert member_counts(elements) == [1]


def example_label(catalogue: Catalogue, number: int = 0) -> bytes:
    """The JSON of a verdict on an example."""
    field = catalogue.field_of("transaction_id")
    assert field is not None, "the catalogue checks this"
    return orjson.dumps({"transaction_id": _value(field, number), "is_fraud": True})


def _value(field: SourceField, number: int) -> int | float | str:
    if field.role == "event_time":
        moment = EXAMPLE_SECONDS + number
        return time_text(moment) if field.format == "datetime" else moment
    if field.role in ("is_fraud", "scenario"):
        return 0
    value = _bounded(field, _wanted(field, number))
    if field.type == "text":
        return str(value)
    return value if field.role == "number" else math.ceil(value)


def _wanted(field: SourceField, number: int) -> int:
    if field.role == "transaction_id":
        return _FIRST_ID + number
    if field.role == "entity":
        return number % _ENTITIES + 1
    return number % 97 + 1 if field.role == "amount" else 1


def _bounded(field: SourceField, value: float) -> float:
    least = -math.inf if field.minimum is None else field.minimum
    most = math.inf if field.maximum is None else field.maximum
    return min(max(value, least), most)
