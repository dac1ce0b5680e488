"""The adversarial log as files of every format, and what a file may hold otherwise than the log does.

Where a record from a file may differ from the same record over HTTP, in a Kafka topic or in the engine:

- every outcome: in its position;
- a transaction that the log rejects: in its original bytes, because the log of files holds clean columns only. It
  has none, or the columns as JSON where it breaks the engine. A label's are its two fields as JSON;
- a row that cleaning rejects is in the quarantine: reason, sentence and the row's own bytes, without the list of
  all problems and without the id;
- a repeat within one file is in the quarantine, and its sentence says so.

Everything else is compared byte for byte.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import polars as pl
from tests.parity.ingress_log import Group, Row, as_json, recorded

from zaslon.domain.outcomes import Rejection
from zaslon.domain.recorded import read_outcome
from zaslon.domain.rejections import Reason
from zaslon.flows.score import label, score
from zaslon.intake.quarantine import QUARANTINE
from zaslon.services.context import Context

# Columns of the mission that the log leaves empty: no field may add anything to an outcome.
MISSION_ONLY = dict.fromkeys(("tx_time_seconds", "tx_time_days", "tx_fraud", "tx_fraud_scenario"), "")
_POSITION = re.compile(rb'"position":\d+')
_IN_ONE_FILE = {
    "duplicate": "The transaction occurs earlier in the input with the same content.",
    "conflicting_duplicate": "The id occurs earlier in the input with other content.",
}


@dataclass(frozen=True)
class Format:
    """How a file is written.

    Attributes:
        suffix: of its name.
        write: rows into a file; returns the bytes by which its reader knows each row.
        has_offsets: whether a row has a place among the file's bytes.
    """

    suffix: str
    write: Callable[[Sequence[Row], Path], list[bytes]]
    has_offsets: bool = True


def placeless(outcome: bytes) -> bytes:
    """An outcome with position 0."""
    return _POSITION.sub(b'"position":0', outcome, count=1)


def by_files(
    context: Context, groups: Sequence[Group], scratch: Path, form: Format, labels: Format
) -> tuple[list[bytes], list[list[bytes]]]:
    """Every group as a file: outcomes, the log's before the quarantine's, and the bytes of each group's rows."""
    found: list[bytes] = []
    raws: list[list[bytes]] = []
    for number, group in enumerate(groups):
        used = labels if group.is_labels else form
        file = scratch / f"{number:03d}{used.suffix}"
        raws.append(used.write(group.rows, file))
        before = len(recorded(context))
        kept: list[bytes] = []
        if group.is_labels:
            label(context, file, None)
            raws[-1] = list(map(_label_record, group.rows)) if used is CSV else raws[-1]
        else:
            out = score(context, [str(file)], learn=False).clean.out
            kept = _quarantined(out / QUARANTINE, file, has_offsets=form.has_offsets)
        found += [*map(placeless, recorded(context)[before:]), *kept]
    return found, raws


def as_in_files(
    expected: Sequence[bytes], groups: Sequence[Group], raws: Sequence[Sequence[bytes]]
) -> list[bytes]:
    """The engine's outcomes as files have them: of each group the log's, then the quarantine's."""
    outcomes, found = iter(expected), []
    for group, bytes_of_rows in zip(groups, raws, strict=True):
        log, quarantine = [], []
        for row, raw in enumerate(bytes_of_rows):
            outcome = next(outcomes)
            rejection = read_outcome(outcome)
            if not isinstance(rejection, Rejection):
                log.append(placeless(outcome))
            elif group.is_labels:
                log.append(replace(rejection, position=0, raw=raw).to_json())
            elif rejection.reason == Reason.ENGINE_ERROR:
                log.append(replace(rejection, position=0, raw=_clean_columns(group.rows[row])).to_json())
            elif (detail := _detail_in_quarantine(rejection, group, row)) is None:
                log.append(replace(rejection, position=0, raw=None).to_json())
            else:
                quarantine.append(_kept(rejection.code, detail, raw))
        found += log + quarantine
    return found


def _detail_in_quarantine(rejection: Rejection, group: Group, row: int) -> str | None:
    """The sentence where a row goes to the quarantine; None where the log rejects it."""
    if rejection.transaction_id is None:
        return rejection.detail
    earlier = [other["transaction_id"] for other in group.rows[:row]]
    is_repeat_inside = group.rows[row]["transaction_id"] in earlier
    return _IN_ONE_FILE.get(rejection.code) if is_repeat_inside else None


def _clean_columns(row: Row) -> bytes:
    """What the log keeps of a clean row that breaks the engine."""
    moment = datetime.fromisoformat(row["tx_datetime"]).replace(tzinfo=UTC)
    return orjson.dumps({
        "transaction_id": row["transaction_id"], "event_time_seconds": int(moment.timestamp()),
        "amount_minor": int(Decimal(row["tx_amount"]) * 100), "flags": 0,
        "customer": row["customer_id"], "terminal": row["terminal_id"],
    })  # fmt: skip


def _quarantined(path: Path, file: Path, *, has_offsets: bool) -> list[bytes]:
    found, content = [], file.read_bytes()
    for row in pl.read_parquet(path).sort("record").iter_rows(named=True):
        assert (row["source"], row["in_clear"]) == (str(file), False)
        raw, offset = row["raw"], row["offset"]
        assert content[offset : offset + len(raw)] == raw if has_offsets else offset == -1
        reason = f"{row['reason']}:{row['field']}" if row["field"] else row["reason"]
        found.append(_kept(reason, row["detail"], raw))
    return found


def _kept(code: str, detail: str, raw: bytes) -> bytes:
    """What the quarantine has of a rejection."""
    return orjson.dumps({"outcome": "rejection", "reason": code, "detail": detail}) + raw


def _label_record(row: Row) -> bytes:
    """The record that a label of separated text becomes."""
    return orjson.dumps({name: str(value) for name, value in row.items()})


def _lines(rows: Sequence[Row]) -> list[bytes]:
    """Rows as separated text, with quotes where they are needed."""
    return [_line(list(row.values())) for row in rows]


def _line(values: Sequence[object]) -> bytes:
    text = io.StringIO()
    if str(values[0]).startswith(("[", "{")):  # without quotes such a beginning would be JSON
        csv.writer(text, lineterminator="", quoting=csv.QUOTE_ALL).writerow(values)
    else:
        csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue().encode()


def _write_csv(rows: Sequence[Row], file: Path) -> list[bytes]:
    lines = _lines(rows)
    file.write_bytes(b"\n".join([_line(list(rows[0])), *lines, b""]))
    return lines


def _write_headerless(rows: Sequence[Row], file: Path) -> list[bytes]:
    lines = _lines([{**row, **MISSION_ONLY} for row in rows])
    file.write_bytes(b"\n".join([*lines, b""]))
    return lines


def _write_jsonl(rows: Sequence[Row], file: Path) -> list[bytes]:
    lines = list(map(as_json, rows))
    file.write_bytes(b"\n".join([*lines, b""]))
    return lines


def _write_text_columns(rows: Sequence[Row], file: Path) -> list[bytes]:
    """Parquet whose columns are text, as a careless export has them."""
    texts = {name: [None if row[name] == "" else str(row[name]) for row in rows] for name in rows[0]}
    pl.DataFrame(texts, schema=dict.fromkeys(texts, pl.String)).write_parquet(file)
    return _lines(rows)


def _write_typed_columns(rows: Sequence[Row], file: Path) -> list[bytes]:
    """Parquet with a column of integers, moments or decimals wherever all its values are written as such."""
    columns = {
        name: _typed([None if row[name] == "" else str(row[name]) for row in rows]) for name in rows[0]
    }
    pl.DataFrame(columns).write_parquet(file)
    short = [{**row, "tx_amount": _as_decimal_column(row, columns)} for row in rows]
    return _lines(short)


def _typed(texts: Sequence[str | None]) -> pl.Series:
    forms: list[tuple[str, Callable[[str], Any], Any]] = [
        (r"0|-?[1-9]\d*", int, pl.Int64),
        (r"\d+\.\d\d", Decimal, pl.Decimal(18, 2)),
        (r"\d{4}-\d\d-\d\d (?!24)\d\d:\d\d:\d\d", datetime.fromisoformat, pl.Datetime("us")),
    ]  # fmt: skip
    for pattern, read, kind in forms:
        if all(text is not None and re.fullmatch(pattern, text) for text in texts):
            try:
                return pl.Series([read(text) for text in texts if text], dtype=kind)
            except ValueError:  # 30 February is no moment
                break
    return pl.Series(texts, dtype=pl.String)


def _as_decimal_column(row: Row, columns: dict[str, pl.Series]) -> object:
    """The amount as a column of decimals gives it: the zeros at its end are the type's."""
    amount = row["tx_amount"]
    is_decimal = columns["tx_amount"].dtype == pl.Decimal(18, 2)
    return str(amount).rstrip("0").rstrip(".") if is_decimal else amount


CSV, JSON_LINES = Format(".csv", _write_csv), Format(".jsonl", _write_jsonl)
HEADERLESS = Format(".txt", _write_headerless)
TEXT_COLUMNS = Format(".parquet", _write_text_columns, has_offsets=False)
TYPED_COLUMNS = Format(".typed.parquet", _write_typed_columns, has_offsets=False)
