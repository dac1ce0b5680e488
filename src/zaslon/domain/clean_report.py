"""What became of the rows of files."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Self

OVER_LINES_PLACES_MAX = 10


@dataclass
class OverLines:
    """Accepted and rejected records that span lines, without those that are rejected line by line.

    Attributes:
        rows: how many.
        lines_like_rows: how many of their further lines have as many fields as a row.
        places: where the first of them are.
    """

    rows: int = 0
    lines_like_rows: int = 0
    places: list[str] = field(default_factory=list)

    def join(self, other: OverLines) -> None:
        """Count those of another part of the input, which follows."""
        self.rows += other.rows
        self.lines_like_rows += other.lines_like_rows
        self.places = [*self.places, *other.places][:OVER_LINES_PLACES_MAX]


@dataclass
class DatedRows:
    """What the dates of rows were judged by, see `intake.date_gaps`.

    Attributes:
        rows_by_day: by day number, before repeats and wrong dates were rejected; earlier files included.
        wrong_from: day number from which on dates were wrong; None where none was.
    """

    rows_by_day: dict[int, int] = field(default_factory=dict)
    wrong_from: int | None = None


@dataclass
class CleanReport:
    """Rows in = clean + rejected, to the last row.

    Of a record that is torn apart by a stray quote every line is a row.
    `answers_changed`: how often an answer to a clean row came, or became another, with a repeat.
    `days`: that were written; of a whole output those that it has.
    `arrived`: the declared arrival of all rows, the last one of several; with the same one the same input gives the
    same bytes.
    `dated` is of no interest to people.
    """

    rows_in: int = 0
    rows_clean: int = 0
    rows_rejected: dict[str, int] = field(default_factory=dict)
    answers_changed: int = 0
    headers_inside: int = 0  # further headers, as in files joined by `cat`; no rows
    over_lines: OverLines = field(default_factory=OverLines)  # rows with line breaks in quotes
    flags: dict[str, int] = field(default_factory=dict)
    days: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    catalogue: str = ""
    mapping: str = ""
    arrived: str = ""
    seconds: float = 0.0
    dated: DatedRows = field(default_factory=DatedRows)

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        values = asdict(self)
        del values["dated"]
        return values

    @classmethod
    def from_json_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse, but for `dated`.

        Raises:
            KeyError, TypeError: it is none.
        """
        return cls(**{**values, "over_lines": OverLines(**values["over_lines"])})

    def followed_by(self, other: CleanReport) -> CleanReport:
        """The report of one cleaning of these files and those of `other`, which continued it."""
        over_lines = OverLines(**asdict(self.over_lines))
        over_lines.join(other.over_lines)
        return CleanReport(
            self.rows_in + other.rows_in, self.rows_clean + other.rows_clean,
            _sum(self.rows_rejected, other.rows_rejected), self.answers_changed + other.answers_changed,
            self.headers_inside + other.headers_inside, over_lines,
            {name: self.flags.get(name, 0) + rows for name, rows in other.flags.items()},
            sorted({*self.days, *other.days}), [*self.sources, *other.sources], other.catalogue, other.mapping,
            max(self.arrived, other.arrived), other.seconds, other.dated,
        )  # fmt: skip


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(one) + Counter(other)).items()))
