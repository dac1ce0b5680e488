"""The quarantine holds no value of a pseudonymised field, and says where one may be left."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.small_catalogues import AT, ID, SUM, catalogue_text, entity
from tests.unit.intake_cases import quarantine_of, rows_of, run
from tests.unit.test_records_in_files import BANK
from tests.unit.test_retention import NOW, SetClock, with_retention

from zaslon.domain.catalogue import parse_catalogue
from zaslon.domain.errors import InputError
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.intake.hidden_fields import FieldHider, Kept
from zaslon.intake.layouts import Layout
from zaslon.services.retention import forget_old_originals
from zaslon.testing import SmallWorld

COLUMNS = BANK.record.columns
IVANOV, GOOD = "Ivanov 4000", {"at": "2019-03-04 10:00:00", "shop": "S1", "sum": "6.00", "memo": "ok"}
SECRETS = (IVANOV, "S1")


def row(number: int, **changed: object) -> dict[str, object]:
    return {"ref": f"A{number}", "card": IVANOV} | GOOD | changed


# A wrong amount, a wrong time, a repeat and a conflict.
ROWS = [
    row(1),
    row(2, sum="much"),
    row(3, at="then"),
    row(1),
    row(1, sum="7.00"),
    row(4, card=f" {IVANOV} ", sum=""),
]


def write(form: str, path: Path) -> Path:
    if form == "jsonl":
        path.write_bytes(b"\n".join(map(orjson.dumps, ROWS)))
    elif form == "parquet":
        pl.DataFrame(ROWS).write_parquet(path)
    else:
        lines = [",".join(f'"{r[c]}"' if form == "quoted" else str(r[c]) for c in COLUMNS) for r in ROWS]
        path.write_text("\n".join([",".join(COLUMNS), *lines]))
    return path


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_row_that_breaks_the_hiding_is_rejected_alone(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide = FieldHider.hide

    def failing(hider: FieldHider, raws: list[bytes], layout: Layout) -> list[Kept]:
        if any(b"much" in raw for raw in raws):
            raise KeyError("much")
        return hide(hider, raws, layout)

    monkeypatch.setattr(FieldHider, "hide", failing)
    report = run([write(form, tmp_path / "in")], tmp_path / "out", catalogue=BANK)
    rows = quarantine_of(tmp_path / "out")
    (broken,) = rows.filter(pl.col("reason") == "engine_error").to_dicts()
    assert (broken["field"], broken["in_clear"]) == (None, True)
    assert IVANOV.encode() in broken["raw"] and "KeyError" in broken["detail"]
    assert rows.filter(pl.col("in_clear"))["record"].to_list() == [broken["record"]]
    assert report.rows_rejected["engine_error"] == 1
    assert report.rows_in == report.rows_clean + sum(report.rows_rejected.values()) == len(ROWS)


def test_hiding_that_breaks_ordinary_rows_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(hider: FieldHider, raws: list[bytes], layout: Layout) -> list[Kept]:
        raise KeyError("much")

    monkeypatch.setattr(FieldHider, "hide", failing)
    with pytest.raises(KeyError):
        run([write("csv", tmp_path / "in")], tmp_path / "out", catalogue=BANK)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["csv", "quoted", "jsonl", "parquet"])
def test_every_rejected_row_keeps_its_customers_hidden(form: str, tmp_path: Path) -> None:
    report = run([write(form, tmp_path / "in")], tmp_path / "out", catalogue=BANK)
    assert (report.rows_clean, sum(report.rows_rejected.values())) == (1, 5)
    kept, clean = quarantine_of(tmp_path / "out"), rows_of(tmp_path / "out")
    assert not kept["in_clear"].any()
    for raw in kept["raw"].to_list():
        assert not any(secret.encode() in raw for secret in SECRETS)
        assert f"key:{clean['card_key'][0]}".encode() in raw, "known as among the clean rows"
    assert b"much" in b"".join(kept["raw"].to_list()), "all else is as it came"
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert IVANOV.encode() not in everything


def test_what_cannot_be_split_is_kept_and_marked(tmp_path: Path) -> None:
    bad = [
        f"A1,2019-03-04 10:00:00,{IVANOV},6.00",
        f'A2,2019-03-04 10:00:00,"{IVANOV}"x,S1,6.00,ok',
        "A3,x,,S1,1,ok",
    ]
    (tmp_path / "in").write_text("\n".join([",".join(COLUMNS), *bad]))
    run([tmp_path / "in"], tmp_path / "out", catalogue=BANK)
    kept = quarantine_of(tmp_path / "out").sort("record")
    assert kept["in_clear"].to_list() == [True, True, False]
    assert kept["raw"].to_list()[:2] == [line.encode() for line in bad[:2]]
    (tmp_path / "in").write_text('{"ref":"A"}\n{"card":"' + IVANOV + '",\n')
    run([tmp_path / "in"], tmp_path / "out", catalogue=BANK)
    assert quarantine_of(tmp_path / "out").sort("record")["in_clear"].to_list() == [False, True]


def test_numbers_are_hidden_where_the_catalogue_says_so(tmp_path: Path) -> None:
    fields = {
        "id": ID,
        "at": AT,
        "card": entity("card", pseudonymise=True),
        "shop": entity("shop"),
        "sum": SUM,
    }
    lines = ["id,at,card,shop,sum", "1,2019-03-04 10:00:00,4000,5,6.00"]
    lines += [
        f"{i + 2},2019-03-04 10:00:00,{card},5,x" for i, card in enumerate(("4000", "4000.0", "+4000", "7x"))
    ]
    (tmp_path / "in").write_text("\n".join(lines))
    run([tmp_path / "in"], tmp_path / "out", catalogue=parse_catalogue(catalogue_text("numbers", fields)))
    key = rows_of(tmp_path / "out")["card_key"][0]
    kept = [
        raw.decode().split(",") for raw in quarantine_of(tmp_path / "out").sort("record")["raw"].to_list()
    ]
    assert [fields[2] for fields in kept[:3]] == [f"key:{key}"] * 3
    assert kept[3][2].startswith("key:") and kept[3][2] != f"key:{key}"
    assert [fields[3] for fields in kept] == ["5"] * 4


FIELD = st.text(st.sampled_from(list('ab",\n é7')), max_size=8)


@given(st.lists(FIELD, min_size=6, max_size=6), st.binary(max_size=30), st.booleans())
def test_no_record_makes_hiding_fail(fields: list[str], noise: bytes, is_json: bool) -> None:
    hider, layout = FieldHider(BANK, b"key"), Layout(is_json, COLUMNS, ",")
    line = ",".join('"' + f.replace('"', '""') + '"' for f in fields).encode()
    json = orjson.dumps(dict(zip(COLUMNS, fields, strict=True)))
    found = hider.hide([noise, json if is_json else line, line[:-1]], layout)
    assert len(found) == 3
    if is_json:
        hidden = orjson.loads(found[1].raw)
        assert [hidden[c] for c in ("ref", "at", "sum", "memo")] == [fields[i] for i in (0, 1, 4, 5)]
        card = fields[2].strip(" \t")
        assert hidden["card"].startswith("key:") == bool(card)


def test_the_bytes_of_rejected_rows_have_their_time(small_world: SmallWorld, tmp_path: Path) -> None:
    world, clock = small_world.in_home(tmp_path), SetClock()
    context = with_retention(world, 2, clock)
    (tmp_path / "in.csv").write_text(
        "transaction_id,tx_datetime,customer_id,terminal_id,tx_amount\n1,x,7,5,secret"
    )
    place = tmp_path / "scored" / "some"
    for out in (tmp_path / "clean", place):
        run([tmp_path / "in.csv"], out)
        os.utime(out / "_quarantine.parquet", (NOW, NOW))
    for days, is_kept in ((1, True), (3, False), (3, False)):
        clock.seconds = NOW + days * SECONDS_PER_DAY
        with closing(context.open_journal()) as journal:
            forget_old_originals(context, journal)
        for out in (tmp_path / "clean", place):
            kept = quarantine_of(out)
            assert (kept["raw"][0] is not None) == is_kept
            assert kept["reason"].to_list() == ["not_a_number"]
            assert (out / "_quarantine.parquet").stat().st_mode & 0o077 == 0
            assert ("no longer kept" in kept["detail"][0]) != is_kept
            assert (b"secret" in (kept["raw"][0] or b"")) == is_kept


def kept_of(record: bytes, *, is_json: bool = True) -> Kept:
    (kept,) = FieldHider(BANK, b"key").hide([record], Layout(is_json, COLUMNS, ","))
    return kept


@pytest.mark.parametrize("depth", [100, 330, 1_000, 5_000, 100_000])
@pytest.mark.parametrize("place", ["memo", "card"])
def test_nesting_stops_nothing_however_deep(place: str, depth: int, tmp_path: Path) -> None:
    deep = b"[" * depth + b'{"card":"' + IVANOV.encode() + b'"}' + b"]" * depth
    fields = {"ref": b'"A2"', "card": b'"K"', "sum": b'"much"', place: deep}
    record = b"{" + b",".join(b'"%s": %s' % (name.encode(), value) for name, value in fields.items()) + b"}"
    (tmp_path / "in").write_bytes(b"\n".join([orjson.dumps(ROWS[0]), record, orjson.dumps(ROWS[0])]))
    report = run([tmp_path / "in"], tmp_path / "out", catalogue=BANK)
    assert (report.rows_clean, sum(report.rows_rejected.values())) == (1, 2)
    kept = quarantine_of(tmp_path / "out")
    assert not kept["in_clear"].any()
    assert not any(IVANOV.encode() in raw for raw in kept["raw"])
    assert (b"[" * 9 in b"".join(kept["raw"])) == (place == "memo"), "the rest is as it came"


def test_members_are_hidden_at_any_depth_by_any_spelling() -> None:
    record = b'{ "x": [{"CARD" : "Iv\\u0061nov", "y":1.50}, null], "c\\u0061rd":"Ivanov","card":null }\r'
    key = FieldHider(BANK, b"key").hide([b'{"card":"Ivanov"}'], Layout(True, COLUMNS, ","))[0].raw[8:-1]
    expected = record.replace(b'"Iv\\u0061nov"', key).replace(b'"Ivanov"', key)
    assert kept_of(record) == Kept(expected, in_clear=False)


@pytest.mark.parametrize(
    "record",
    [
        b'["Ivanov"]', b'"Ivanov"', b'{"card":"Ivanov"', b'{"card":"Ivanov"}}', b'{"card":"Ivanov"]',
        b'{"card" "Ivanov"}', b'{"a":"x" "Ivanov"}', b'{"card":Ivanov 4000}', b'{"c\\ard":"Ivanov"}',
        b'{"a":"\xff","\xff":"Ivanov"}', b'{"card":"Ivanov",}', b'{"a":[,"Ivanov"]}', b'\xef\xbb\xbf{"a":"Ivanov"}',
    ],
)  # fmt: skip
def test_json_that_is_no_object_is_kept_and_marked(record: bytes) -> None:
    assert kept_of(record) == Kept(record, in_clear=True)


@pytest.mark.parametrize(
    "value", [b'"Ivan\xffov"', b'"Ivan\x01ov"', b'"Ivan\\qov"', b'"\\ud800Ivan"', b"Ivan"]
)
def test_a_value_that_cannot_be_read_is_hidden(value: bytes) -> None:
    kept = kept_of(b'{"card":' + value + b',"memo":"ok"}')
    assert kept.raw.startswith(b'{"card":"key:') and kept.raw.endswith(b'","memo":"ok"}')
    assert (b"Ivan" in kept.raw, kept.in_clear) == (False, False)


@pytest.mark.parametrize("other", ["one\ntwo", "one\rtwo", "one\x01two", "caf\udce9"])
def test_odd_bytes_in_an_unread_field_hide_nothing_less(other: str, tmp_path: Path) -> None:
    record = f'A1,2019-03-04 10:00:00,{IVANOV},S1,6.00,"{other}"'.encode(errors="surrogateescape")
    kept = kept_of(record, is_json=False)
    assert (IVANOV.encode() in kept.raw, kept.in_clear) == (False, False)
    assert kept.raw.startswith(b"A1,2019-03-04 10:00:00,key:") and kept.raw.endswith(record[-12:])


def test_rows_in_quotes_are_marked_as_they_may_be_rows() -> None:
    record = f'A1,2019-03-04 10:00:00,K1,S1,6.00,"ok\nA2,2019-03-04 10:00:00,{IVANOV},S1,6.00,ok"'.encode()
    kept = kept_of(record, is_json=False)
    assert kept.in_clear and kept.raw.startswith(b"A1,2019-03-04 10:00:00,key:")


def test_all_lines_of_a_torn_record_are_marked(tmp_path: Path) -> None:
    lines = [f'A1,"2019-03-04 10:00:00,{IVANOV},S1,6.00,ok', f'A2,2019-03-04 10:00:00",{IVANOV},S1,6.00,ok']
    (tmp_path / "in").write_text("\n".join([",".join(COLUMNS), *lines]))
    run([tmp_path / "in"], tmp_path / "out", catalogue=BANK)
    assert quarantine_of(tmp_path / "out")["in_clear"].to_list() == [True, True]


def test_control_bytes_in_parquet_hide_nothing_less(tmp_path: Path) -> None:
    card = f"{IVANOV}\n\x00"
    pl.DataFrame([row(1), row(2, card=card, sum="much"), row(3, shop='"\r', card=card)]).write_parquet(
        tmp_path / "in"
    )
    run([tmp_path / "in"], tmp_path / "out", catalogue=BANK)
    kept = quarantine_of(tmp_path / "out")
    assert kept["in_clear"].to_list() == [False, False]
    assert not any(IVANOV.encode() in raw for raw in kept["raw"])


@pytest.mark.parametrize("line", [f"A1,2019-03-04 10:00:00,{IVANOV}", f"{IVANOV};5.00"])
def test_an_error_about_a_first_line_names_nobody(line: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text(line)
    with pytest.raises(InputError, match=r"but a record of \d fields?\.") as error:
        run([tmp_path / "in"], tmp_path / "out", catalogue=BANK)
    assert "Ivanov" not in str(error.value)
    (tmp_path / "in").write_text("when,who,how much")
    with pytest.raises(InputError, match="but 'when, who, how much'"):
        run([tmp_path / "in"], tmp_path / "out", catalogue=BANK)
