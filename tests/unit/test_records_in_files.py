"""One record, one outcome: line breaks in quotes, joined files and odd line ends change none."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from tests.small_catalogues import AT, ID, SUM, catalogue_text, entity
from tests.unit.intake_cases import clean, content_of, quarantine_of, reasons, rows_of, run

from zaslon.domain.catalogue import RECORD_BYTES_MAX, Catalogue, parse_catalogue
from zaslon.domain.errors import InputError
from zaslon.domain.events import Kind
from zaslon.flows.produce import _records
from zaslon.intake.sources import read_source
from zaslon.monitoring.data_warnings import over_lines_warnings

MEMO = {"role": "ignored", "required": False}
BANK = parse_catalogue(
    catalogue_text(
        "bank",
        {
            "ref": {**ID, "type": "text"}, "at": AT, "card": entity("card", type="text"),
            "shop": entity("shop", type="text"), "sum": SUM, "memo": MEMO,
        },
    )
)  # fmt: skip
HEADER = "ref,at,card,shop,sum,memo\n"
FIRST = "A1,2019-03-04 10:00:00,K1,S1,6.00,ok\n"
LAST = "A3,2019-03-04 10:02:00,K1,S1,7.00,ok\n"
SMUGGLED = "gift\nA99,2019-03-04 10:01:30,K1,S1,0.01,x\nthanks"
QUOTED = f'A2,2019-03-04 10:01:00,K1,S1,900.00,"{SMUGGLED}"\n'


def _cleaned(
    content: str | bytes, tmp_path: Path, catalogue: Catalogue = BANK, **more: Any
) -> dict[str, int]:
    """Clean a file; its amounts in minor units by id."""
    (tmp_path / "in").write_bytes(content.encode() if isinstance(content, str) else content)
    run([tmp_path / "in"], tmp_path / "out", catalogue=catalogue, **more)
    rows = rows_of(tmp_path / "out")
    return dict(rows.select("transaction_id", "amount_minor").iter_rows()) if len(rows) else {}


@pytest.mark.parametrize("chunk_bytes", [1, 60, 1 << 20])
def test_a_line_break_in_quotes_does_not_begin_a_record(tmp_path: Path, chunk_bytes: int) -> None:
    amounts = _cleaned(HEADER + FIRST + QUOTED + LAST, tmp_path, chunk_bytes=chunk_bytes)
    assert amounts == {"A1": 600, "A2": 90_000, "A3": 700}


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_other_line_ends_make_no_difference(tmp_path: Path, line_end: str) -> None:
    content = (HEADER + FIRST + QUOTED + LAST).replace("\n", line_end)
    assert _cleaned(content, tmp_path) == {"A1": 600, "A2": 90_000, "A3": 700}


def test_a_lone_carriage_return_does_not_end_an_lf_line(tmp_path: Path) -> None:
    stray = FIRST.replace("ok", "ok\rA99,2019-03-04 10:01:30,K1,S1,0.01,x")
    assert _cleaned(HEADER + stray + LAST, tmp_path) == {"A3": 700}
    assert quarantine_of(tmp_path / "out")["reason"].to_list() == ["not_text"]


def test_a_line_break_in_a_field_that_is_read_is_one_rejection(tmp_path: Path) -> None:
    bad = QUOTED.replace("K1,S1,900", f'"{SMUGGLED}",S1,900', 1)
    assert _cleaned(HEADER + FIRST + bad + LAST, tmp_path) == {"A1": 600, "A3": 700}
    kept = quarantine_of(tmp_path / "out")
    assert (kept["record"].to_list(), kept["reason"].to_list()) == ([2], ["not_text"])
    (raw,) = kept["raw"].to_list()
    assert raw.startswith(b'A2,2019-03-04 10:01:00,"key:')
    assert raw.endswith(f',900.00,"{SMUGGLED}"'.encode())
    assert kept["in_clear"].all(), "a line in quotes looks like a row"


NUMBERED = parse_catalogue(
    catalogue_text("numbered", {"id": ID, "at": AT, "card": entity("card"), "sum": SUM, "memo": MEMO})
)
ROWS = [f"{i},2019-03-04 10:0{i}:00,7,{i}.00,ok\n" for i in range(7)]


@pytest.mark.parametrize("chunk_bytes", [1, 60, 1 << 20])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("column", "name"), [(0, "id"), (1, "at"), (2, "card"), (3, "sum")])
def test_two_stray_quotes_reject_every_line_between(
    tmp_path: Path, chunk_bytes: int, line_end: str, column: int, name: str
) -> None:
    rows = [row.split(",") for row in ROWS]
    rows[2][column] = '"' + rows[2][column]
    rows[4][column] += '"'
    content = ("id,at,card,sum,memo\n" + "".join(map(",".join, rows))).replace("\n", line_end)
    assert _cleaned(content, tmp_path, NUMBERED, chunk_bytes=chunk_bytes).keys() == {0, 1, 5, 6}
    kept = quarantine_of(tmp_path / "out").sort("offset")
    assert kept["record"].to_list() == [3, 3, 3] and set(kept["reason"]) <= {"not_text", "wrong_field_count"}
    assert (
        kept["raw"].to_list() == [line.encode() for line in content.split(line_end)[3:6]]
        or line_end == "\r\n"
    )
    assert [
        content.encode()[at:].startswith(raw) for at, raw in kept.select("offset", "raw").iter_rows()
    ] == [True] * 3
    assert kept["detail"][0].startswith("By their quotes the lines 4 to 6 of ")
    assert f"with a line break in '{name}', which cannot hold one" in kept["detail"][2]


@pytest.mark.parametrize("chunk_bytes", [1, 60, 1 << 20])
def test_rows_inside_a_memo_are_counted_and_named(tmp_path: Path, chunk_bytes: int) -> None:
    rows = list(ROWS)
    rows[2] = rows[2].replace("ok", '"gift')
    rows[4] = rows[4].replace("ok", 'ok"')
    rows[6] = rows[6].replace("ok", '"two\nlines"')
    (tmp_path / "in").write_text("id,at,card,sum,memo\n" + "".join(rows))
    report = run([tmp_path / "in"], tmp_path / "out", catalogue=NUMBERED, chunk_bytes=chunk_bytes)
    assert (report.rows_in, report.rows_clean) == (5, 5)
    over = report.over_lines
    places = [f"lines {place} of '{tmp_path / 'in'}'" for place in ("4 to 6", "8 to 9")]
    assert (over.rows, over.lines_like_rows, over.places) == (2, 2, places)
    (warning,) = over_lines_warnings(over.rows, over.lines_like_rows, over.places)
    assert warning.kind == "rows_over_lines" and "2 of the lines inside look like rows" in warning.message


def test_a_header_over_lines_is_counted_in_the_numbers_of_lines(tmp_path: Path) -> None:
    header = 'id,at,card,sum,"memo\nof the client"\n'
    content = header + ROWS[0] + ROWS[1].replace(",7,", ',"7\n,') + ROWS[2].replace(",7,", ',7",')
    assert _cleaned(content + ROWS[3], tmp_path, NUMBERED).keys() == {0, 3}
    assert "the lines 4 to 6 of" in quarantine_of(tmp_path / "out")["detail"][0]


def test_a_field_longer_than_a_record_is_one_rejection(tmp_path: Path) -> None:
    long = QUOTED.replace("gift", "x" * 5000)
    assert _cleaned(HEADER + FIRST + long + LAST, tmp_path) == {"A1": 600, "A3": 700}
    assert quarantine_of(tmp_path / "out")["reason"].to_list() == ["too_long"]


def test_records_far_after_an_unclosed_quote_are_read(tmp_path: Path) -> None:
    rows = "".join(f"B{i},2019-03-04 10:02:00,K1,S1,7.00,ok\n" for i in range(1000))
    amounts = _cleaned(HEADER + FIRST + 'A2,2019-03-04 10:01:00,K1,S1,9.00,"gift\n' + rows, tmp_path)
    kept = quarantine_of(tmp_path / "out")
    assert kept["reason"].to_list() == ["wrong_field_count"]
    assert kept["detail"][0].startswith("A quote is opened and not closed; expected ")
    lost = kept["raw"][0].count(b"\n")
    assert lost == 106 and set(amounts) == {"A1", *(f"B{i}" for i in range(lost, 1000))}


def test_a_quote_inside_a_field_is_a_character(tmp_path: Path) -> None:
    content = HEADER + FIRST.replace("ok", 'pipe 5" wide') + QUOTED.replace("K1", 'K"1', 1) + LAST
    assert set(_cleaned(content, tmp_path)) == {"A1", "A2", "A3"}


def test_quotes_mean_the_same_through_every_ingress(tmp_path: Path) -> None:
    lines = ['A,2019-03-04 10:00:00,"a""b",S1,5.00,', 'B,2019-03-04 10:00:00,a""b,S1,5.00,']
    keys = [clean(line, catalogue=BANK).transactions.entity_keys["card"][0] for line in lines]
    values = {"ref": "A", "at": "2019-03-04 10:00:00", "shop": "S1", "sum": 5}
    for key, card in zip(keys, ('a"b', 'a""b'), strict=True):
        json = orjson.dumps(values | {"card": card})
        assert clean(json, kind=Kind.TRANSACTION_JSON, catalogue=BANK).transactions.entity_keys["card"] == [
            key
        ]
        pl.DataFrame(values | {"card": card}).write_parquet(tmp_path / "in")
        run([tmp_path / "in"], tmp_path / "out", catalogue=BANK)
        assert rows_of(tmp_path / "out")["card_key"].to_list() == [key]


def test_a_message_of_the_stream_is_one_record_whatever_it_holds() -> None:
    assert reasons(QUOTED, catalogue=BANK) == [None]
    assert reasons(QUOTED.replace('"', ""), catalogue=BANK) == ["not_text"]
    assert reasons(QUOTED.replace('"\n', "\n"), catalogue=BANK) == ["wrong_field_count"]


def test_a_line_break_in_json_and_parquet_is_read_as_in_text(tmp_path: Path) -> None:
    values = {
        "ref": "A2",
        "at": "2019-03-04 10:01:00",
        "card": "K1",
        "shop": "S1",
        "sum": "900.00",
        "memo": SMUGGLED,
    }
    in_key = values | {"ref": "A4", "card": "K1\n2"}
    for name, write in (("json", _write_json), ("parquet", _write_parquet)):
        write([values, in_key], tmp_path / name)
        run([tmp_path / name], tmp_path / "out", catalogue=BANK)
        assert rows_of(tmp_path / "out")["transaction_id"].to_list() == ["A2"]
        assert quarantine_of(tmp_path / "out")["reason"].to_list() == ["not_text"]


def _write_json(rows: list[dict[str, str]], path: Path) -> None:
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))


def _write_parquet(rows: list[dict[str, str]], path: Path) -> None:
    pl.DataFrame(rows).write_parquet(path)


@pytest.mark.parametrize("form", ["line", "json"])
def test_a_quoted_record_is_produced_as_one_message(tmp_path: Path, form: Any) -> None:
    (tmp_path / "in").write_text(HEADER + FIRST + QUOTED + 'A4,x,"y" z\n' + LAST)
    (chunk,) = read_source(str(tmp_path / "in"), BANK, 1 << 20)
    sent = _records(chunk, BANK, form)
    assert len(sent) == 4
    assert sent[2] == b'A4,x,"y" z'
    if form == "json":
        assert orjson.loads(sent[1])["memo"] == SMUGGLED
    kind = Kind.TRANSACTION_JSON if form == "json" else Kind.TRANSACTION_LINE
    assert [bool(reason) for reason in reasons(*sent, kind=kind, catalogue=BANK)] == [
        False,
        False,
        True,
        False,
    ]


def test_a_header_may_have_line_breaks_and_separators_in_its_names(tmp_path: Path) -> None:
    header = '"at","card\n(no, name)","shop",ref,sum,"note, long\n\nand"\n'
    with pytest.raises(InputError, match="has no column 'card'"):
        _cleaned(header + FIRST, tmp_path)
    header = header.replace("card\n(no, name)", "card")
    assert _cleaned(header + '2019-03-04 10:00:00,K1,S1,A1,6.00,"a\nb"\n', tmp_path) == {"A1": 600}


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
@pytest.mark.parametrize("line_end", ["\n", "\r"])
@pytest.mark.parametrize("name", ['"memo', '"memo\nof" two', '"memo" of"'])
def test_a_stray_quote_in_a_header_takes_no_row(
    tmp_path: Path, chunk_bytes: int, line_end: str, name: str
) -> None:
    content = (HEADER.replace("memo", name) + FIRST + LAST).replace("\n", line_end)
    assert _cleaned(content, tmp_path, chunk_bytes=chunk_bytes) == {"A1": 600, "A3": 700}
    assert len(quarantine_of(tmp_path / "out")) == name.count("\n")


def test_a_stray_quote_in_a_header_inside_rejects_what_it_joins(tmp_path: Path) -> None:
    content = HEADER + FIRST + HEADER.replace("memo", '"memo') + LAST
    assert _cleaned(content, tmp_path) == {"A1": 600}
    kept = quarantine_of(tmp_path / "out")
    assert b"".join(kept["raw"]).count(b"A3") == 1


def test_a_first_record_with_an_open_quote_is_not_a_header(tmp_path: Path) -> None:
    assert _cleaned(QUOTED + LAST, tmp_path) == {"A2": 90_000, "A3": 700}
    assert _cleaned(FIRST.replace("ok", '5" of') + LAST, tmp_path) == {"A1": 600, "A3": 700}


# Files joined by `cat`: (the second header, its row)
SECOND = [
    ("ref,at,card,shop,sum,memo", "A2,2019-03-04 10:01:00,K1,S1,9.00,x"),
    ("ref,at,shop,card,sum,memo", "A2,2019-03-04 10:01:00,S1,K1,9.00,x"),
    ("REF,AT,SHOP,CARD,SUM,MEMO", "A2,2019-03-04 10:01:00,S1,K1,9.00,x"),
    ("memo,sum,shop,card,at,ref", "x,9.00,S1,K1,2019-03-04 10:01:00,A2"),
    ("sum,shop,card,at,ref", "9.00,S1,K1,2019-03-04 10:01:00,A2"),
    ("till,ref,at,shop,card,sum,memo,2nd", "5,A2,2019-03-04 10:01:00,S1,K1,9.00,x,y"),
    ("ref,at,shop,card,sum,other", "A2,2019-03-04 10:01:00,S1,K1,9.00,x"),
    ("ref;at;shop;card;sum", "A2;2019-03-04 10:01:00;S1;K1;9.00"),
    ('"ref","at","shop","card","sum","me\nmo"', 'A2,2019-03-04 10:01:00,S1,K1,9.00,"a\nb"'),
    ("\ufeffref,at,shop,card,sum,memo", "A2,2019-03-04 10:01:00,S1,K1,9.00,x"),
    ("# ref | at | shop | card | sum", "A2,2019-03-04 10:01:00,S1,K1,9.00"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "row"), SECOND)
@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_a_header_inside_a_file_sets_the_layout(
    tmp_path: Path, header: str, row: str, chunk_bytes: int
) -> None:
    (tmp_path / "in.csv").write_text(
        HEADER + FIRST + "bad\n" + header + "\n" + row + "\nworse\n" + HEADER + LAST
    )
    report = run([tmp_path / "in.csv"], tmp_path / "out", catalogue=BANK, chunk_bytes=chunk_bytes)
    rows = rows_of(tmp_path / "out")
    assert dict(rows.select("transaction_id", "amount_minor").iter_rows()) == {
        "A1": 600,
        "A2": 900,
        "A3": 700,
    }
    assert rows["card_key"].n_unique() == rows["shop_key"].n_unique() == 1
    assert (report.rows_in, report.headers_inside) == (5, 2)
    assert quarantine_of(tmp_path / "out")["record"].to_list() == [2, 4]
    assert quarantine_of(tmp_path / "out")["raw"].to_list() == [b"bad", b"worse"]


def test_a_file_without_header_may_have_one_inside(tmp_path: Path) -> None:
    content = FIRST + "ref,at,shop,card,sum\nA2,2019-03-04 10:01:00,S1,K1,9.00\n"
    assert _cleaned(content, tmp_path) == {"A1": 600, "A2": 900}
    assert rows_of(tmp_path / "out")["card_key"].n_unique() == 1


def test_a_header_at_the_end_is_counted(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(HEADER + FIRST + HEADER.replace("card,shop", "shop,card"))
    report = run([tmp_path / "in.csv"], tmp_path / "out", catalogue=BANK)
    assert (report.rows_in, report.rows_clean, report.headers_inside) == (1, 1, 1)


UNUSABLE = {
    "ref,at,shop,sum,memo": "has no column 'card'",
    "ref,at,shop,card,sum,CARD": "has two columns for 'card': 'card' and 'CARD'",
    "ref,at,shop,card,memo,memo": "two columns",  # as many names as before, all known
}


@pytest.mark.parametrize("header", UNUSABLE)
def test_rows_after_an_unmappable_header_are_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match="The header of '.*' behind record 1 has ") as raised:
        _cleaned(HEADER + FIRST + header + "\n" + LAST, tmp_path)
    assert UNUSABLE[header] in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "line",
    [
        "sum,2019-03-04 10:01:00,ref,at,5.00,memo",  # names in every field that is free text
        "ref,at,card,shop,sum,5.00",
        "ref,at,card",
        "nothing,of,all,that,is,known",
    ],
)
def test_no_transaction_is_taken_for_a_header(tmp_path: Path, line: str) -> None:
    content = HEADER + FIRST + line + "\n" + LAST
    (tmp_path / "in.csv").write_text(content)
    report = run([tmp_path / "in.csv"], tmp_path / "out", catalogue=BANK)
    assert (report.rows_in, report.headers_inside) == (3, 0)


@pytest.mark.parametrize("chunk_bytes", [1 << 16, 1 << 23])
def test_a_line_longer_than_a_header_is_none(tmp_path: Path, chunk_bytes: int) -> None:
    long = HEADER.replace("memo\n", "x" * 5_000) + ",x" * 700_000 + "\n"
    assert _cleaned(HEADER + FIRST + long + LAST, tmp_path, chunk_bytes=chunk_bytes) == {"A1": 600, "A3": 700}
    assert quarantine_of(tmp_path / "out")["reason"].to_list() == ["too_long"]


@pytest.mark.parametrize("begin", [HEADER.replace("card,shop", "shop,card"), "x" * 3_000_000 + "\n"])
@pytest.mark.parametrize("chunk_bytes", [1 << 16, 1 << 21, 1 << 23])
def test_all_rows_behind_a_header_or_a_long_line_are_read(
    tmp_path: Path, begin: str, chunk_bytes: int
) -> None:
    """More of them than are searched for the end of a record."""
    rows = "".join(FIRST.replace("A1", f"B{i}") for i in range(35_000))
    assert len(rows) > RECORD_BYTES_MAX
    amounts = _cleaned(HEADER + FIRST + begin + rows, tmp_path, chunk_bytes=chunk_bytes)
    assert len(amounts) == 35_001


def test_too_many_kinds_of_headers_are_refused(tmp_path: Path) -> None:
    other = HEADER.replace("card,shop", "shop,card")
    with pytest.raises(InputError, match="more than 1000 headers of different kinds"):
        _cleaned((HEADER + other) * 600, tmp_path)


def test_headers_of_the_same_kind_may_be_many(tmp_path: Path) -> None:
    rows = "".join(HEADER + FIRST.replace("A1", f"A{i}") for i in range(3_000))
    assert len(_cleaned(rows, tmp_path)) == 3_000


def test_packed_files_are_read_alike(tmp_path: Path) -> None:
    content = (HEADER + FIRST + QUOTED + HEADER.replace("card,shop", "shop,card") + LAST).encode()
    plain = _cleaned(content, tmp_path)
    files = content_of(tmp_path / "out")
    assert (
        _cleaned(gzip.compress(content[:90]) + gzip.compress(content[90:]), tmp_path, chunk_bytes=7) == plain
    )
    assert {k: v for k, v in files.items() if "day=" in k} == {
        k: v for k, v in content_of(tmp_path / "out").items() if "day=" in k
    }


@pytest.mark.parametrize(
    "last", ["8,", "8,2019-03-04 10:08:00,7,", "8,2019-03-04 10:08:00,7,,", ",", '"",""']
)
def test_a_file_may_end_within_any_field(tmp_path: Path, last: str) -> None:
    assert len(_cleaned("id,at,card,sum,memo\n" + ROWS[0] + last, tmp_path, NUMBERED)) == 1
    assert len(quarantine_of(tmp_path / "out")) == 1
