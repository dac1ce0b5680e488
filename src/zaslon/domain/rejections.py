"""Why a record is not decided: the fixed list of reasons, in the order in which they are checked.

A record's primary reason is the first that applies, so the order is part of the contract; all its
problems go with it. A reason that concerns a field is written `reason:field`, for example
`not_a_number:tx_amount`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

PROBLEMS_MAX = 16  # that a rejection names of one record


class Reason(IntEnum):
    """Reasons by precedence: a lower number is checked first; 0 means accepted."""

    ACCEPTED = 0
    TOO_LONG = 1  # longer than the catalogue's `max_record_bytes`
    EMPTY = 2  # a line or message without content
    NOT_TEXT = 3  # bytes that are not UTF-8, or control bytes inside
    NOT_JSON = 4  # a JSON record that does not parse, or is not an object
    WRONG_FIELD_COUNT = 5  # more or fewer fields than the catalogue's columns, or one twice
    MISSING_FIELD = 6  # an empty or absent value of a required field
    NOT_AN_INTEGER = 7  # not plain ASCII digits with an optional sign
    NOT_A_NUMBER = 8  # not a plain ASCII decimal
    NOT_A_TIME = 9  # not in the field's time format
    TOO_PRECISE = 10  # an amount with more digits than the currency has
    OUT_OF_RANGE = 11  # beyond the field's minimum or maximum, or beyond 64 bits
    UNKNOWN_ENTITY = 12  # a sentinel such as customer -999999
    HOUR_24 = 13  # `24:00:00`: which day it belongs to would be a guess
    IMPOSSIBLE_TIME = 14  # 30 February, 25:61:00, outside 1970 … 2106
    AFTER_ARRIVAL = 15  # event time lies further after its arrival than clocks differ
    TOO_LATE = 16  # older than the history that is remembered
    DUPLICATE = 17  # a known transaction id with the same content
    CONFLICTING_DUPLICATE = 18  # a known transaction id with other content
    UNKNOWN_TRANSACTION = 19  # a label for a transaction too old to be remembered
    UNREADABLE_LABEL = 20  # a label record without id or verdict
    ENGINE_ERROR = 21  # the record breaks our own code, at whichever stage

    @property
    def code(self) -> str:
        """The name as it is written in reports, quarantine and topics: lower case."""
        return self.name.lower()


def reason_text(reason: int, field: str | None) -> str:
    """`reason` or `reason:field`."""
    code = Reason(reason).code
    return f"{code}:{field}" if field else code


def read_reason(code: str) -> tuple[Reason, str | None]:
    """Reason and field of what `reason_text` gave, as counts in a report are named.

    Raises:
        KeyError: there is no such reason.
    """
    name, _, field = code.partition(":")
    return Reason[name.upper()], field or None


class RecordProblem(NamedTuple):
    """One thing that is wrong with a record.

    Attributes:
        reason: by which of the reasons.
        field: the field's name in the catalogue; None for the record as a whole.
        problem: what is wrong, as the rest of a sentence about the field: "is 'much'".
        expected: what would have been right, None where that goes without saying.
    """

    reason: Reason
    field: str | None
    problem: str
    expected: str | None = None

    @property
    def detail(self) -> str:
        """The problem as one sentence."""
        subject = "" if self.field is None else f"Field '{self.field}' "
        expected = "" if self.expected is None else f"; expected {self.expected}"
        return f"{subject}{self.problem}{expected}."

    @property
    def code(self) -> str:
        """`reason` or `reason:field`."""
        return reason_text(self.reason, self.field)

    def forgotten(self) -> RecordProblem:
        """The same without what the record held."""
        whole = "The record is no longer kept"
        return self._replace(problem=whole if self.field is None else "is no longer kept")

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "reason": self.reason.code, "field": self.field,
            "problem": self.problem, "expected": self.expected,
        }  # fmt: skip

    @staticmethod
    def of_record(code: str, detail: str) -> RecordProblem:
        """The problem of a record as a whole, without field or expectation, from its code and its sentence."""
        return RecordProblem(Reason[code.upper()], None, detail.removesuffix("."))

    @staticmethod
    def from_json_dict(content: dict[str, Any]) -> RecordProblem:
        """The problem of which `to_json_dict` gave these values."""
        reason = Reason[content["reason"].upper()]
        return RecordProblem(reason, content["field"], content["problem"], content["expected"])
