"""Records as they may be kept: the values of pseudonymised fields are replaced, everything else stays as it came.

A value is replaced by `key:` and the number that the entity has in the clean data, so that
rejected and clean records can be compared. One rule says which records may still hold a value in clear: those that
do not have the fields of their layout (a wrong number of fields, a stray quote, broken JSON), and those with a line
in quotes that looks like a row, because two stray quotes join rows to one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from zaslon.domain.catalogue import Catalogue
from zaslon.intake.characters import key_text
from zaslon.intake.field_plans import FieldPlan, field_plans
from zaslon.intake.json_members import find_members
from zaslon.intake.layouts import Layout
from zaslon.intake.pseudonyms import pseudonym
from zaslon.intake.splitting import Values, split_line

_WHOLE = re.compile(rb"([+-]?)0*([0-9]+)(?:\.0+)?")
_LINE_END = re.compile(rb"[\r\n]+")


class Kept(NamedTuple):
    """A record as it may be kept, and whether it may still hold a value of a pseudonymised field."""

    raw: bytes
    in_clear: bool


class FieldHider:
    """Hides the pseudonymised fields of a catalogue.

    Args:
        catalogue, key: as for cleaning.
    """

    def __init__(self, catalogue: Catalogue, key: bytes) -> None:
        self._catalogue, self._key = catalogue, key
        self._plans = {
            plan.field.name: plan for plan in field_plans(catalogue) if plan.field.is_pseudonymised
        }
        self._plan_of_member = lru_cache(maxsize=1_000)(lambda name: self._plan_of(_text_of(name)))

    @property
    def has_work(self) -> bool:
        """Whether there are such fields."""
        return bool(self._plans)

    def hide(self, raws: Sequence[bytes], layout: Layout) -> list[Kept]:
        """Records of one layout without the values of these fields; one that does not fit the layout as it came."""
        return list(map(self._hide_json, raws)) if layout.is_json else self._hide_in_lines(raws, layout)

    def _hide_in_lines(self, raws: Sequence[bytes], layout: Layout) -> list[Kept]:
        lengths = np.array([len(raw) for raw in raws], np.int64)
        starts, buffer = np.cumsum(lengths) - lengths, np.frombuffer(b"".join(raws), np.uint8)
        values = Values(buffer, starts, lengths, layout.separator, len(layout.columns))
        plans = [
            (column, plan) for column, name in enumerate(layout.columns) if (plan := self._plan_of(name))
        ]

        def hidden(record: int, raw: bytes) -> Kept:
            pieces, at, start = [], 0, int(starts[record])
            for column, plan in plans:
                begin, end = (place - start for place in values.span(column, record))
                pieces += [raw[at:begin], self._hidden(raw[begin:end].replace(b'""', b'"'), plan)]
                at = end
            kept = b"".join([*pieces, raw[at:]])
            return Kept(kept, _has_rows_in_quotes(kept, layout))

        is_split = values.is_split.tolist()
        return [hidden(i, raw) if is_split[i] else _as_it_came(raw) for i, raw in enumerate(raws)]

    def _hide_json(self, raw: bytes) -> Kept:
        """Members of these names are hidden at any depth."""
        members = find_members(raw)
        if members is None:
            return _as_it_came(raw)
        pieces, at = [], 0
        try:
            for name, begin, end in members:
                plan = (
                    self._plan_of_member(name) if begin >= at else None
                )  # nothing of a hidden value is left
                if plan is not None:
                    pieces += [raw[at:begin], self._hidden_value(raw[begin:end], plan)]
                    at = end
        except ValueError:  # a name that is no text
            return _as_it_came(raw)
        return Kept(b"".join([*pieces, raw[at:]]), in_clear=False)

    def _hidden_value(self, written: bytes, plan: FieldPlan) -> bytes:
        """What stands for a value in JSON."""
        value = _content(written).strip(b" \t")
        hidden = self._hidden(value, plan)
        return written if written == b"null" or hidden == value else b'"' + hidden + b'"'

    def _plan_of(self, name: str) -> FieldPlan | None:
        field = self._catalogue.find_field(name)
        return None if field is None else self._plans.get(field.name)

    def _hidden(self, value: bytes, plan: FieldPlan) -> bytes:
        """What stands for a value. A word for a value that is not known stays: it names nobody."""
        if not value or value in plan.unknown or value in plan.null:
            return value
        return b"key:%d" % pseudonym(_known_as(value, plan), self._key)


def _as_it_came(raw: bytes) -> Kept:
    return Kept(raw, in_clear=bool(raw.strip()))


def _has_rows_in_quotes(record: bytes, layout: Layout) -> bool:
    """Whether a further line of a record has as many fields as a row."""
    if b"\n" not in record and b"\r" not in record:
        return False
    _, *further = _LINE_END.split(record.strip(b"\r\n"))
    return any(len(split_line(line, layout.separator)) == len(layout.columns) for line in further)


def _known_as(value: bytes, plan: FieldPlan) -> bytes:
    """The text that cleaning takes the pseudonym of, or the value itself where cleaning takes none."""
    if plan.field.is_text_key:
        try:
            return key_text(value)[0] or value
        except UnicodeDecodeError:
            return value
    whole = _WHOLE.fullmatch(value)
    return value if whole is None else whole[1].replace(b"+", b"") + whole[2]


def _content(written: bytes) -> bytes:
    """What a JSON text stands for, as UTF-8; what is no such text as it is written."""
    if not written.startswith(b'"'):
        return written
    try:
        return _text_of(written).encode("utf-8", "surrogatepass")
    except ValueError:
        return written[1:-1]


def _text_of(written: bytes) -> str:
    """What a JSON text stands for, control characters included.

    Raises:
        ValueError: it has escapes that JSON does not know, or is not UTF-8.
    """
    text = written.decode()
    if "\\" not in text:
        return text[1:-1]
    content: str = json.loads(text, strict=False)
    return content
