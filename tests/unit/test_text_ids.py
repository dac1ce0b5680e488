"""Ids of transactions that are texts: what is one, and that every form of a record gives the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.text_ids import BY_TEXT, TEXT_MISSION, text_of
from tests.unit.intake_cases import ARRIVAL_SECONDS, KEY, MISSION, clean, line

from zaslon.domain.catalogue import parse_catalogue
from zaslon.domain.errors import CatalogueError, InputError
from zaslon.domain.events import Kind, public_ids
from zaslon.engine import Engine
from zaslon.intake import clean_days, clean_files, cleaning, read_clean_day
from zaslon.intake.identifiers import named_by, numbers_of
from zaslon.labels.feedback import DelayedLabels

TEXTS = [
    "0d9f7a3e-52c1-4e0b-9a55-6f0e4f1f7c11", "5", "a b", "pay/42?x=1&y=%2F#", 'say "hi"', '""', "a,b;c",
    "back\\slash", "{}", "платёж №7", "x" * 64, "я" * 32, "key:0123456789abcdef:0123456789abcdef",
    "nullable", "-0", "007", "7.0", "\U0001f600",
]  # fmt: skip


def as_json(**changes: Any) -> str:
    named = {"transaction_id": "t", "tx_datetime": "2019-08-22 06:51:03", "customer_id": 4961,
             "terminal_id": 711, "tx_amount": 70.91}  # fmt: skip
    return json.dumps({**named, **changes}, ensure_ascii=False)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_kept_as_it_is_whichever_way_it_comes(text: str) -> None:
    quoted = '"' + text.replace('"', '""') + '"'
    by_line = clean(line(transaction_id=quoted), catalogue=TEXT_MISSION)
    by_json = clean(as_json(transaction_id=text), kind=Kind.TRANSACTION_JSON, catalogue=TEXT_MISSION)
    label = clean(json.dumps({"transaction_id": text, "is_fraud": 1}), kind=Kind.LABEL_JSON,
                  catalogue=TEXT_MISSION)  # fmt: skip
    (number, _) = numbers_of(text.encode(), KEY)
    for found in (by_line.transactions, by_json.transactions, label.labels):
        assert (public_ids(found), found.transaction_id.tolist()) == ([text], [number])
    assert by_line.transactions.digest.tolist() == by_json.transactions.digest.tolist()


def test_blanks_around_a_text_do_not_count() -> None:
    for record, kind in (
        (line(transaction_id="  a b\t"), Kind.TRANSACTION_LINE),
        (as_json(transaction_id=" a b\t"), Kind.TRANSACTION_JSON),
    ):
        assert public_ids(clean(record, kind=kind, catalogue=TEXT_MISSION).transactions) == ["a b"]
    labelled = clean(
        '{"transaction_id":" a b ","is_fraud":true}', kind=Kind.LABEL_JSON, catalogue=TEXT_MISSION
    )
    assert public_ids(labelled.labels) == ["a b"]
    assert named_by(" a b ", TEXT_MISSION) == "a b"


UNFIT = [
    "x" * 65,
    "я" * 33,
    "a\tb",
    "a\u200bb",
    "a\u00a0b",
    "❤\ufe0f",
    "\u202etxt",
    "\ufeffa",
    "a\u2028b",
    "a\u00adb",
    "\U000e0041",
]


@pytest.mark.parametrize("text", UNFIT)
def test_a_text_id_too_long_or_invisible_is_refused(text: str) -> None:
    for record, kind in (
        (line(transaction_id=text), Kind.TRANSACTION_LINE),
        (as_json(transaction_id=text), Kind.TRANSACTION_JSON),
    ):
        rejected = clean(record, kind=kind, catalogue=TEXT_MISSION).rejected
        assert rejected.field == ["transaction_id"]
        assert rejected.detail[0].endswith("'; expected text of 1 to 64 bytes in visible characters.")
    label = json.dumps({"transaction_id": text, "is_fraud": True})
    (detail,) = clean(label, kind=Kind.LABEL_JSON, catalogue=TEXT_MISSION).rejected.detail
    assert detail.startswith("Field 'transaction_id' is '")
    assert detail.endswith("expected text of 1 to 64 bytes in visible characters.")
    assert named_by(text, TEXT_MISSION) is None


@pytest.mark.parametrize("value", [7, 7.0, 1e300, 2**63, True, ["a"], {"a": 1}])
def test_in_json_an_id_that_should_be_a_text_is_a_string(value: Any) -> None:
    record = as_json(transaction_id=value)
    rejected = clean(record, kind=Kind.TRANSACTION_JSON, catalogue=TEXT_MISSION).rejected
    assert rejected.field == ["transaction_id"]
    assert "and not a JSON string; expected text of 1 to 64 bytes" in rejected.detail[0]
    label = json.dumps({"transaction_id": value, "is_fraud": True})
    (detail,) = clean(label, kind=Kind.LABEL_JSON, catalogue=TEXT_MISSION).rejected.detail
    assert "and not a JSON string; expected text of 1 to 64 bytes" in detail


@pytest.mark.parametrize(
    "record", [line(transaction_id=""), line(transaction_id="  "), line(transaction_id='""')]
)
def test_a_record_without_a_text_has_no_id(record: str) -> None:
    assert clean(record, catalogue=TEXT_MISSION).rejected.detail == [
        "Field 'transaction_id' is missing; expected a value."
    ]


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (line(transaction_id="a\0b"), Kind.TRANSACTION_LINE),
        (line(transaction_id="a\x7fb"), Kind.TRANSACTION_LINE),
        (line(transaction_id="a").encode().replace(b"a", b"\xff\xfe", 1), Kind.TRANSACTION_LINE),
        (as_json(transaction_id="a\nb"), Kind.TRANSACTION_JSON),
        (
            as_json(transaction_id="a").encode().replace(b'"t', b'"\xff', 1)[:-1] + b'"\xc3"}',
            Kind.TRANSACTION_JSON,
        ),
    ],
)
def test_control_characters_and_invalid_utf8_are_not_text(record: str | bytes, kind: Kind) -> None:
    (reason,) = clean(record, kind=kind, catalogue=TEXT_MISSION).rejected.reason.tolist()
    assert reason == 3


@pytest.mark.parametrize("label", ["{}", '{"transaction_id":null}', '{"transaction_id":""}',
                                   '{"transaction_id":"\\u200b"}', '{"transaction_id":"a","is_fraud":7}'])  # fmt: skip
def test_a_label_without_id_or_verdict_names_what_is_expected(label: str) -> None:
    (detail,) = clean(label, kind=Kind.LABEL_JSON, catalogue=TEXT_MISSION).rejected.detail
    assert "; expected " in detail


def test_numeric_ids_are_read_as_before() -> None:
    found = clean(line()).transactions
    assert found.id_text is None
    assert public_ids(found) == found.transaction_id.tolist() == [17]
    assert named_by("17", MISSION) == 17
    assert named_by("a", MISSION) is None


def test_another_key_gives_other_numbers_and_the_same_text() -> None:
    one = clean(line(transaction_id="a"), catalogue=TEXT_MISSION).transactions
    other = clean(line(transaction_id="a"), catalogue=TEXT_MISSION, key=b"another").transactions
    assert one.transaction_id != other.transaction_id
    assert public_ids(one) == public_ids(other) == ["a"]


def test_two_texts_with_one_hash_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "numbers_of", lambda word, key: (5, numbers_of(word, key)[1]))
    engine = Engine(TEXT_MISSION, key=KEY)
    cleaned = clean(*(line(transaction_id=name) for name in ("a", "a", "b")), catalogue=TEXT_MISSION)
    applied = engine.apply(cleaned.transactions, cleaned.labels, cleaned.is_label)
    assert applied.status.tolist() == [0, 17, 18]


def test_bounds_of_a_text_are_refused() -> None:
    for bound in ("minimum", "maximum"):
        with pytest.raises(CatalogueError, match="minimum and maximum are for numbers, and this is text"):
            parse_catalogue(BY_TEXT.replace('type = "text"', f'type = "text"\n{bound} = 1', 1))
    with pytest.raises(CatalogueError, match="usual_maximum is for numbers"):
        parse_catalogue(BY_TEXT.replace('type = "text"', 'type = "text"\nusual_maximum = 1', 1))
    with pytest.raises(CatalogueError, match="only the id of a transaction and the key of an entity"):
        parse_catalogue(BY_TEXT.replace('role = "amount"', 'role = "amount"\ntype = "text"', 1))


def cleaned_file(source: Path, out: Path) -> pl.DataFrame:
    clean_files(
        [str(source)],
        out,
        TEXT_MISSION,
        key=KEY,
        arrival_time_seconds=ARRIVAL_SECONDS,
        chunk_bytes=1 << 12,
        repeat_filter_bytes=64,
    )
    ((_, day),) = clean_days(out, TEXT_MISSION)
    return pl.read_parquet(day)


def test_clean_days_show_the_text_and_repeats_are_found_by_it(tmp_path: Path) -> None:
    names = [text_of(i) for i in range(300)]
    random = np.random.default_rng(3)
    lines = [line(transaction_id=name, tx_fraud=1) for name in names]
    lines += [line(transaction_id=names[7]), line(transaction_id=names[8], tx_amount=1)]
    source = tmp_path / "in.csv"
    order = [*random.permutation(300).tolist(), 300, 301]
    source.write_text("\n".join(lines[i] for i in order) + "\n")
    report = clean_files(
        [str(source)], tmp_path / "out", TEXT_MISSION, key=KEY, arrival_time_seconds=ARRIVAL_SECONDS,
        chunk_bytes=1 << 12, repeat_filter_bytes=64,
    )  # fmt: skip
    assert report.rows_rejected == {"conflicting_duplicate": 1, "duplicate": 1}
    ((_, day),) = clean_days(tmp_path / "out", TEXT_MISSION)
    frame = pl.read_parquet(day)
    assert frame.columns[:2] == ["transaction_id", "transaction_key"]
    assert frame["transaction_id"].to_list() == sorted(names), "equal times are in the order of their texts"
    again = read_clean_day(day, TEXT_MISSION)
    assert public_ids(again) == sorted(names)
    assert again.transaction_id.tolist() == [numbers_of(n.encode(), KEY)[0] for n in sorted(names)]
    feedback = DelayedLabels(5)
    feedback.add(again)
    assert public_ids(feedback.due(1 << 40)) == sorted(names)
    assert public_ids(feedback.due(1 << 40)) == []


def test_parquet_gives_the_same_ids_as_text(tmp_path: Path) -> None:
    rows: dict[str, Any] = {"tx_datetime": ["2019-08-22 06:51:03"] * 3, "customer_id": [1, 2, 3],
                            "terminal_id": [1, 2, 3], "tx_amount": [1.5, 2.5, 3.5]}  # fmt: skip
    names = ['a "b", c', "платёж", text_of(5)]
    for number, (ids, expected) in enumerate([
        (pl.Series(names), names),
        (pl.Series(names, dtype=pl.Categorical), names),
        (pl.Series([name.encode() for name in names]), names),
        (pl.Series([2**63 - 1, 7, -1]), [str(2**63 - 1), "7", "-1"]),
    ]):  # fmt: skip
        source = tmp_path / f"{number}.parquet"
        pl.DataFrame({"transaction_id": ids, **rows}).write_parquet(source)
        assert sorted(cleaned_file(source, tmp_path / str(number))["transaction_id"]) == sorted(expected)


@pytest.mark.parametrize("values", [[1.0, 2.0], [True, False]])
def test_parquet_ids_of_a_lossy_type_are_refused(tmp_path: Path, values: list[Any]) -> None:
    frame = {"transaction_id": values, "tx_datetime": ["2019-08-22 06:51:03"] * 2, "customer_id": [1, 2],
             "terminal_id": [1, 2], "tx_amount": [1.5, 2.5]}  # fmt: skip
    pl.DataFrame(frame).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(InputError, match=r"Column 'transaction_id' of .* and ids are texts"):
        cleaned_file(tmp_path / "in.parquet", tmp_path / "out")


def test_a_chunk_without_a_clean_row_changes_nothing_for_others(tmp_path: Path) -> None:
    """The first chunks are all rejected; with texts as ids this refused the whole file."""
    rows = [as_json(transaction_id=f"t{i}", tx_amount="x" if i < 5 else 1) for i in range(9)]
    (tmp_path / "in.jsonl").write_text("\n".join([*rows, rows[-1]]))
    report = clean_files(
        [str(tmp_path / "in.jsonl")], tmp_path / "out", TEXT_MISSION, key=KEY,
        arrival_time_seconds=ARRIVAL_SECONDS, chunk_bytes=1, repeat_filter_bytes=1 << 10,
    )  # fmt: skip
    assert (report.rows_clean, sum(report.rows_rejected.values())) == (4, 6)
