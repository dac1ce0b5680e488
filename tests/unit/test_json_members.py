"""A name that occurs twice in a JSON object is refused, however its name is written and wherever it comes from."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.intake_cases import GOOD, NAMES, clean, quarantine_of, reasons, rows_of, run

from zaslon.domain.events import Kind
from zaslon.domain.rejections import Reason
from zaslon.intake.json_members import member_counts, names_twice

_WORDS = st.text(st.sampled_from('a{}[]:,"\\ u0061é\n'), max_size=4)
_VALUES = st.recursive(
    _WORDS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=6,
)
_MEMBERS = st.lists(st.tuples(st.sampled_from("ab") | _WORDS, _VALUES, st.booleans()), max_size=6)


def _written(members: list[tuple[str, object, bool]]) -> bytes:
    """An object with these members, each name escaped or not, with blanks wherever they are allowed."""
    pairs = (
        json.dumps(name, ensure_ascii=escaped) + " \n:\t" + json.dumps(value)
        for name, value, escaped in members
    )
    return ("\r\n{ " + " , ".join(pairs) + " } ").encode()


@given(st.lists(_MEMBERS, max_size=4))
def test_members_are_counted_and_named_as_they_are_written(
    objects: list[list[tuple[str, object, bool]]],
) -> None:
    records = [_written(members) for members in objects]
    assert member_counts(records) == [len(members) for members in objects]
    for record, members in zip(records, objects, strict=True):
        counts = Counter(name for name, _, _ in members)
        assert sorted(names_twice(record)) == sorted(name for name, count in counts.items() if count > 1)


def _twice(more: str) -> str:
    """A good record and one more member behind the others."""
    return json.dumps(dict(zip(NAMES, GOOD.split(","), strict=True)))[:-1] + f", {more}}}"


CASES: list[tuple[str | None, str]] = [
    ("wrong_field_count", _twice('"tx_amount": 1')),
    ("wrong_field_count", _twice('"tx_amount": "70.91"')),
    ("wrong_field_count", _twice('"tx_amount": null')),
    ("wrong_field_count", _twice('"tx_\\u0061mount": 1')),
    ("wrong_field_count", _twice('"TX_AMOUNT": 1')),
    ("wrong_field_count", _twice('"TX_AMOUNT": null')),
    ("wrong_field_count", _twice('"x": 1, "x": 2, "tx_fraud": 1')),
    ("not_text", _twice('"tx_amount": "\\u0000"')),
    ("wrong_field_count", _twice('"note": 1, "note": 1')),
    ("wrong_field_count", _twice('"note": 1, "n\\u006fte": null')),
    (None, _twice('"note": 1, "NOTE": 2')),
    (None, _twice('"x": {"tx_amount": 1, "tx_amount": 2}')),
    (None, _twice('"x": "\\"tx_amount\\": 1, ", "y": ["tx_amount", ":"]')),
]


@pytest.mark.parametrize(("reason", "record"), CASES)
def test_a_name_that_occurs_twice_is_refused(reason: str | None, record: str) -> None:
    assert reasons(record, kind=Kind.TRANSACTION_JSON) == [reason]
    if reason == "wrong_field_count":
        (detail,) = clean(record, kind=Kind.TRANSACTION_JSON).rejected.detail
        name = "note" if "note" in record else "tx_"
        assert detail.startswith(f"The record names '{name}") and detail.endswith("' twice.")


@pytest.mark.parametrize(
    ("name", "shown"), [("a\\u0000\\u202eb", "a\\x00\\u202eb"), ("n" * 1_000, "n" * 60 + "…")]
)
def test_any_name_is_shown_escaped_and_cut(name: str, shown: str) -> None:
    record = _twice(f'"{name}": 1, "{name}": 2')
    assert clean(record, kind=Kind.TRANSACTION_JSON).rejected.detail == [f"The record names '{shown}' twice."]


@pytest.mark.parametrize("case", [CASES[0][1], _twice('"note": 1, "note": 1')])
def test_it_is_refused_in_a_file_of_json_lines(tmp_path: Path, case: str) -> None:
    good = json.dumps(dict(zip(NAMES, GOOD.split(","), strict=True)) | {"transaction_id": 18})
    (tmp_path / "in.jsonl").write_text(good + "\n" + case + "\n")
    run([tmp_path / "in.jsonl"], tmp_path / "out")
    assert rows_of(tmp_path / "out")["transaction_id"].to_list() == [18]
    assert quarantine_of(tmp_path / "out")["reason"].to_list() == ["wrong_field_count"]


@pytest.mark.parametrize("name", ["transaction_id", "is_fraud", "is_fr\\u0061ud", "more"])
def test_it_is_refused_in_a_label(name: str) -> None:
    label = '{"transaction_id": 1, "is_fraud": true, "more": 1, "other": 2'
    good, twice = label + "}", label + f', "{name}": 0}}'
    cleaned = clean(good, twice, kind=Kind.LABEL_JSON)
    assert cleaned.label_index.tolist() == [0]
    assert cleaned.rejected.reason.tolist() == [Reason.UNREADABLE_LABEL]
    assert cleaned.rejected.detail[0].endswith("' twice.")


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ('"verdict": "chargeback"', "The record has 'is_fraud' and 'verdict', two names of one field; expected one of them, as 'is_fraud'."),
        ('"Verdict": null', "The record has 'is_fraud' and 'Verdict', two names of one field; expected one of them, as 'is_fraud'."),
        ('"tx_fraud": 1', "The record has 'is_fraud' and 'tx_fraud', two names of one field; expected one of them, as 'is_fraud'."),
        ('"IS_FRAUD": 1', "The record names 'is_fraud' twice."),
        ('"\\u0085is_fraud\\n": 1', "The record names 'is_fraud' twice."),
    ],
)  # fmt: skip
def test_two_names_of_one_field_are_both_named(more: str, detail: str) -> None:
    label = f'{{"transaction_id": 1, "is_fraud": true, {more}}}'
    assert clean(label, kind=Kind.LABEL_JSON).rejected.detail == [detail]


def test_a_verdict_given_twice_is_named_as_it_was_sent() -> None:
    label = '{"transaction_id": 1, "verdict": "chargeback", "verdict": "confirmed_good"}'
    assert clean(label, kind=Kind.LABEL_JSON).rejected.detail == ["The record names 'verdict' twice."]
