"""Records that span lines because of line breaks in quotes: never silent, whatever the quotes meant.

Two stray quotes make one field of all rows between them. Nothing in the bytes distinguishes that from a memo
with line breaks, and lines inside quotes are never read as records: whoever may write a memo could write
transactions. So every record over lines is counted, and one with a line break where none can be is rejected line by line.
"""

from __future__ import annotations

import polars as pl

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.clean_report import OVER_LINES_PLACES_MAX, OverLines
from zaslon.domain.events import Rejected
from zaslon.domain.rejections import Reason, RecordProblem
from zaslon.intake.chunks import Chunk, Lines
from zaslon.intake.fields import line_columns
from zaslon.intake.layouts import Layout
from zaslon.intake.splitting import split_line

# The reasons why a text as a whole is not a record.
_IS_NONE = (Reason.TOO_LONG, Reason.NOT_TEXT, Reason.WRONG_FIELD_COUNT)


def count_over_lines(chunk: Chunk, records: list[int]) -> OverLines:
    """Count records of a chunk that span lines."""
    found = OverLines(len(records))
    for record in records:
        lines = chunk.lines_of(record)
        found.lines_like_rows += lines_like_rows(lines, chunk.layout)
        if len(found.places) < OVER_LINES_PLACES_MAX:
            found.places.append(lines.place(chunk.source))
    return found


def lines_like_rows(lines: Lines, layout: Layout) -> int:
    """How many further lines of a record have as many fields as a row."""
    fields = (len(split_line(line, layout.separator)) for line in lines.contents[1:])
    return sum(count == len(layout.columns) for count in fields)


def torn_records(
    chunk: Chunk, rejected: Rejected, catalogue: Catalogue
) -> tuple[dict[int, pl.DataFrame], OverLines]:
    """The lines of rejected records that are torn apart, by record, and what is counted of all others over lines."""
    spanning = set(chunk.over_lines().tolist())
    torn: dict[int, pl.DataFrame] = {}
    for record, (problem, *_) in zip(rejected.index.tolist(), rejected.problems, strict=True):
        if record in spanning and (name := torn_field(chunk, record, problem, catalogue)) is not None:
            reason = pl.lit(problem.reason.code).alias("reason")
            torn[record] = rejected_lines(chunk, record, name).with_columns(reason)
    return torn, count_over_lines(chunk, sorted(spanning - torn.keys()))


def torn_field(chunk: Chunk, record: int, problem: RecordProblem, catalogue: Catalogue) -> str | None:
    """The field that has a line break and cannot hold one, if a record that spans lines is rejected as none.

    No id, time, number or answer has a line break, so there a quote is a stray one. A text may have one.
    """
    if problem.field is not None or problem.reason not in _IS_NONE:
        return None
    lines = chunk.lines_of(record)
    values = split_line(b"\n".join(lines.contents), chunk.layout.separator)
    columns = line_columns(catalogue, chunk.layout.columns)
    torn = [catalogue.fields[n] for v, n in zip(values, columns, strict=False) if n >= 0 and b"\n" in v]
    return next((field.name for field in torn if not field.is_text_key), None)


def rejected_lines(chunk: Chunk, record: int, field: str) -> pl.DataFrame:
    """A rejection for each line of a record with a line break in `field`, in the columns of the quarantine."""
    lines = chunk.lines_of(record)
    count = len(lines.contents)
    detail = (
        f"By their quotes the {lines.place(chunk.source)} are one record, with a line break in '{field}', which"
        f" cannot hold one; expected every quote to be closed in its own field. All {count} lines are rejected."
    )
    return pl.DataFrame(
        {
            "source": [chunk.source] * count, "record": [chunk.first_record + record] * count,
            "offset": lines.offsets, "raw": pl.Series(lines.contents, dtype=pl.Binary),
            "field": pl.Series([None] * count, dtype=pl.String), "detail": [detail] * count,
        }
    )  # fmt: skip


def without(rejected: Rejected, torn: set[int]) -> Rejected:
    """The rejected records but for some of them."""
    keep = [k for k, record in enumerate(rejected.index.tolist()) if record not in torn]
    return Rejected(rejected.index[keep], [rejected.problems[k] for k in keep])
