"""Laws of text files: whatever their bytes, each record has one outcome, however they are read or packed."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.effort import IS_THOROUGH
from tests.record_oracle import records_of
from tests.small_catalogues import AT, ID, SUM, catalogue_text, entity
from tests.unit.intake_cases import quarantine_of, rows_of, run

from zaslon.domain.catalogue import parse_catalogue
from zaslon.domain.clean_report import OverLines
from zaslon.domain.errors import InputError
from zaslon.intake import label_files, record_blocks, sources
from zaslon.intake.chunks import Chunk, TextChunk
from zaslon.intake.label_files import label_rows
from zaslon.intake.layouts import UTF8_MARK
from zaslon.intake.sources import read_source
from zaslon.system.zstd import zstd

SEARCH, HEADER_MAX, RECORD_MAX = 140, 100, 64
FIELDS = {
    "id": ID, "at": AT, "card": entity("card", type="text"), "sum": SUM,
    "memo": {"role": "ignored", "required": False},
}  # fmt: skip
_ANY_LENGTH = parse_catalogue(catalogue_text("texts", FIELDS))
CATALOGUE = _ANY_LENGTH.model_copy(
    update={"record": _ANY_LENGTH.record.model_copy(update={"max_record_bytes": RECORD_MAX})}
)
HEADER, ROW = b"id,at,card,sum,memo", b"2019-03-04 10:00:00,K,1.00,"
JSON = b'{"id":9,"at":"2019-03-04 10:00:00","card":"K","sum":1}\n'
PIECES = [
    b'"', b'""', b",", b";", b"\r", b"\n", b"\r\n", b"\xef\xbb\xbf", b"\0", b"\x01", b"\xff", b"7", b"x", b" ", b"\t", b"#", b"{",
    HEADER, b"sum;card;at;id", b'"id",at,card,sum,"me\nmo"', *(b"%d," % n + ROW for n in range(3)),
    *(b"%d," % n + ROW + b"\n" for n in range(10, 13)), JSON, HEADER + b",more\n", b"sum;card;at;id\n",
    b'5,2019-03-04 10:00:00,"K\n2",1.00,x\n', b'6,2019-03-04 10:00:00,K,1.00,"x\ny"\n', b"x" * 60,
]  # fmt: skip
BODIES = st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join)
FILES = st.builds(
    lambda begin, line_end, body: begin.replace(b"\n", line_end) + body.replace(b"\n", line_end),
    st.sampled_from(
        [HEADER + b"\n"] * 3 + [b'id,at,card,sum,"me\nmo"\n', UTF8_MARK + HEADER + b"\n", JSON, b""]
    ),
    st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"]),
    BODIES,
)
PACKED: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gzip": gzip.compress, "zstd": zstd.compress}


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that small files reach, in the proportions of the real ones."""
    monkeypatch.setattr(record_blocks, "SEARCH_BYTES", SEARCH)
    for module in (sources, label_files):
        monkeypatch.setattr(module, "HEADER_BYTES_MAX", HEADER_MAX)


def _outcomes(path: Path, chunk_bytes: int) -> Any:
    """All that becomes of a file, or the sentence with which it is refused."""
    out = path.with_name("out")
    try:
        report = run([path], out, catalogue=CATALOGUE, chunk_bytes=chunk_bytes)
    except InputError as error:
        return str(error)
    kept = quarantine_of(out).drop("source").sort("record", "offset").rows()
    over = report.over_lines
    rows = rows_of(out).rows()
    return report.rows_in, report.headers_inside, over.rows, over.lines_like_rows, over.places, rows, kept


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None,
    max_examples=500 if IS_THOROUGH else 15,
)  # fmt: skip
@given(FILES, st.integers(1, 150))
def test_outcomes_depend_on_no_chunk_and_no_packing(tmp_path: Path, content: bytes, chunk_bytes: int) -> None:
    found = []
    for name, pack in PACKED.items():
        path = tmp_path / "in"
        path.write_bytes(pack(content))
        for size in (1 << 20, chunk_bytes, 1) if name == "plain" else (chunk_bytes,):
            found.append(_outcomes(path, size))
    assert all(one == found[0] for one in found), found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES, st.integers(1, 150))
def test_every_byte_is_in_a_record_or_a_header(tmp_path: Path, content: bytes, chunk_bytes: int) -> None:
    (tmp_path / "in").write_bytes(content)
    try:
        chunks = list(read_source(str(tmp_path / "in"), CATALOGUE, chunk_bytes))
    except InputError:
        return
    is_cr = b"\n" not in content[:HEADER_MAX] and b"\r" in content[:HEADER_MAX]
    line_end = b"\r" if is_cr else b"\n"
    end, headers = 0, -1  # the first header is none inside
    for begin, record_end, line in _spans(chunks):
        between = content[end:begin]
        assert line == 1 + content[:begin].count(line_end)
        if between not in (b"", line_end, UTF8_MARK):
            headers += 1
            assert b"id" in between.lower()
        end = record_end
        if record_end - begin > SEARCH:  # only the beginning of such a line is kept
            end += content[end:].find(line_end) % (len(content) - end + 1)
    assert headers <= sum(chunk.headers for chunk in chunks)
    assert content[end:] in (b"", line_end) or any(chunk.headers for chunk in chunks)


def _spans(chunks: Sequence[Chunk]) -> Iterator[tuple[int, int, int]]:
    """Begin, end and number of the first line of each record."""
    for chunk in chunks:
        assert isinstance(chunk, TextChunk)
        begins = (chunk.offset + chunk.starts).tolist()
        ends = (chunk.offset + chunk.starts + chunk.lengths).tolist()
        yield from zip(begins, ends, chunk.first_lines.tolist(), strict=True)


LABEL_HEADER = b"id,is_fraud,memo"
LABELS = st.builds(
    lambda line_end, body: (LABEL_HEADER + b"\n" + body).replace(b"\n", line_end),
    st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"]),
    st.lists(
        st.sampled_from([
            b'"', b'""', b",", b"\r", b"\n", b"\r\n", b"\0", b"7", b"x", b" ", b"{", b"1,1,x\n", b"2,no,y\n",
            b'3,1,"x\ny"\n', b'"4\n",1,x\n', b"x" * 60,
        ]),
        max_size=25,
    ).map(b"".join),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LABELS, st.integers(1, 150))
def test_every_label_has_one_outcome_wherever_chunks_end(
    tmp_path: Path, content: bytes, chunk_bytes: int
) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)
    over = OverLines()
    with pytest.MonkeyPatch.context() as patch:
        found = [row.content for row in label_rows(path, CATALOGUE, over)]
        patch.setattr(label_files, "_CHUNK_BYTES", chunk_bytes)
        again = OverLines()
        cut = [row.content[:RECORD_MAX] for row in label_rows(path, CATALOGUE, again)]
    assert cut == [row[:RECORD_MAX] for row in found] and again == over
    line_end = b"\n" if b"\n" in content else b"\r"
    line, expected = 2, 0
    for record in records_of(content[content.index(line_end) + 1 :], b",", line_end, RECORD_MAX, SEARCH):
        lines = record.count(line_end) + 1
        is_whole = f"lines {line} to {line + lines - 1} of '{path}'" in over.places
        expected += bool(record.strip()) * (1 if is_whole else lines)
        line += lines
    assert len(found) == expected
