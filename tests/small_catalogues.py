"""Catalogues of a few fields for tests, as the text of their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w

ID, AT, SUM = {"role": "transaction_id"}, {"role": "event_time"}, {"role": "amount"}


def entity(name: str, **more: Any) -> dict[str, Any]:
    """A field that names an entity."""
    return {"role": "entity", "entity": name, **more}


def catalogue_text(
    name: str, fields: Mapping[str, Mapping[str, Any]], *, counted: str = "card", window: str = "1d",
    compute: Sequence[str] = ("count",),
) -> str:  # fmt: skip
    """A catalogue whose records have these fields, in this order, with aggregates of one entity."""
    tables = [
        tomli_w.dumps({"name": name, "version": 1, "currency": "EUR", "record": {"columns": list(fields)}}),
        *("[[fields]]\n" + tomli_w.dumps({"name": field, **what}) for field, what in fields.items()),
        "[[aggregates]]\n"
        + tomli_w.dumps({"entity": counted, "windows": [window], "compute": list(compute)}),
    ]
    return "\n".join(tables)
