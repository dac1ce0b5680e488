"""Admission: the one stage before the log. Raw records in, typed records of the log out."""

from zaslon.admission.admit import (
    admit,
    as_engine_error,
    change_entry,
    columns_as_original,
    from_clean,
    writable,
)

__all__ = [
    "admit", "as_engine_error", "change_entry", "columns_as_original", "from_clean", "writable",
]  # fmt: skip
