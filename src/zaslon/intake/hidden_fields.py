"""Records as they may be kept: the values of pseudonymised fields are replaced, everything else stays as it came.

What stands in the place of a value is `key:` and the number by which the clean data know the entity, so that
rejected and clean records can be compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import orjson

from zaslon.domain.catalogue import Catalogue
from zaslon.intake.characters import key_text
from zaslon.intake.field_plans import FieldPlan, field_plans
from zaslon.intake.layouts import Layout
from zaslon.intake.pseudonyms import pseudonym
from zaslon.intake.splitting import Values

_WHOLE = re.compile(rb"([+-]?)0*([0-9]+)(?:\.0+)?")


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

    @property
    def has_work(self) -> bool:
        """Whether there are such fields."""
        return bool(self._plans)

    def hide(self, raws: Sequence[bytes], layout: Layout) -> list[bytes | None]:
        """Records of one layout without the values of these fields; None for one that cannot be split into fields."""
        return list(map(self._hide_json, raws)) if layout.is_json else self._hide_in_lines(raws, layout)

    def _hide_in_lines(self, raws: Sequence[bytes], layout: Layout) -> list[bytes | None]:
        lengths = np.array([len(raw) for raw in raws], np.int64)
        starts, buffer = np.cumsum(lengths) - lengths, np.frombuffer(b"".join(raws), np.uint8)
        values = Values(buffer, starts, lengths, layout.separator, len(layout.columns))
        plans = [
            (column, plan) for column, name in enumerate(layout.columns) if (plan := self._plan_of(name))
        ]

        def hidden(record: int, raw: bytes) -> bytes:
            pieces, at, start = [], 0, int(starts[record])
            for column, plan in plans:
                begin, end = (place - start for place in values.span(column, record))
                pieces += [raw[at:begin], self._hidden(raw[begin:end].replace(b'""', b'"'), plan)]
                at = end
            return b"".join([*pieces, raw[at:]])

        is_split = values.is_split.tolist()
        return [hidden(i, raw) if is_split[i] else None for i, raw in enumerate(raws)]

    def _hide_json(self, raw: bytes) -> bytes | None:
        try:
            content = json.loads(raw, object_pairs_hook=_Members, parse_int=_number, parse_float=_number)
        except (ValueError, RecursionError):
            return None
        if not isinstance(content, _Members):
            return None
        hidden = _Members((name, self._hidden_value(name, value)) for name, value in content)
        try:
            return _written(hidden)
        except TypeError:  # half a surrogate pair
            return None

    def _hidden_value(self, name: str, value: Any) -> Any:
        plan = self._plan_of(name)
        if plan is None or value is None:
            return value
        text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else _written(value)
        return self._hidden(text.strip(b" \t"), plan).decode()

    def _plan_of(self, name: str) -> FieldPlan | None:
        field = self._catalogue.find_field(name)
        return None if field is None else self._plans.get(field.name)

    def _hidden(self, value: bytes, plan: FieldPlan) -> bytes:
        """What stands for a value. A word for a value that is not known stays: it names nobody."""
        if not value or value in plan.unknown or value in plan.null:
            return value
        return b"key:%d" % pseudonym(_known_as(value, plan), self._key)


def _known_as(value: bytes, plan: FieldPlan) -> bytes:
    """The text that cleaning takes the pseudonym of, or the value itself where cleaning takes none."""
    if plan.field.is_text_key:
        try:
            return key_text(value)[0] or value
        except UnicodeDecodeError:
            return value
    whole = _WHOLE.fullmatch(value)
    return value if whole is None else whole[1].replace(b"+", b"") + whole[2]


class _Members(list[tuple[str, Any]]):
    """The members of a JSON object in order, those with one name too."""


def _number(digits: str) -> orjson.Fragment:
    """A number as it was written."""
    return orjson.Fragment(digits.encode())


def _written(value: Any) -> bytes:
    """JSON of a parsed value."""
    if isinstance(value, _Members):
        return b"{" + _listed(value, lambda m: orjson.dumps(m[0]) + b":" + _written(m[1])) + b"}"
    if isinstance(value, list):
        return b"[" + _listed(value, _written) + b"]"
    return orjson.dumps(value)


def _listed(values: Iterable[Any], write: Callable[[Any], bytes]) -> bytes:
    return b",".join(map(write, values))
