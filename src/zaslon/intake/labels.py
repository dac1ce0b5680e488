"""How a label looks: a record of two fields, the transaction's id and the verdict on it."""

from __future__ import annotations

from functools import lru_cache

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.rejections import Reason, RecordProblem

_VERDICT = "is_fraud"
_EXPECTED = "true or false, or as verdict chargeback, confirmed_fraud or confirmed_good"


@lru_cache(maxsize=64)
def label_layout(catalogue: Catalogue) -> Catalogue:
    """The catalogue by which labels are cleaned: the id is read as a transaction's, by the same rules.

    The fields are `transaction_id` and `is_fraud` or `verdict`; the catalogue's own names are as good.
    """
    identifier, answer = catalogue.field_of("transaction_id"), catalogue.field_of("is_fraud")
    assert identifier is not None, "the catalogue checks this"
    if answer is None:
        answer = SourceField(name=_VERDICT, role="is_fraud")
    fields = (
        _called("transaction_id", identifier),
        _called(_VERDICT, answer, "verdict").model_copy(update={"required": True}),
    )
    return catalogue.model_copy(update={"fields": fields})


def _called(name: str, field: SourceField, *others: str) -> SourceField:
    """The field under a name that labels of all catalogues have, its own names beside it."""
    return field.model_copy(update={"name": name, "aliases": (field.name, *field.aliases, *others)})


def label_problems(found: tuple[RecordProblem, ...]) -> tuple[RecordProblem, ...]:
    """The problems of a record as those of a label: one reason, and what a verdict can be."""
    return tuple(
        problem._replace(
            reason=Reason.UNREADABLE_LABEL,
            expected=_EXPECTED if problem.field == _VERDICT else problem.expected,
        )
        for problem in found
    )
