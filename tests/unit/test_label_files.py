"""Files of labels: every row is one label or one rejection, whatever its quotes, and a header is never a guess."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.small_catalogues import AT, ID, SUM, catalogue_text, entity
from tests.unit.intake_cases import clean

from zaslon.domain.catalogue import Catalogue, parse_catalogue
from zaslon.domain.clean_report import OverLines
from zaslon.domain.errors import InputError
from zaslon.domain.events import Kind
from zaslon.intake import label_files
from zaslon.intake.label_files import label_rows

NUMBERED = parse_catalogue(
    catalogue_text("numbered", {"id": ID, "at": AT, "card": entity("card"), "sum": SUM})
)
NAMED = parse_catalogue(
    catalogue_text("named", {"ref": {**ID, "type": "text"}, "at": AT, "card": entity("card"), "sum": SUM})
)


def _labels(content: str | bytes, tmp_path: Path, catalogue: Catalogue = NAMED) -> list[Any]:
    (tmp_path / "labels").write_bytes(content.encode() if isinstance(content, str) else content)
    records = [row.content for row in label_rows(tmp_path / "labels", catalogue)]
    cleaned = clean(*records, kind=Kind.LABEL_JSON, catalogue=catalogue)
    found: list[Any] = [None] * len(records)
    assert cleaned.labels.id_text is not None
    for i, word, verdict in zip(
        cleaned.label_index.tolist(), cleaned.labels.id_text.tolist(), cleaned.labels.is_fraud, strict=True
    ):
        found[i] = (word.decode(), bool(verdict))
    return found


@pytest.mark.parametrize("breaking", ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85"])
@pytest.mark.parametrize("quote", ['"', ""])
def test_a_note_in_a_label_file_is_not_a_label(tmp_path: Path, breaking: str, quote: str) -> None:
    if not quote and breaking in "\r\n":
        pytest.skip("outside quotes that is a line end")
    note = f"{quote}x{breaking}A9,1,y{quote}"
    content = f"transaction_id,is_fraud,note\nA1,1,ok\nA2,0,{note}\nA3,yes,ok\n"
    found = _labels(content, tmp_path)
    assert ("A9", True) not in found and found[0] == ("A1", True) and found[-1] == ("A3", True)
    assert len(found) == 3


def test_a_label_file_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    for header in (
        "ref,is_fraud,IS_FRAUD",
        "transaction_id,ref,is_fraud",
    ):
        with pytest.raises(InputError, match="has two columns for"):
            _labels(header + "\nA1,0,1\n", tmp_path)


def test_a_header_inside_a_label_file_holds_from_there_on(tmp_path: Path) -> None:
    content = "ref,is_fraud\nA1,1\nis_fraud,note,ref\n0,x,A2\n1,A3\nREF,IS_FRAUD\nA4,0\n"
    assert _labels(content, tmp_path) == [("A1", True), ("A2", False), None, ("A4", False)]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\r\n", "\r", "\n"])
def test_label_files_have_any_separator_and_line_end(tmp_path: Path, separator: str, line_end: str) -> None:
    rows = [["note", "is_fraud", "ref"], ["a,b", "1", "A1"], ["", "no", '"A""2"'], ["", "maybe", "A3"]]
    content = "\ufeff" + line_end.join(separator.join(row) for row in rows)
    assert _labels(content, tmp_path) == [("A1", True), ('A"2', False), None]


def test_a_label_row_of_any_length_is_one_rejection(tmp_path: Path) -> None:
    content = 'ref,is_fraud\n"' + "x" * 200_000 + '",1\nA1,1\n"A2,1\n' + "A3,0\n" * 2
    assert _labels(content, tmp_path) == [None, ("A1", True), None, None, None]


def test_stray_quotes_in_a_label_file_hide_no_row(tmp_path: Path) -> None:
    path, over = tmp_path / "labels.csv", OverLines()
    rows = [
        "transaction_id,is_fraud,note",
        "1,1,ok",
        '2,1,"note',
        "3,0,ok",
        '4,1,ok"',
        '"5,1,ok',
        '6",0,ok',
        "7,0,ok",
    ]
    path.write_text("\n".join(rows))
    found = [row.content for row in label_rows(path, NUMBERED, over)]
    labels = [row for row in found if row.startswith(b"{")]
    assert [orjson.loads(row)["transaction_id"] for row in labels] == ["1", "2", "7"]
    assert [row for row in found if row not in labels] == [b'"5,1,ok', b'6",0,ok']
    assert (over.rows, over.lines_like_rows) == (1, 2)
    assert over.places == [f"lines 3 to 5 of '{path}'"]


@pytest.mark.parametrize(
    "note", ['{"transaction_id": 9, "is_fraud": true}', ' {"transaction_id":9,"is_fraud":1}']
)
def test_no_row_of_separated_labels_is_read_as_json(tmp_path: Path, note: str) -> None:
    path = tmp_path / "labels.csv"
    quoted = note.replace('"', '""')
    path.write_text(f'transaction_id,is_fraud,a,note\n1,1,a,ok\n{note}\n"2\n{quoted}\n",1,a,ok\n')
    records = [row.content for row in label_rows(path, NUMBERED)]
    found = clean(*records, kind=Kind.LABEL_JSON, catalogue=NUMBERED)
    assert found.labels.transaction_id.tolist() == [1]
    assert len(found.rejected) == 4


@pytest.mark.parametrize(
    "row",
    [
        "ref,is_fraud,ref",  # a column twice
        "ref,is_fraud,IS_FRAUD",
        "ref,is_fraud,1",
        "ref,is_fraud,chargeback",
        "ref,is_fraud,2019-03-04 10:00:00",
    ],
)
@pytest.mark.parametrize("header", ["ref,is_fraud,note", "ref,note,is_fraud"])
def test_a_label_row_with_names_in_it_is_no_header(tmp_path: Path, row: str, header: str) -> None:
    before, after = [line.replace("is_fraud", "no").replace("ref", "A1") for line in (header, header)]
    found = _labels(f"{header}\n{before}\n{row}\n{after}", tmp_path)
    assert len(found) == 3
    assert (found[0], found[2]) == (("A1", False), ("A1", False))


def test_a_row_of_names_with_a_verdict_is_a_label(tmp_path: Path) -> None:
    content = "ref,note,other,is_fraud\n" + "".join(
        f"A1,ref,is_fraud,{v}\n" for v in ("yes", "no", "", "null")
    )
    assert _labels(content, tmp_path) == [("A1", True), ("A1", False), None, None]


@pytest.mark.parametrize("breaks", ["\n", "\r\n\r\n", " \n\t\n", "\n\n\n"])
def test_blank_lines_count_in_the_numbers_of_lines(tmp_path: Path, breaks: str) -> None:
    path, over = tmp_path / "labels", OverLines()
    path.write_text(f'{breaks}id,is_fraud,note\n\n1,1,"two\nlines"\n', newline="")
    assert len(list(label_rows(path, NUMBERED, over))) == 1
    line = breaks.count("\n") + 3
    assert over.places == [f"lines {line} to {line + 1} of '{path}'"]


def test_a_first_column_without_a_name_may_be_before_a_tab(tmp_path: Path) -> None:
    assert _labels("\tref\tis_fraud\n0\tA1\t1\n1\tA2\t0\n", tmp_path) == [("A1", True), ("A2", False)]


@pytest.mark.parametrize(
    "header", ['ref,is_fraud,"note', 'ref,is_fraud,"note\nof" two', '"ref",is_fraud,"a"b']
)
def test_a_stray_quote_in_a_header_takes_no_label(tmp_path: Path, header: str) -> None:
    lines = header.count("\n")  # that are no header
    content = f"{header}\nA1,1,x\nA2,0,x\n"
    assert _labels(content, tmp_path) == [None] * lines + [("A1", True), ("A2", False)]


def test_a_stray_quote_in_a_header_inside_rejects_what_it_joins(tmp_path: Path) -> None:
    content = 'ref,is_fraud,note\nA1,1,x\nref,is_fraud,"note\nA2,0,x\n'
    assert _labels(content, tmp_path) == [("A1", True), None]


def test_a_header_may_have_line_breaks_in_its_names(tmp_path: Path) -> None:
    content = '"note\nof the client",ref,is_fraud\nx,A1,1\n"a\nb",A2,0\n'
    assert _labels(content, tmp_path) == [("A1", True), ("A2", False)]
    with pytest.raises(InputError, match="more than 64 KiB"):
        _labels("ref,is_fraud," + "x" * 70_000 + "\nA1,1,x\n", tmp_path)


@pytest.mark.parametrize("size", [5_000, 1 << 20, (1 << 20) + 5])
@pytest.mark.parametrize("chunk_bytes", [1 << 16, 4 << 20])
def test_a_label_longer_than_a_record_is_one_rejection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, chunk_bytes: int
) -> None:
    monkeypatch.setattr(label_files, "_CHUNK_BYTES", chunk_bytes)
    content = "ref,is_fraud,note\nA1,1,x\nA2,0," + "é" * (size // 2) + "\nA3,0,x\n"
    assert _labels(content, tmp_path) == [("A1", True), None, ("A3", False)]


@pytest.mark.parametrize("note", ["\x01", '"\x01', '"two\nlines" and more', '"not closed\n'])
def test_a_label_is_no_text_where_a_transaction_is_none(tmp_path: Path, note: str) -> None:
    assert _labels(f"ref,is_fraud,note\nA1,1,x\nA2,0,{note}", tmp_path) == [("A1", True), None]
