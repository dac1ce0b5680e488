"""How each field of a catalogue is read, as far as it is the same for all batches."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from math import ceil, floor

from zaslon.domain.catalogue import Catalogue, SourceField, missing_flag
from zaslon.domain.money import AMOUNT_MINOR_MAX
from zaslon.intake.words import Words

INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class FieldPlan:
    """How a field is read, as far as the catalogue fixes it for all batches.

    Attributes:
        number: of the field in the catalogue.
        least, most: the integers that it may hold: of the smallest unit for an amount.
        unknown, null: words that mean that it is not known, and that it is absent.
        has_one_form: whether an integer must be written as Python writes it.
        unusual_bit: its flag's value where it is above `usual_maximum`.
        missing_bit: of an optional entity, its flag's value where the record has none.
    """

    number: int
    field: SourceField
    least: int
    most: int
    unknown: Words
    null: Words
    has_one_form: bool
    unusual_bit: int
    missing_bit: int


@lru_cache(maxsize=64)
def field_plans(catalogue: Catalogue) -> tuple[FieldPlan, ...]:
    """The plans of the fields that are read, in the catalogue's order."""
    return tuple(
        _plan(number, field, catalogue)
        for number, field in enumerate(catalogue.fields)
        if field.role != "ignored"
    )


@lru_cache(maxsize=64)
def null_words(catalogue: Catalogue) -> Words:
    """The words that mean no value, in any field."""
    return Words(catalogue.record.null_words)


def _plan(number: int, field: SourceField, catalogue: Catalogue) -> FieldPlan:
    names = catalogue.flag_names
    unusual, missing = f"{field.name}_unusual", missing_flag(field.entity or "")
    return FieldPlan(
        number, field, *_bounds(field, catalogue.minor_digits),
        Words(field.unknown), null_words(catalogue), field.is_integer_id and not field.zero_padded,
        1 << names.index(unusual) if unusual in names else 0,
        1 << names.index(missing) if missing in names else 0,
    )  # fmt: skip


def _bounds(field: SourceField, minor_digits: int) -> tuple[int, int]:
    """The least and the most integer that the field may hold, an amount's in minor units."""
    if field.role in ("is_fraud", "scenario"):
        return 0, 1 if field.role == "is_fraud" else 127
    is_amount = field.role == "amount"
    digits, limit = (minor_digits, AMOUNT_MINOR_MAX) if is_amount else (0, INT64_MAX)
    least = -limit if field.minimum is None else ceil(Decimal(str(field.minimum)).scaleb(digits))
    most = limit if field.maximum is None else floor(Decimal(str(field.maximum)).scaleb(digits))
    return max(least, -limit), min(most, limit)
