"""Whether ordinary records can be cleaned: distinguishes a record that breaks our code from code that is broken."""

from __future__ import annotations

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import Kind, RecordBatch
from zaslon.domain.rejections import Reason, RecordProblem
from zaslon.intake.cleaning import clean_batch
from zaslon.intake.examples import EXAMPLE_SECONDS, example_label, example_record
from zaslon.system.isolation import fault_text


def problem_of_fault(error: Exception) -> RecordProblem:
    """The sentence about a record that breaks our code; without its content."""
    problem = f"Zaslon's own code failed on this record: {fault_text(error)}"
    return RecordProblem(Reason.ENGINE_ERROR, None, problem)


def ordinary_records(catalogue: Catalogue) -> RecordBatch:
    """A transaction and a label that any catalogue accepts."""
    records = [example_record(catalogue), example_label(catalogue)]
    return RecordBatch.of(records, [Kind.TRANSACTION_JSON, Kind.LABEL_JSON], [EXAMPLE_SECONDS] * 2)


def check_cleaning(catalogue: Catalogue, key: bytes, error: Exception) -> None:
    """Do nothing where ordinary records can be cleaned.

    Raises:
        Exception: `error`, where they cannot: then no record is to blame for it.
    """
    try:
        clean_batch(ordinary_records(catalogue), catalogue, key)
    except Exception:  # noqa: BLE001  the first error is more useful
        raise error from None
