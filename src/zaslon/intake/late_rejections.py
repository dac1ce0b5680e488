"""Why rows are rejected for what only the whole input shows: `reason`, `field` and `detail` of each."""

from __future__ import annotations

from typing import Any

import polars as pl

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.rejections import Reason
from zaslon.intake.date_gaps import WrongDates

_REPEAT_DETAIL = {
    Reason.DUPLICATE: "The transaction occurs earlier in the input with the same content.",
    Reason.CONFLICTING_DUPLICATE: "The id occurs earlier in the input with other content.",
}


def why_wrong_dates(wrong: WrongDates, catalogue: Catalogue, rows: pl.DataFrame) -> dict[str, Any]:
    """Rows with `event_time_seconds`, which are there only by a wrong date."""
    field = catalogue.field_of("event_time")
    assert field is not None, "the catalogue checks this"
    return {
        "reason": [Reason.AFTER_ARRIVAL.code] * len(rows), "field": [field.name] * len(rows),
        "detail": [wrong.sentence(field.name, t) for t in rows["event_time_seconds"]],
    }  # fmt: skip


def why_repeats(rows: pl.DataFrame) -> dict[str, Any]:
    """Rows with the number of their `reason`, which are repeats."""
    reasons = [Reason(r) for r in rows["reason"].to_list()]
    return {
        "reason": [r.code for r in reasons], "field": [None] * len(reasons),
        "detail": [_REPEAT_DETAIL[r] for r in reasons],
    }  # fmt: skip
