"""What became of the rows of files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

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
class CleanReport:
    """Rows in = clean + rejected, to the last row.

    Of a record that is torn apart by a stray quote every line is a row.
    `answers_changed`: clean rows whose answer came, or became another, with a repeat.
    `arrived`: the declared arrival of all rows; with the same one the same input gives the same bytes.
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

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
