"""What a clean output shows of its input: the commonest problems of rejected rows, columns that never change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.rejections import Reason
from zaslon.intake.quarantine import QUARANTINE

_PROBLEMS_NAMED = 3


def commonest_problems(out: Path, reason: Reason, field: str | None) -> tuple[tuple[str, int], ...]:
    """The commonest sentences about rows that were rejected for a reason, with how many each is of."""
    is_meant = (pl.col("reason") == reason.code) & pl.col("field").eq_missing(field)
    found = (
        pl.scan_parquet(out / QUARANTINE)
        .filter(is_meant)
        .group_by("detail")
        .len()
        .sort(["len", "detail"], descending=[True, False])
        .head(_PROBLEMS_NAMED)
        .collect()
    )
    return tuple((detail or "", int(rows)) for detail, rows in found.rows())


def unchanging_columns(days: Sequence[Path], catalogue: Catalogue) -> tuple[list[str], list[str]]:
    """Fields of the catalogue with the same value in all clean rows, and fields without any value.

    Looked at are amounts, numbers and entities, not the first of these: whose payments there are is another question.

    Args:
        days: Parquet files of the clean days.
        catalogue: by which they were cleaned.
    """
    columns = {f.name: column for f in catalogue.fields if (column := _column(f, catalogue))}
    if not days or not columns:
        return [], []
    frame = pl.scan_parquet(list(days)).select(pl.len().alias("rows"), *_extremes(columns))
    found = frame.collect().row(0, named=True)
    if found["rows"] < 2:
        return [], []
    empty = [name for name in columns if found[f"{name} least"] is None]
    constant = [
        name for name in columns
        if name not in empty and found[f"{name} least"] == found[f"{name} most"] and not found[f"{name} null"]
    ]  # fmt: skip
    return constant, empty


def _extremes(columns: dict[str, str]) -> list[pl.Expr]:
    found = []
    for name, column in columns.items():
        values = pl.col(column).cast(pl.Float64).fill_nan(None) if name == column else pl.col(column)
        found += [
            values.min().alias(f"{name} least"), values.max().alias(f"{name} most"),
            values.null_count().alias(f"{name} null"),
        ]  # fmt: skip
    return found


def _column(field: SourceField, catalogue: Catalogue) -> str | None:
    if field.role == "amount":
        return "amount_minor"
    if field.role == "entity" and field.entity != catalogue.entities[0]:
        return f"{field.entity}_key"
    return field.name if field.name in catalogue.number_fields else None
