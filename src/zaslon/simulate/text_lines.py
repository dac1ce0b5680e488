"""Rows → bytes: a compiled writer of the mission's text, CSV and JSON lines."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.time import day_text
from zaslon.simulate.defects import DirtyDay
from zaslon.system.compiled import compiled, inlined

# The mission's header, literally: the typo and the pipes are those of the real files.
MISSION_HEADER = (
    b"# tranaction_id | tx_datetime | customer_id | terminal_id | tx_amount | tx_time_seconds"
    b" | tx_time_days | tx_fraud | tx_fraud_scenario\n"
)
COLUMNS = (
    "TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT",
    "TX_TIME_SECONDS", "TX_TIME_DAYS", "TX_FRAUD", "TX_FRAUD_SCENARIO",
)  # fmt: skip
# Nine values of at most 20 bytes, the names of JSON's keys (135 bytes) and the separators.
LINE_BYTES_MAX = 384

TextFormat = Literal["mission", "csv", "jsonl"]


def header(format: TextFormat) -> bytes:  # noqa: A002  the command's word
    """The first line, with its end; JSON lines have none."""
    return {"mission": MISSION_HEADER, "csv": (",".join(COLUMNS) + "\n").encode(), "jsonl": b""}[format]


def format_rows(
    dirty: DirtyDay, part: slice, format: TextFormat, buffer: NDArray[np.uint8]  # noqa: A002
) -> int:  # fmt: skip
    """Write the rows of `part` into `buffer`; returns the bytes written.

    `buffer` must hold `LINE_BYTES_MAX` bytes for each row.
    """
    day, is_json = dirty.day, format == "jsonl"
    labels = [f',"{name}":' if is_json else "," for name in COLUMNS]
    labels[0] = "{" + labels[0][1:] if is_json else ""
    ends = np.cumsum([0, *map(len, labels)])
    return _format(
        buffer, dirty.rows[part], np.frombuffer("".join(labels).encode(), np.uint8), ends, is_json,
        np.frombuffer(day_text(day.day).encode(), np.uint8), day.transaction_id, day.second_of_day,
        day.customer_id, day.terminal_id, day.amount_minor, dirty.elapsed_seconds,
        dirty.elapsed_days, day.scenario,
    )  # fmt: skip


@inlined
def _put_integer(buffer: NDArray[np.uint8], at: int, value: int) -> int:
    if value < 0:
        buffer[at] = 45
        at += 1
        value = -value
    digits = 1
    bound = 10
    while digits < 19 and value >= bound:
        digits += 1
        bound *= 10
    for place in range(at + digits - 1, at - 1, -1):
        buffer[place] = 48 + value % 10
        value //= 10
    return at + digits


@inlined
def _put_two(buffer: NDArray[np.uint8], at: int, value: int) -> int:
    buffer[at] = 48 + value // 10
    buffer[at + 1] = 48 + value % 10
    return at + 2


@inlined
def _put_bytes(buffer: NDArray[np.uint8], at: int, text: NDArray[np.uint8], begin: int, end: int) -> int:
    for place in range(begin, end):
        buffer[at] = text[place]
        at += 1
    return at


@inlined
def _put_quote(buffer: NDArray[np.uint8], at: int, wanted: bool) -> int:
    if wanted:
        buffer[at] = 34
        return at + 1
    return at


@inlined
def _put_time(buffer: NDArray[np.uint8], at: int, date: NDArray[np.uint8], second: int) -> int:
    at = _put_bytes(buffer, at, date, 0, date.size)
    buffer[at] = 32
    at = _put_two(buffer, at + 1, second // 3600)
    buffer[at] = 58
    at = _put_two(buffer, at + 1, second // 60 % 60)
    buffer[at] = 58
    return _put_two(buffer, at + 1, second % 60)


@inlined
def _put_terminal(buffer: NDArray[np.uint8], at: int, terminal: int) -> int:
    """A terminal, or one of the texts found in its place: `Err`, `None`, nothing."""
    if terminal >= 0:
        return _put_integer(buffer, at, terminal)
    if terminal == -1:
        buffer[at], buffer[at + 1], buffer[at + 2] = 69, 114, 114
        return at + 3
    if terminal == -2:
        buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3] = 78, 111, 110, 101
        return at + 4
    return at


@inlined
def _put_amount(buffer: NDArray[np.uint8], at: int, amount_minor: int) -> int:
    """`34.27`, `34.2`, `34.0`: the sizes of the real files show that they drop a last zero."""
    at = _put_integer(buffer, at, amount_minor // 100)
    buffer[at] = 46
    if amount_minor % 10 == 0:
        buffer[at + 1] = 48 + amount_minor // 10 % 10
        return at + 2
    return _put_two(buffer, at + 1, amount_minor % 100)


@compiled
def _format(
    buffer: NDArray[np.uint8], rows: NDArray[np.int64], labels: NDArray[np.uint8],
    ends: NDArray[np.int64], is_json: bool, date: NDArray[np.uint8],
    transaction_id: NDArray[np.int64], second: NDArray[np.int32], customer: NDArray[np.int64],
    terminal: NDArray[np.int64], amount_minor: NDArray[np.int64], elapsed: NDArray[np.int64],
    days: int, scenario: NDArray[np.int8],
) -> int:  # fmt: skip
    at = 0
    for row in rows:
        at = _put_bytes(buffer, at, labels, ends[0], ends[1])
        at = _put_integer(buffer, at, transaction_id[row])
        at = _put_bytes(buffer, at, labels, ends[1], ends[2])
        at = _put_quote(buffer, at, is_json)
        at = _put_time(buffer, at, date, second[row])
        at = _put_quote(buffer, at, is_json)
        at = _put_bytes(buffer, at, labels, ends[2], ends[3])
        at = _put_integer(buffer, at, customer[row])
        at = _put_bytes(buffer, at, labels, ends[3], ends[4])
        at = _put_quote(buffer, at, is_json and terminal[row] < 0)
        at = _put_terminal(buffer, at, terminal[row])
        at = _put_quote(buffer, at, is_json and terminal[row] < 0)
        at = _put_bytes(buffer, at, labels, ends[4], ends[5])
        at = _put_amount(buffer, at, amount_minor[row])
        at = _put_bytes(buffer, at, labels, ends[5], ends[6])
        at = _put_integer(buffer, at, elapsed[row])
        at = _put_bytes(buffer, at, labels, ends[6], ends[7])
        at = _put_integer(buffer, at, days)
        at = _put_bytes(buffer, at, labels, ends[7], ends[8])
        at = _put_integer(buffer, at, 1 if scenario[row] > 0 else 0)
        at = _put_bytes(buffer, at, labels, ends[8], ends[9])
        at = _put_integer(buffer, at, scenario[row])
        if is_json:
            buffer[at] = 125
            at += 1
        buffer[at] = 10
        at += 1
    return at
