"""Laws of quoting: what a field holds stays in it, wherever pieces of a file end."""

from __future__ import annotations

import csv
import io
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.record_oracle import fields_of, records_of

from zaslon.domain.catalogue import RECORD_BYTES_MAX
from zaslon.intake import record_blocks
from zaslon.intake.record_blocks import RecordReader, TextForm
from zaslon.intake.splitting import byte_classes, split_line, split_records

# Dense in what matters: quotes, separators, line ends, blanks, and lines longer than ends are searched.
TEXT = st.lists(
    st.sampled_from([b'"', b'""', b",", b"\n", b"\r\n", b"\r", b"a", b" ", b"b7", b"x" * 43]), max_size=60
).map(b"".join)
SEARCH, RECORD_MAX = 40, 16


def _records(content: bytes, chunk_bytes: int, form: TextForm) -> list[tuple[int, bytes]]:
    reader = RecordReader(io.BytesIO(content), b"", 0, chunk_bytes, form)
    return [
        (block.offset + begin, block.buffer[begin:end].tobytes())
        for block in reader
        for begin, end in zip(block.starts.tolist(), block.ends.tolist(), strict=True)
    ]


@pytest.mark.parametrize("line_end", [b"\n", b"\r"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXT, st.integers(1, 300))
def test_records_are_those_of_the_oracle_wherever_pieces_end(
    monkeypatch: pytest.MonkeyPatch, line_end: bytes, content: bytes, chunk_bytes: int
) -> None:
    monkeypatch.setattr(record_blocks, "SEARCH_BYTES", SEARCH)
    found = _records(content, chunk_bytes, TextForm(",", line_end, RECORD_MAX))
    expected = records_of(content, b",", line_end, RECORD_MAX, SEARCH)
    # Of a record longer than the ends of records are searched, only the beginning is kept.
    assert [record for _, record in found] == [record[: SEARCH + 3] for record in expected]
    assert all(content[at : at + len(record)] == record for at, record in found)
    begins = np.cumsum([0, *(len(r) + 1 for r in expected)]).tolist()
    assert [at for at, _ in found] == begins[: len(expected)]


class _Lines(NamedTuple):
    """The number of the first line of a record and how many line ends are inside it."""

    first: int
    inner: int


def _lines(content: bytes, chunk_bytes: int, form: TextForm) -> list[_Lines]:
    found = []
    for block in RecordReader(io.BytesIO(content), b"", 0, chunk_bytes, form):
        places = zip(block.first_lines().tolist(), block.starts, block.ends, strict=True)
        found += [_Lines(n, int(np.diff(np.searchsorted(block.inner_ends, [a, b]))[0])) for n, a, b in places]
    return found


@pytest.mark.parametrize("line_end", [b"\n", b"\r"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXT, st.integers(1, 300))
def test_lines_are_those_of_the_oracle_wherever_pieces_end(
    monkeypatch: pytest.MonkeyPatch, line_end: bytes, content: bytes, chunk_bytes: int
) -> None:
    monkeypatch.setattr(record_blocks, "SEARCH_BYTES", SEARCH)
    expected, line = [], 1
    for record in records_of(content, b",", line_end, RECORD_MAX, SEARCH):
        expected.append(_Lines(line, record.count(line_end)))
        line += record.count(line_end) + 1
    assert _lines(content, chunk_bytes, TextForm(",", line_end, RECORD_MAX)) == expected


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@given(TEXT)
def test_fields_are_those_of_the_oracle(separator: str, content: bytes) -> None:
    record = content.replace(b",", separator.encode())
    expected = fields_of(record, separator.encode())
    columns = 20
    start, length = np.zeros((columns, 1), np.int64), np.full((columns, 1), -1, np.int64)
    reason, found, doubled = np.zeros(1, np.uint8), np.zeros(1, np.int64), np.zeros((columns, 1), np.uint8)
    split_records(
        np.frombuffer(record, np.uint8), np.zeros(1, np.int64), np.array([len(record)]), byte_classes(separator),
        4096, np.full(columns + 50, -1), start, length, doubled, reason, found,
    )  # fmt: skip
    if expected is None:
        assert found[0] < 0 or reason[0] != 5  # a line break outside quotes comes first
    else:
        assert split_line(record, separator) == expected
        assert found[0] in (0, len(expected))


TEXTS = st.text(st.sampled_from(list('a",\n\r \t;7é')), max_size=30)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=8), st.integers(1, 200))
def test_whatever_a_field_holds_stays_in_that_field(rows: list[tuple[str, ...]], chunk_bytes: int) -> None:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    found = _records(out.getvalue().encode(), chunk_bytes, TextForm(",", b"\n", 4096))
    assert len(found) == len(rows)
    for (_, record), row in zip(found, rows, strict=True):
        assert split_line(record, ",") == [field.encode().strip(b" \t") for field in row]


SMUGGLED = "gift\nA99,2024-03-04 10:01:30,K1,S1,0.01,x\nthanks"


@pytest.mark.parametrize("memo_bytes", [100, 4_096, 50_000, RECORD_BYTES_MAX - 100])
def test_a_field_longer_than_a_record_is_one_record_too_long(memo_bytes: int) -> None:
    memo = (SMUGGLED * (memo_bytes // len(SMUGGLED) + 1))[:memo_bytes]
    content = f'A1,"{memo}",1\nA2,ok,2\n'.encode()
    found = _records(content, 1 << 16, TextForm(",", b"\n", 4096))
    assert [len(record) for _, record in found] == [len(memo) + 7, 7]


def _after_unclosed(lines_behind: int, chunk_bytes: int = 1 << 16) -> list[bytes]:
    rows = b"".join(b"A%07d,ok,2\n" % i for i in range(lines_behind))
    return [r for _, r in _records(b'A1,"gift\n' + rows, chunk_bytes, TextForm(",", b"\n", 4096))]


@pytest.mark.parametrize("lines_behind", [400, 90_000])  # before and behind the end of the search
def test_an_unclosed_quote_takes_no_more_than_a_record_can_hold(lines_behind: int) -> None:
    found = _after_unclosed(lines_behind)
    assert 4096 - 13 < len(found[0]) <= 4096
    assert found[1:] == [b"A%07d,ok,2" % i for i in range(lines_behind - len(found) + 1, lines_behind)]
    assert found == _after_unclosed(lines_behind, 1 << 22)


def test_a_cut_off_quote_creates_no_records() -> None:
    (record,) = _records(b'A1,"' + SMUGGLED.encode(), 7, TextForm(",", b"\n", 4096))
    assert record[1] == b'A1,"' + SMUGGLED.encode()


def test_many_stray_quotes_are_read_in_linear_time() -> None:
    content = (b'A1,"x\n' + b"A2,ok,2\n" * 200_000) * 3
    found = _records(content, 1 << 22, TextForm(",", b"\n", 64))
    assert len(found) > 599_000


def test_json_lines_end_at_every_line_end() -> None:
    content = b'{"a": "x\n"b\n'
    assert [r for _, r in _records(content, 3, TextForm(None, b"\n", 64))] == [b'{"a": "x', b'"b']
