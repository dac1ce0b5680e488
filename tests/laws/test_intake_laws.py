"""Laws of cleaning: one outcome per record, one function for every ingress, and the log keeps it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.record_oracle import records_of
from tests.unit.intake_cases import (
    ARRIVAL_SECONDS,
    GOOD,
    HEADER,
    KEY,
    MISSION,
    NAMES,
    SHOP,
    clean,
    quarantine_of,
    run,
)

from zaslon.admission import admit
from zaslon.admission.log_format import decode, encode
from zaslon.domain.catalogue import NULL_WORDS, RECORD_BYTES_MAX, Catalogue
from zaslon.domain.events import Kind, RecordBatch, Transactions
from zaslon.intake.characters import key_text

MUTATIONS = 100_000 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 10_000
VALUES = [
    "", " ", "0", "-0", "+7", "007", "-1", "1e3", "1E400", "0x1F", "1_000", "inf", "-inf", "nan", "NaN", "5.",
    ".5", "70.910", "70.915", "-0.00", "9" * 30, str(2**63), str(2**63 - 1), str(-(2**63)), "-999999", "Err",
    "None", "null", "２０", "٣", '"', '""', '"5"', '" 5 "', "a,b", '"a,b"', "\t5", "\0", "\r", "é", "\x85",
    "\U0001f600", "2019-08-22 24:00:00", "2019-02-30 00:00:00", "2019-08-22T06:51:03.5Z", "0000-00-00 00:00:00",
    "9999-12-31 23:59:59", "2019-08-22 23:59:60", "2019-08-22 06:51:03+03:00", "1969-12-31 23:59:59",
    "2019-08-21 23:59:59", "key:" + "0" * 16, "x" * 5000, "1" + "0" * 300,
]  # fmt: skip


def _mutant(random: np.random.Generator, pieces: list[bytes]) -> bytes:
    """A good line with a field exchanged, bytes changed, a part cut out or doubled, or no line at all."""
    record = ",".join(_fields(random)).encode()
    for _ in range(int(random.integers(0, 3))):
        at, size = int(random.integers(len(record) + 1)), int(random.integers(1, 9))
        record = [
            record[:at] + random.bytes(size) + record[at + size :],
            record[:at] + record[at + size :],
            record[:at] + record[max(0, at - size) :],
            record[:at] + pieces[int(random.integers(len(pieces)))] + record[at:],
        ][int(random.integers(4))]
    return record.replace(b"\n", b" ")


def _fields(random: np.random.Generator) -> list[str]:
    fields = [
        str(int(random.integers(0, 10**6))), f"2019-08-{random.integers(1, 33):02d} {random.integers(25):02d}:51:03",
        str(int(random.integers(10))), str(int(random.integers(12_000))),
        f"{random.integers(500)}.{random.integers(100):02d}", str(int(random.integers(10**6))), "0", "1", "2",
    ]  # fmt: skip
    if random.random() < 0.5:
        fields[int(random.integers(len(fields)))] = VALUES[int(random.integers(len(VALUES)))]
    return fields


def _batch(records: list[bytes], kind: Kind) -> RecordBatch:
    return RecordBatch.of(records, [kind] * len(records), [ARRIVAL_SECONDS] * len(records))


def _assert_same(left: Transactions, right: Transactions) -> None:
    names = ["transaction_id", "event_time_seconds", "amount_minor", "flags", "digest"]
    for name in [*names, "is_fraud", "scenario"]:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
    assert left.entity_keys.keys() == right.entity_keys.keys()
    for name in left.entity_keys:
        np.testing.assert_array_equal(left.entity_keys[name], right.entity_keys[name])
    for name in left.numbers:
        np.testing.assert_array_equal(left.numbers[name], right.numbers[name])


def _assert_admitted(records: list[bytes], kind: Kind, catalogue: Catalogue) -> int:
    """One entry of the log per record; every accepted one comes back from the log as it was."""
    admitted = admit(_batch(records, kind), catalogue, KEY)
    assert len(admitted) == len(records) == len(admitted.transactions) + len(admitted.rejected)
    assert all(d.endswith(".") and len(d) < 500 for d in admitted.rejected.detail)
    again = decode(encode(admitted, catalogue), catalogue)
    _assert_same(again.transactions, admitted.transactions)
    assert again.rejected.problems == admitted.rejected.problems
    return len(admitted.transactions)


def test_mutated_lines_have_one_outcome_each(tmp_path: Path) -> None:
    random = np.random.default_rng(20)
    pieces = [value.encode() for value in VALUES]
    records = [_mutant(random, pieces) for _ in range(MUTATIONS)]
    accepted = _assert_admitted(records, Kind.TRANSACTION_LINE, MISSION)
    assert MUTATIONS // 10 < accepted < MUTATIONS * 9 // 10
    content = b"\n".join(records) + b"\n"
    (tmp_path / "in.txt").write_bytes(HEADER.encode() + b"\n" + content)
    report = run([tmp_path / "in.txt"], tmp_path / "out", chunk_bytes=1 << 18)
    # In a file, a stray quote takes the lines behind it into its record.
    in_file = records_of(content, b",", b"\n", MISSION.record.max_record_bytes, RECORD_BYTES_MAX)
    # What it has torn apart is rejected line by line.
    lines = quarantine_of(tmp_path / "out").group_by("record").len()["len"]
    assert report.rows_in - (int(lines.sum()) - len(lines)) == len(in_file) < MUTATIONS
    accepted = len(admit(_batch(in_file, Kind.TRANSACTION_LINE), MISSION, KEY).transactions)
    repeats = sum(v for k, v in report.rows_rejected.items() if "duplicate" in k)
    late = sum(k == "after_arrival" for k in report.rows_rejected)
    assert report.rows_clean + repeats >= accepted and not late


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers(-(2**70), 2**70)
    | st.text()
    | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = (
    st.sampled_from([*NAMES, "tranaction_id", "TX_AMOUNT", "id", "at", "card", "device", "sum", "risk"])
    | st.text()
)


@settings(max_examples=max(50, settings().max_examples // 3))  # each is twenty objects, twice
@given(
    st.lists(st.dictionaries(KEYS, JSON_VALUES), min_size=1, max_size=20), st.randoms(use_true_random=False)
)
def test_random_json_objects_have_one_outcome_each(objects: list[dict[str, Any]], random: Any) -> None:
    good = dict(zip(NAMES, GOOD.split(","), strict=True))
    shop = {"id": 1, "at": 1_700_000_000, "card": "c", "device": "d", "sum": 5, "risk": 0.5}
    for catalogue, base in ((MISSION, good), (SHOP, shop)):
        records = []
        for content in objects:
            record = json.dumps(base | content).encode("utf-8", "surrogatepass")
            cut = random.randrange(len(record)) if random.random() < 0.1 else len(record)
            records.append(record[:cut])
        _assert_admitted(records, Kind.TRANSACTION_JSON, catalogue)


@given(
    st.lists(
        st.binary()
        | st.dictionaries(st.sampled_from(["transaction_id", "is_fraud"]) | st.text(), JSON_VALUES)
    )
)
def test_random_labels_have_one_outcome_each(contents: list[Any]) -> None:
    records = [
        c if isinstance(c, bytes) else json.dumps(c).encode("utf-8", "surrogatepass") for c in contents
    ]
    cleaned = clean(*records, kind=Kind.LABEL_JSON)
    assert len(cleaned.labels) + len(cleaned.rejected) == len(records)


@given(st.lists(st.binary(max_size=80)), st.sampled_from(list(Kind)))
def test_random_bytes_have_one_outcome_through_every_ingress(records: list[bytes], kind: Kind) -> None:
    clean(*records, kind=kind)
    clean(*records, kind=kind, catalogue=SHOP)


WORDS = st.text(
    st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from(list(",;\"\t '#{")),
    min_size=1,
    max_size=12,
).filter(lambda word: _is_key(word.encode()))


def _is_key(word: bytes) -> bool:
    key = key_text(word)[0] or b""
    return key != b"" and key.decode().lower() not in NULL_WORDS


SHOP_ROWS = st.lists(
    st.tuples(
        st.integers(-(2**63) + 1, 2**63 - 1), st.integers(0, ARRIVAL_SECONDS), WORDS, WORDS,
        st.integers(-(10**15), 10**15), st.none() | st.floats(-1e12, 1e12),
    ),
    min_size=1, max_size=10, unique_by=lambda row: row[0],
)  # fmt: skip


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return np.format_float_positional(value, trim="-") if isinstance(value, float) else str(value)


def _quoted(value: Any, separator: str) -> str:
    text = _plain(value)
    return '"' + text.replace('"', '""') + '"' if '"' in text or separator in text else text


@settings(max_examples=max(25, settings().max_examples // 5))  # each writes and cleans three files
@given(SHOP_ROWS)
def test_a_record_is_the_same_through_every_ingress(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]]
) -> None:
    names = SHOP.record.columns
    jsons = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    lines = [",".join(_quoted(v, ",") for v in row) for row in rows]
    expected = clean(*jsons, kind=Kind.TRANSACTION_JSON, catalogue=SHOP).transactions
    assert len(expected) == len(rows)
    _assert_same(clean(*lines, catalogue=SHOP).transactions, expected)
    _assert_admitted([j.encode() for j in jsons], Kind.TRANSACTION_JSON, SHOP)
    place = tmp_path_factory.mktemp("ingress paths")
    backwards = [";".join(_quoted(v, ";") for v in row[::-1]) for row in [names, *rows]]
    (place / "csv").write_text("\n".join(backwards))
    (place / "json").write_text("\n".join(jsons))
    pl.DataFrame(rows, schema=list(names), orient="row", infer_schema_length=None).write_parquet(
        place / "parquet"
    )
    order = np.lexsort([expected.transaction_id, expected.event_time_seconds])
    for form in ("csv", "json", "parquet"):
        run([place / form], place / "out", catalogue=SHOP)
        _assert_same(_read(place / "out"), expected.take(order))


def _read(out: Path) -> Transactions:
    from zaslon.intake import clean_days, read_clean_day

    return Transactions.concatenate([read_clean_day(path, SHOP) for _, path in clean_days(out, SHOP)])


def test_the_log_never_holds_a_text_identifier() -> None:
    batch = admit(_batch([b"1,1700000000,Ivanov,d,5,"], Kind.TRANSACTION_LINE), SHOP, KEY)
    assert b"Ivanov" not in encode(batch, SHOP)
    other = admit(_batch([b"1,1700000000,Ivanov,d,5,"], Kind.TRANSACTION_LINE), SHOP, b"another key")
    assert other.transactions.entity_keys["card"] != batch.transactions.entity_keys["card"]


def test_a_word_cannot_name_the_pseudonym_of_another() -> None:
    key = int(clean("1,1700000000,Ivanov,d,5,", catalogue=SHOP).transactions.entity_keys["card"][0])
    forged = f"key:{key.to_bytes(8, 'big', signed=True).hex()}"
    cleaned = clean(f"2,1700000000,{forged},d,5,", catalogue=SHOP).transactions
    assert cleaned.entity_keys["card"].tolist() != [key]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("text", ["2019-08-21 23:59:59", "2019-08-22 00:00:00", "2018-03-31 23:59:59"])
def test_flags_stay_in_the_log_where_all_fields_are_required(text: str, required: bool) -> None:
    fields = [f.model_copy(update={"required": required or f.required}) for f in MISSION.fields]
    catalogue = MISSION.model_validate(MISSION.model_dump() | {"fields": fields})
    lines = [
        f"{i},{text},1,2,3.00,{odd},0,0,0".encode() for i, odd in enumerate([-1, 0, 5, "x", "4294967296"])
    ]
    assert _assert_admitted(lines, Kind.TRANSACTION_LINE, catalogue) == 5
