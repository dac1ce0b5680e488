"""Every reason rejects what it names, and accepts the nearest valid case."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.intake_cases import (
    ARRIVAL_SECONDS,
    GOOD,
    MISSION,
    NAMES,
    SHOP,
    SHOP_TEXT,
    clean,
    flags,
    line,
    reasons,
)

from zaslon.domain.catalogue import parse_catalogue
from zaslon.domain.events import Kind
from zaslon.domain.rejections import PROBLEMS_MAX, Reason, RecordProblem

LONGEST = MISSION.record.max_record_bytes
# (reason, a record that it rejects, one just beside it that is accepted)
LINES: list[tuple[str, str | bytes, str | bytes]] = [
    ("too_long", GOOD + " " * (LONGEST - len(GOOD) + 1), GOOD + " " * (LONGEST - len(GOOD)) + "\r\n"),
    ("empty", "", GOOD + "\n"),
    ("empty", " \t ", f" \t{GOOD}\t "),
    ("not_text", GOOD.encode() + b"\xff", GOOD),
    ("not_text", GOOD.replace("4961", "49\0" + "61"), GOOD),
    ("not_text", GOOD + "\r\r\n", GOOD + "\r\n"),
    ("not_text", line(tx_time_days="\x7f"), line(tx_time_days="~")),
    ("not_text", line(tx_time_days="\x85"), line(tx_time_days="день")),
    ("wrong_field_count", GOOD + ",", GOOD),
    ("wrong_field_count", GOOD + ",é", line(tx_time_days="é")),
    ("wrong_field_count", GOOD.rpartition(",")[0], GOOD.rpartition(",")[0] + ","),
    ("wrong_field_count", line(tx_time_days='"a,b'), line(tx_time_days='"a,b"')),
    ("wrong_field_count", line(tx_time_days='"a"b'), line(tx_time_days='a"b')),
    ("wrong_field_count", line(tx_time_days='"Joe\\"s, Bar"'), line(tx_time_days='"Joe""s, Bar"')),
    ("not_text", line(tx_time_days="a\nb"), line(tx_time_days='"a\nb\r\nc\rd"')),
    ("not_text", line(tx_time_days='"a\0b"'), line(tx_time_days='"a\tb"')),
    ("not_text", line(customer_id='"49\n61"'), line(customer_id='"4961"')),
    ("wrong_field_count", line(tx_fraud_scenario='"é'), line(tx_time_days='"é"')),
    ("missing_field:tx_amount", line(tx_amount=""), line(tx_fraud="")),
    ("missing_field:tx_amount", line(tx_amount="NaN"), line(tx_fraud="NaN")),
    ("missing_field:tx_datetime", line(tx_datetime="null"), line(tx_time_seconds="null")),
    ("missing_field:transaction_id", line(transaction_id="\\N"), line(tx_fraud_scenario="\\N")),
    ("missing_field:customer_id", line(customer_id='" "'), line(customer_id='" 5 "')),
    ("not_an_integer:customer_id", line(customer_id="4961x"), line(customer_id="4961")),
    ("not_an_integer:customer_id", line(customer_id="0x1F"), line(customer_id="31")),
    ("not_an_integer:customer_id", line(customer_id="1_000"), line(customer_id="1000")),
    ("not_an_integer:customer_id", line(customer_id="1e3"), line(customer_id="1")),
    ("not_an_integer:customer_id", line(customer_id="5.5"), line(customer_id="5.00")),
    ("not_an_integer:customer_id", line(customer_id="5."), line(customer_id="5.0")),
    ("not_an_integer:customer_id", line(customer_id=f"{2**53}.0"), line(customer_id=f"{2**53 - 1}.0")),
    ("not_an_integer:customer_id", line(customer_id="007"), line(customer_id="7")),
    ("not_an_integer:transaction_id", line(transaction_id="00"), line(transaction_id="0")),
    ("not_an_integer:customer_id", line(customer_id="+7"), line(tx_fraud="+1")),
    ("not_an_integer:customer_id", line(customer_id="-0"), line(tx_fraud="-0")),
    ("not_an_integer:customer_id", line(customer_id="５"), line(customer_id='"5"')),
    ("not_an_integer:customer_id", line(customer_id="٣"), line(customer_id="3")),
    ("not_an_integer:customer_id", line(customer_id="--1"), line(customer_id="1")),
    ("not_an_integer:terminal_id", line(terminal_id="no"), line(terminal_id="0")),
    ("not_an_integer:tx_fraud", line(tx_fraud="fraud"), line(tx_fraud="True")),
    ("not_a_number:tx_amount", line(tx_amount="1e3"), line(tx_amount="1")),
    ("not_a_number:tx_amount", line(tx_amount="inf"), line(tx_amount="1000000000.00")),
    ("not_a_number:tx_amount", line(tx_amount="-inf"), line(tx_amount="0")),
    ("not_a_number:tx_amount", line(tx_amount="nano"), line(tx_amount="0")),
    ("not_a_number:tx_amount", line(tx_amount="0x1F"), line(tx_amount="01.5")),
    ("not_a_number:tx_amount", line(tx_amount="1_000.00"), line(tx_amount="1000.00")),
    ("not_a_number:tx_amount", line(tx_amount='"70,91"'), line(tx_amount='"70.91"')),
    ("not_a_number:tx_amount", line(tx_amount="7０.91"), line(tx_amount="70.91")),
    ("not_a_number:tx_amount", line(tx_amount="."), line(tx_amount=".5")),
    ("not_a_number:tx_amount", line(tx_amount="1.2.3"), line(tx_amount="1.")),
    ("not_a_time:tx_datetime", line(tx_datetime="22.08.2019 06:51"), line(tx_datetime="2019-08-22T06:51:03")),
    ("not_a_time:tx_datetime", line(tx_datetime="2019-08-22 06:51:03+03:00"),
     line(tx_datetime="2019-08-22 06:51:03Z")),
    ("not_a_time:tx_datetime", line(tx_datetime="2019-08-22 06:51:03."),
     line(tx_datetime="2019-08-22 06:51:03.5")),
    ("not_a_time:tx_datetime", line(tx_datetime="2019-08-22"), line(tx_datetime="2019-08-22 00:00:00")),
    ("not_a_time:tx_datetime", line(tx_datetime="0"), line(tx_datetime="1970-01-01 00:00:00")),
    ("too_precise:tx_amount", line(tx_amount="70.915"), line(tx_amount="70.9100")),
    ("too_precise:tx_amount", line(tx_amount="1.000"), line(tx_amount="1.00")),
    ("too_precise:tx_amount", line(tx_amount="123.450"), line(tx_amount="1234.500")),
    ("too_precise:tx_amount", line(tx_amount="9.990"), line(tx_amount="0.990")),
    ("too_precise:tx_amount", line(tx_amount="+12.500"), line(tx_amount=".500")),
    ("out_of_range:tx_amount", line(tx_amount="-0.01"), line(tx_amount="-0.00")),
    ("out_of_range:tx_amount", line(tx_amount="1000000000.01"), line(tx_amount="1000000000")),
    ("out_of_range:tx_amount", line(tx_amount="9" * 400), line(tx_amount="0" * 400 + "1")),
    ("out_of_range:transaction_id", line(transaction_id=2**63), line(transaction_id=2**63 - 1)),
    ("out_of_range:transaction_id", line(transaction_id=2**64 + 5), line(transaction_id=5)),
    ("out_of_range:customer_id", line(customer_id=-1), line(customer_id=0)),
    ("out_of_range:customer_id", line(customer_id="1" + "0" * 200), line(customer_id=10**18)),
    ("out_of_range:tx_fraud", line(tx_fraud=2), line(tx_fraud=1)),
    ("out_of_range:tx_fraud_scenario", line(tx_fraud_scenario=128), line(tx_fraud_scenario=127)),
    ("unknown_entity:customer_id", line(customer_id=-999999), line(customer_id=999999)),
    ("unknown_entity:terminal_id", line(terminal_id="Err"), line(terminal_id="1")),
    ("unknown_entity:terminal_id", line(terminal_id='"None"'), line(terminal_id="0")),
    ("hour_24:tx_datetime", line(tx_datetime="2019-08-22 24:00:00"), line(tx_datetime="2019-08-22 23:59:59")),
    ("impossible_time:tx_datetime", line(tx_datetime="2019-08-22 24:00:01"),
     line(tx_datetime="2019-08-23 00:00:00")),
    ("impossible_time:tx_datetime", line(tx_datetime="2019-02-29 06:51:03"),
     line(tx_datetime="2020-02-29 06:51:03")),
    ("impossible_time:tx_datetime", line(tx_datetime="2016-12-31 23:59:60"),
     line(tx_datetime="2016-12-31 23:59:59")),
    ("impossible_time:tx_datetime", line(tx_datetime="0000-01-01 00:00:00"),
     line(tx_datetime="1970-01-01 00:00:00")),
    ("impossible_time:tx_datetime", line(tx_datetime="9999-12-31 23:59:59"), GOOD),
    ("impossible_time:tx_datetime", line(tx_datetime="2019-00-10 00:00:00"), GOOD),
    ("after_arrival:tx_datetime", line(tx_datetime="2023-11-15 22:13:21"),
     line(tx_datetime="2023-11-15 22:13:20")),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "bad", "good"), LINES)
def test_each_reason_rejects_its_case_and_not_its_neighbour(
    reason: str, bad: str | bytes, good: str | bytes
) -> None:
    assert reasons(bad, good) == [reason, None]


def test_the_clock_of_the_cases_is_as_written() -> None:
    assert ARRIVAL_SECONDS + 86_400 == 1_700_086_400  # 2023-11-15 22:13:20


def test_every_reason_that_cleaning_gives_has_a_case() -> None:
    later_stages = {
        Reason.TOO_LATE, Reason.DUPLICATE, Reason.CONFLICTING_DUPLICATE, Reason.UNKNOWN_TRANSACTION,
        Reason.ENGINE_ERROR,
    }  # fmt: skip
    tried = {case[0].partition(":")[0] for case in LINES} | {"not_json", "unreadable_label"}
    assert tried == {r.code for r in Reason if r and r not in later_stages}


def _with_defects(chosen: list[Reason]) -> str | bytes:
    """One line that has all the chosen defects of fields at once, each in a field of its own."""
    changes: dict[Reason, dict[str, object]] = {
        Reason.MISSING_FIELD: {"transaction_id": ""},
        Reason.NOT_AN_INTEGER: {"tx_fraud": "x"},
        Reason.NOT_A_NUMBER: {"tx_amount": "x"},
        Reason.NOT_A_TIME: {"tx_datetime": "x"},
        Reason.TOO_PRECISE: {"tx_amount": "0.001"},
        Reason.OUT_OF_RANGE: {"tx_fraud_scenario": 1000},
        Reason.UNKNOWN_ENTITY: {"customer_id": -999999},
        Reason.HOUR_24: {"tx_datetime": "2019-08-22 24:00:00"},
        Reason.IMPOSSIBLE_TIME: {"tx_datetime": "2019-08-32 00:00:00"},
        Reason.AFTER_ARRIVAL: {"tx_datetime": "2099-08-22 00:00:00"},
    }
    merged: dict[str, object] = {}
    for reason in chosen:
        for name, value in changes[reason].items():
            merged.setdefault(name, value)
    record: str | bytes = line(**merged)
    return record


FIELD_REASONS = [Reason(r) for r in range(Reason.MISSING_FIELD, Reason.AFTER_ARRIVAL + 1)]


@pytest.mark.parametrize("first", FIELD_REASONS)
def test_the_reason_that_comes_first_in_the_order_wins(first: Reason) -> None:
    record = _with_defects([r for r in FIELD_REASONS if r >= first])
    assert str(reasons(record)[0]).partition(":")[0] == first.code


def test_among_equal_reasons_the_first_field_of_the_catalogue_wins() -> None:
    assert reasons(line(tx_amount="", customer_id="")) == ["missing_field:customer_id"]


def test_a_rejection_has_all_problems_of_its_record_by_precedence() -> None:
    record = line(tx_amount="", customer_id="x", tx_datetime="2099-08-22 00:00:00", terminal_id="Err")
    (problems,) = clean(record).rejected.problems
    assert [p.code for p in problems] == [
        "missing_field:tx_amount", "not_an_integer:customer_id", "unknown_entity:terminal_id",
        "after_arrival:tx_datetime",
    ]  # fmt: skip
    assert [(p.problem, p.expected) for p in problems[:2]] == [
        ("is missing", "a value"),
        ("is 'x'", "a whole number in plain digits"),
    ]
    (label,) = clean('{"transaction_id": "x"}', kind=Kind.LABEL_JSON).rejected.problems
    assert [p.code for p in label] == ["unreadable_label:is_fraud", "unreadable_label:transaction_id"]


def test_a_problem_is_the_same_after_it_was_written_and_read() -> None:
    (problems,) = clean(line(tx_amount='é"', customer_id=-999999)).rejected.problems
    again = tuple(
        RecordProblem.from_json_dict(orjson.loads(orjson.dumps(p.to_json_dict()))) for p in problems
    )
    assert again == problems


def test_at_most_sixteen_wrong_fields_are_named() -> None:
    numbers = "".join(f'[[fields]]\nname = "n{i}"\nrole = "number"\n' for i in range(100))
    wide = parse_catalogue(SHOP_TEXT + numbers)
    (problems,) = clean("{}", kind=Kind.TRANSACTION_JSON, catalogue=wide).rejected.problems
    assert len(problems) == PROBLEMS_MAX == 16


def test_reasons_of_the_record_precede_reasons_of_fields() -> None:
    assert reasons(" " * 5000, "\0,,", b"\xff,x", "x,") == [
        "too_long", "not_text", "not_text", "wrong_field_count",
    ]  # fmt: skip


def test_what_is_odd_but_may_be_true_is_kept_and_flagged() -> None:
    assert flags(GOOD) == set()
    assert flags(line(tx_amount="0.00")) == {"amount_zero"}
    assert flags(line(terminal_id=9999)) == set()
    assert flags(line(terminal_id=10000)) == {"terminal_id_unusual"}
    assert flags(line(tx_time_seconds=24662)) == {"elapsed_disagrees"}
    assert flags(line(tx_time_seconds="")) == set()
    assert flags(line(tx_time_seconds="x")) == {"elapsed_disagrees"}
    assert flags(line(tx_time_seconds=2**70)) == {"elapsed_disagrees"}
    assert flags(line(tx_datetime="2019-08-22 06:51:03.25")) == {"fraction_of_second_dropped"}
    assert flags(line(tx_datetime="2019-08-22 06:51:03.000")) == set()


def _json(**changes: object) -> str:
    return json.dumps(dict(zip(NAMES, GOOD.split(","), strict=True)) | changes)


JSON_RECORDS: list[tuple[str | None, str | bytes]] = [
    (None, _json()),
    (None, _json(tx_amount=70.91, customer_id=4961, tx_fraud=False)),
    (None, _json(customer_id=5.0, more=[1, 2], other={"a": 1})),
    (None, "\n" + _json() + "\r\n"),
    ("too_long", _json(more="x" * 5000)),
    ("empty", " \n"),
    ("not_text", _json().encode()[:-2] + b"\xff\"}"),
    ("not_text", _json().replace("4961", "49\0" + "61")),
    ("not_text", _json(customer_id="1\n2")),
    ("not_json", _json()[:-1]),
    ("not_json", "[" + _json() + "]"),
    ("not_json", "17"),
    ("not_json", '{"tx_amount": NaN}'),
    ("not_json", '{"tx_amount": 1e999}'),
    ("not_json", '{"customer_id": "\\ud800"}'),
    ("not_json", '{"a":' * 600 + "1" + "}" * 600 + "]"),
    ("not_a_number:tx_amount", _json(tx_amount="X").replace('"X"', "[" * 900 + "]" * 900)),
    ("wrong_field_count", _json(TX_AMOUNT=1)),
    ("wrong_field_count", _json(tranaction_id=1)),
    ("missing_field:tx_amount", _json(tx_amount=None)),
    ("missing_field:transaction_id", "{}"),
    ("not_an_integer:customer_id", _json(customer_id=5.5)),
    ("not_an_integer:customer_id", _json(customer_id=True)),
    ("not_an_integer:customer_id", _json(customer_id=2.0**53)),
    ("not_an_integer:customer_id", _json(customer_id="５")),
    ("out_of_range:customer_id", _json(customer_id=2**64)),
    ("out_of_range:customer_id", _json(customer_id=-(2**70))),
    ("too_precise:tx_amount", _json(tx_amount=70.915)),
    ("too_precise:tx_amount", _json(tx_amount=99999999.995)),
    ("too_precise:tx_amount", _json(tx_amount=1e-7)),
    ("too_precise:tx_amount", _json(tx_amount="1.000")),
    (None, _json().replace('"70.91"', "1.000")),
    (None, _json(tx_amount=17.13 * 5)),
    (None, _json(tx_amount=0.1 + 0.2)),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "record"), JSON_RECORDS)
def test_json_is_rejected_by_the_same_names(reason: str | None, record: str | bytes) -> None:
    assert reasons(record, kind=Kind.TRANSACTION_JSON) == [reason]


LABELS: list[tuple[bool, str | bytes]] = [
    (True, '{"transaction_id": 17, "is_fraud": true}'),
    (True, '{"transaction_id": 5, "is_fraud": 0, "more": []}'),
    (True, '{"transaction_id": 17.0, "is_fraud": true}'),
    (True, '{"transaction_id": "17", "is_fraud": "No"}'),
    (True, '{"tranaction_id": 17, "tx_fraud": 1.0}'),
    (True, '{"transaction_id": 17, "verdict": "chargeback"}'),
    (True, '{"transaction_id": 17, "verdict": "confirmed_good"}'),
    (False, '{"transaction_id": -5, "is_fraud": true}'),
    (False, '{"transaction_id": "017", "is_fraud": true}'),
    (False, '{"transaction_id": "null", "is_fraud": true}'),
    (False, '{"transaction_id": 17, "verdict": "fraud"}'),
    (False, '{"transaction_id": 17, "is_fraud": true, "verdict": "confirmed_good"}'),
    (False, ""),
    (False, b"\xff"),
    (False, "17"),
    (False, "null"),
    (False, '{"transaction_id": 17}'),
    (False, '{"is_fraud": true}'),
    (False, '{"transaction_id": true, "is_fraud": true}'),
    (False, '{"transaction_id": 9223372036854775808, "is_fraud": true}'),
    (False, '{"transaction_id": 1' + "0" * 300 + ', "is_fraud": true}'),
    (False, '{"transaction_id": 17, "is_fraud": 2}'),
    (False, '{"transaction_id": 17, "is_fraud": "maybe"}'),
    (False, '{"transaction_id": 17, "is_fraud": ' + "[" * 1000 + "]" * 1000 + "}"),
    (False, '{"transaction_id": ' + '{"a":' * 1000 + "1" + "}" * 1000 + ', "is_fraud": true}'),
    (False, '{"transaction_id": 17, "is_fraud": "' + "x" * 100_000 + '"}'),
]


@pytest.mark.parametrize(("is_good", "record"), LABELS)
def test_a_label_is_read_or_named_unreadable_with_a_short_sentence(
    is_good: bool, record: str | bytes
) -> None:
    cleaned = clean(record, kind=Kind.LABEL_JSON)
    assert len(cleaned.labels) == is_good
    if not is_good:
        assert cleaned.rejected.reason.tolist() == [Reason.UNREADABLE_LABEL]
        assert cleaned.rejected.detail[0].endswith(".") and len(cleaned.rejected.detail[0]) < 200


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5),
    st.integers(0, 99).map(str), st.integers(0, 99).map(float), st.sampled_from(["007", "+7", " 7 ", "null"]),
)  # fmt: skip


@pytest.mark.law
@given(SCALARS)
def test_a_label_names_what_can_be_a_transactions_id(identifier: Any) -> None:
    label = clean(json.dumps({"transaction_id": identifier, "is_fraud": True}), kind=Kind.LABEL_JSON)
    sent = dict(zip(NAMES, line(transaction_id=0).split(","), strict=True)) | {"transaction_id": identifier}
    transaction = clean(json.dumps(sent), kind=Kind.TRANSACTION_JSON)
    known = transaction.transactions.transaction_id.tolist()
    assert label.labels.transaction_id.tolist() == known


def test_labels_alone_are_read_where_the_catalogue_knows_no_lines() -> None:
    json_only = SHOP.model_copy(update={"record": SHOP.record.model_copy(update={"columns": ()})})
    found = clean('{"transaction_id": 1, "is_fraud": true}', kind=Kind.LABEL_JSON, catalogue=json_only)
    assert len(found.labels) == 1


def test_a_repeated_json_field_is_named_without_line_columns() -> None:
    json_only = SHOP.model_copy(update={"record": SHOP.record.model_copy(update={"columns": ()})})
    twice = '{"id": 1, "ID": 2, "at": 5, "card": "c", "device": "d", "sum": 1}'
    (detail,) = clean(twice, kind=Kind.TRANSACTION_JSON, catalogue=json_only).rejected.detail
    assert detail == "The record names 'id' twice."


def test_a_sentence_names_the_field_its_value_and_what_was_expected() -> None:
    details = clean(
        line(tx_amount="-5"),
        line(customer_id="x\u200b" * 80),
        line(customer_id=-999999),
        line(tx_datetime="x"),
    ).rejected.detail
    assert details == [
        "Field 'tx_amount' is '-5'; expected 0 to 1000000000.",
        "Field 'customer_id' is '" + ("x\\u200b" * 80)[:60] + "…'; expected a whole number in plain digits.",
        "Field 'customer_id' is '-999999', which means an unknown customer.",
        "Field 'tx_datetime' is 'x'; expected YYYY-MM-DD HH:MM:SS, in UTC.",
    ]


def test_thousandths_are_read_if_the_catalogue_allows() -> None:
    fields = [f.model_copy(update={"thousandths": f.role == "amount"}) for f in MISSION.fields]
    catalogue = MISSION.model_copy(update={"fields": tuple(fields)})
    amounts = clean(line(tx_amount="1.000"), line(transaction_id=1, tx_amount="70.910"), catalogue=catalogue)
    assert amounts.transactions.amount_minor.tolist() == [100, 7091]
    assert reasons(line(tx_amount="70.915"), catalogue=catalogue) == ["too_precise:tx_amount"]
    (detail,) = clean(line(tx_amount="1.000")).rejected.detail
    assert detail == (
        "Field 'tx_amount' is '1.000'; expected no point between thousands, and no third digit behind a decimal"
        " point (thousandths)."
    )


SHOP_LINES = [
    (None, "1,1700000000,c,d,5,"),
    (None, "1,1700000000,c,d,5.0,0.30000000000000004"),
    ("not_a_time:at", "1,2019-08-22 06:51:03,c,d,5,"),
    ("not_a_time:at", "1,1700000000.5,c,d,5,"),
    ("impossible_time:at", "1,-1,c,d,5,"),
    ("impossible_time:at", "1,4294967295,c,d,5,"),
    ("unknown_entity:card", "1,1700000000,-,d,5,"),
    ("missing_field:card", "1,1700000000,,d,5,"),
    ("too_precise:sum", "1,1700000000,c,d,5.5,"),
    ("not_a_number:risk", "1,1700000000,c,d,5,1e3"),
    ("out_of_range:risk", "1,1700000000,c,d,5,1000000000000.1"),
    ("out_of_range:risk", "1,1700000000,c,d,5,-" + "9" * 400),
]


@pytest.mark.parametrize(("reason", "record"), SHOP_LINES)
def test_another_companys_records_are_checked_by_its_own_catalogue(reason: str | None, record: str) -> None:
    assert reasons(record, catalogue=SHOP) == [reason]


def test_a_line_of_a_hundred_thousand_fields_is_one_rejection() -> None:
    wide = MISSION.record.model_copy(update={"max_record_bytes": 1 << 20})
    catalogue = MISSION.model_copy(update={"record": wide})
    assert reasons("," * 100_000, "9" * 1_000_000, catalogue=catalogue) == ["wrong_field_count"] * 2
