"""What makes the figures of a run doubtful, found in its data before anybody believes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from zaslon.domain.errors import TooManyRejectedError
from zaslon.domain.rejections import Reason, reason_text

REJECTED_SHARE_NOTED = 0.01  # for one reason
_NAMED_MAX = 5
_REPEATS = (Reason.DUPLICATE, Reason.CONFLICTING_DUPLICATE)


@dataclass(frozen=True)
class DataWarning:
    """One thing: `kind` for machines, `message` and `hint` for people."""

    kind: str
    message: str
    hint: str

    def to_json_dict(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class RejectedRows:
    """Rows rejected for one reason.

    Attributes:
        reason, field: for which reason, and in which field; None for a record as a whole.
        rows: how many.
        problems: the commonest sentences about them, each with its number of rows.
        place: where the catalogue describes the field; None for a record as a whole.
    """

    reason: Reason
    field: str | None
    rows: int
    problems: tuple[tuple[str, int], ...] = ()
    place: str | None = None

    @property
    def code(self) -> str:
        """`reason` or `reason:field`."""
        return reason_text(self.reason, self.field)

    @property
    def is_repeat(self) -> bool:
        """Whether these rows are sound, and only came twice."""
        return self.reason in _REPEATS

    @property
    def hint(self) -> str:
        """What to change: the commonest values, and where the catalogue speaks of them."""
        if self.is_repeat:
            return "Was a file given twice, or do exports overlap?"
        found = "".join(f" {rows:,} times: {problem}" for problem, rows in self.problems)
        commonest = f"Most often{found} " if found else ""
        place = f"{self.place} describes the field" if self.place else "The catalogue describes the record"
        return f"{commonest}{place}; the quarantine of the cleaned data has all rows."


def check_rejected(
    rows_in: int, rejected: Sequence[RejectedRows], share_max: float, same_files: Sequence[Sequence[str]] = ()
) -> None:
    """Stop before training where too many rows were rejected.

    Args:
        rows_in: rows read.
        rejected: by reason, the commonest first.
        share_max: of the rows read, 0 … 1.
        same_files: pairs of sources with the same content.

    Raises:
        TooManyRejectedError: they are more than that.
    """
    rows = sum(found.rows for found in rejected)
    if not rows_in or rows <= share_max * rows_in:
        return
    most = rejected[0]
    twice = "".join(f"{_same(pair)} Leave one of them out. " for pair in same_files) if most.is_repeat else ""
    raise TooManyRejectedError(
        f"{rows / rows_in:.0%} of {rows_in:,} rows were rejected, {most.rows:,} of them for {most.code}; at most "
        f"{share_max:.0%} may be (ZASLON_REJECTED_SHARE_MAX). Nothing was trained.",
        hint=twice.strip() or most.hint,
    )


def rejection_warnings(rows_in: int, rejected: Sequence[RejectedRows]) -> list[DataWarning]:
    """One for each reason that took more than a hundredth of the rows."""
    return [
        DataWarning(
            "repeated_rows" if found.is_repeat else "rejected_rows",
            f"{found.rows / rows_in:.1%} of the rows were rejected for {found.code}.", found.hint,
        )
        for found in rejected
        if found.rows > REJECTED_SHARE_NOTED * rows_in
    ]  # fmt: skip


def same_files_warnings(same_files: Sequence[Sequence[str]]) -> list[DataWarning]:
    """One for each pair of sources with the same content."""
    hint = "Leave one of them out: every row of the second was rejected as a repeat."
    return [DataWarning("same_files", _same(pair), hint) for pair in same_files]


def not_compared_warnings(not_compared: Mapping[str, str]) -> list[DataWarning]:
    """One for each source, with the reason, that could not be read again to compare it with the others."""
    hint = "If it has the content of another source, its rows were rejected as repeats."
    return [
        DataWarning("file_not_compared", f"'{source}' was not compared with the other sources: {why}", hint)
        for source, why in not_compared.items()
    ]


def _same(pair: Sequence[str]) -> str:
    first, second = pair
    if first == second:
        return f"'{first}' was given twice."
    return f"'{second}' has the same content as '{first}'."


def constant_column_warnings(constant: Sequence[str], empty: Sequence[str]) -> list[DataWarning]:
    """One for columns with one value, and one for columns without any.

    Args:
        constant, empty: names in the catalogue.
    """
    hint = "Is the right column mapped in the catalogue, and was it filled when the file was exported?"
    return [
        DataWarning(kind, f"{listed('Column', names)} {what} in every row.", hint)
        for kind, names, what in (
            ("constant_column", constant, "the same value"), ("empty_column", empty, "no value"),
        )
        if names
    ]  # fmt: skip


def listed(noun: str, names: Sequence[str]) -> str:
    """`Column 'a' has`, or `Columns 'a', 'b' and 7 others have`."""
    named = ", ".join(f"'{name}'" for name in names[:_NAMED_MAX])
    if len(names) == 1:
        return f"{noun} {named} has"
    others = f" and {len(names) - _NAMED_MAX} others" if len(names) > _NAMED_MAX else ""
    return f"{noun}s {named}{others} have"


def over_lines_warnings(rows: int, lines_like_rows: int, places: Sequence[str]) -> list[DataWarning]:
    """One where rows span lines: two stray quotes take the rows between them for the text of one field.

    Args:
        rows: that span lines.
        lines_like_rows: of the lines inside them, how many look like rows.
        places: where the first of these rows are.
    """
    if not rows:
        return []
    subject, verb = ("1 row", "spans") if rows == 1 else (f"{rows:,} rows", "span")
    inside = (
        f", and {lines_like_rows:,} of the lines inside look like rows of their own"
        if lines_like_rows
        else ""
    )
    more = " and more" if rows > len(places) else ""
    return [
        DataWarning(
            "rows_over_lines",
            f"{subject} {verb} lines, by line breaks in quotes{inside}: {'; '.join(places)}{more}.",
            "Can a field of this source hold line breaks? If none can, stray quotes took the rows between them for"
            " one field: correct the export, with quotes inside quoted fields doubled.",
        )
    ]  # fmt: skip
