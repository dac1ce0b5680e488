"""Rows over lines: each of their lines has one outcome, and their effort is in proportion to their number."""

from __future__ import annotations

import pkgutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.calls import count_calls
from tests.small_catalogues import AT, ID, SUM, catalogue_text, entity
from tests.unit.intake_cases import quarantine_of, run

from zaslon.domain.catalogue import parse_catalogue
from zaslon.intake.chunks import TextChunk
from zaslon.intake.over_lines import count_over_lines
from zaslon.intake.sources import read_source

MEMO = {"role": "ignored", "required": False}
NUMBERED = parse_catalogue(
    catalogue_text("numbered", {"id": ID, "at": AT, "card": entity("card"), "sum": SUM, "memo": MEMO})
)
IN_MEMO = '{},2019-03-04 10:00:00,7,1.00,"two\nlines"\n'
IN_CARD = '{},2019-03-04 10:00:00,"7\n",1.00,ok\n'
ROWS = 500


class Counted(np.ndarray):
    """An array that counts the elements which are looked at, in it or in what is made of it."""

    looked_at = 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **more: Any) -> Any:
        plain = [_plain(one) for one in inputs]
        Counted.looked_at += max(np.size(one) for one in plain)
        return getattr(ufunc, method)(*plain, **more)

    def __array_function__(self, function: Any, types: Any, inputs: Any, more: Any) -> Any:
        plain = [_plain(one) for one in inputs]
        # A binary search looks at few elements for each of those that it searches.
        Counted.looked_at += 64 * np.size(plain[1]) if function is np.searchsorted else np.size(plain[0])
        return function(*plain, **more)


def _plain(array: Any) -> Any:
    return array.view(np.ndarray) if isinstance(array, Counted) else array


def _file(tmp_path: Path, row: str, rows: int) -> Path:
    path = tmp_path / f"in-{rows}"
    path.write_text("id,at,card,sum,memo\n" + "".join(row.format(n) for n in range(rows)))
    return path


def _looked_at(tmp_path: Path, rows: int) -> int:
    (chunk,) = read_source(str(_file(tmp_path, IN_MEMO, rows)), NUMBERED, 1 << 24)
    assert isinstance(chunk, TextChunk) and len(chunk.over_lines()) == rows
    counted = replace(chunk, buffer=chunk.buffer.view(Counted), inner_ends=chunk.inner_ends.view(Counted))
    Counted.looked_at = 0
    assert count_over_lines(counted, list(range(rows))).rows == rows
    return Counted.looked_at


def test_rows_over_lines_are_counted_with_linear_effort(tmp_path: Path) -> None:
    effort = _looked_at(tmp_path, ROWS)
    assert effort >= ROWS
    assert _looked_at(tmp_path, 2 * ROWS) <= 2.1 * effort


def test_torn_rows_are_rejected_with_linear_effort(tmp_path: Path) -> None:
    def calls(rows: int) -> int:
        path = _file(tmp_path, IN_CARD, rows)
        return count_calls(lambda: run([path], tmp_path / "out", catalogue=NUMBERED))

    assert calls(2 * ROWS) <= 2.1 * calls(ROWS)


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "\n"])
@pytest.mark.parametrize("rows_behind", [0, 2])
def test_an_open_quote_at_the_end_rejects_each_line_once(
    tmp_path: Path, chunk_bytes: int, line_end: str, last: str, rows_behind: int
) -> None:
    good = [f"{n},2019-03-04 10:00:00,7,1.00,ok" for n in range(4)]
    lines = ["id,at,card,sum,memo", good[0], good[1].replace(",7", ',"7'), *good[2 : 2 + rows_behind]]
    (tmp_path / "in").write_text(("\n".join(lines) + last).replace("\n", line_end), newline="")
    report = run([tmp_path / "in"], tmp_path / "out", catalogue=NUMBERED, chunk_bytes=chunk_bytes)
    assert (report.rows_in, report.rows_clean) == (2 + rows_behind, 1)
    raws = [raw.decode().removesuffix("\r") for raw in quarantine_of(tmp_path / "out")["raw"]]
    assert raws == lines[2:]


@pytest.mark.parametrize("name", ["torn_field", "rejected_lines", "lines_like_rows"])
def test_a_row_whose_lines_break_our_code_is_rejected_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rows = [IN_MEMO.format(1), IN_CARD.format(2), IN_MEMO.format(3), IN_CARD.format(4)]
    (tmp_path / "in").write_text("id,at,card,sum,memo\n" + "".join(rows))
    broken = 3 if "like" in name else 2
    _break(monkeypatch, f"zaslon.intake.over_lines.{name}", f"{broken},".encode())
    report = run([tmp_path / "in"], tmp_path / "out", catalogue=NUMBERED)
    quarantine = quarantine_of(tmp_path / "out")
    (found,) = quarantine.filter(reason="engine_error").to_dicts()
    assert found["raw"].startswith(f"{broken},".encode()) and b"\n" in found["raw"]
    assert report.rows_clean == (1 if broken == 3 else 2)
    assert report.over_lines.rows == report.rows_clean
    assert report.rows_in == report.rows_clean + len(quarantine)


def _break(monkeypatch: pytest.MonkeyPatch, name: str, begin: bytes) -> None:
    """Let a function fail for records that begin so, or for their lines."""
    owner, _, last = name.rpartition(".")
    place = pkgutil.resolve_name(owner)
    real = getattr(place, last)

    def failing(*given: Any) -> Any:
        lines = given[0] if last == "lines_like_rows" else given[0].lines_of(given[1])
        if lines.contents[0].startswith(begin):
            raise KeyError(last)
        return real(*given)

    monkeypatch.setattr(place, last, failing)
