"""A transaction without one of an optional entity is decided; that entity's features have no value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.feature_logs import SECRET
from tests.unit.intake_cases import KEY, SHOP_TEXT, clean, reasons, rows_of, run

from zaslon.admission import admit
from zaslon.admission.log_format import decode, encode
from zaslon.decisions.reasons import ReasonWriter
from zaslon.domain.catalogue import Catalogue, missing_flag, parse_catalogue
from zaslon.domain.events import NO_KEY, Kind, RecordBatch
from zaslon.engine import Engine
from zaslon.features.history import History
from zaslon.features.plan import plan_features
from zaslon.intake import clean_days, read_clean_day
from zaslon.models.card_precision import card_precision_by_day

_OPTIONAL = (
    SHOP_TEXT.replace('unknown = ["-"]', 'unknown = ["-"]\nrequired = false')
    + """
[[aggregates]]
entity = "card"
windows = ["1d"]
compute = ["count", "mean", "frauds", "same_device"]
[[aggregates]]
entity = "device"
windows = ["1d"]
compute = ["count", "frauds", "distinct_card", "same_card"]
[derived]
to_mean = "amount / card_mean_1d"
is_new = "card_count_1d = 0"
"""
)
TEXTS = parse_catalogue(_OPTIONAL)
NUMBERS = parse_catalogue(_OPTIONAL.replace('type = "text"\nunknown', "unknown"))
NAMES = TEXTS.record.columns
PLAN = plan_features(TEXTS)
# Card, device and whether a verdict of fraud follows.
PAYMENTS: list[tuple[str | None, str, bool]] = [
    ("c", "d", False), (None, "d", True), ("c", "d", False), (None, "d", False), ("k", "d", False),
]  # fmt: skip


def _record(card: Any, number: int = 0, device: str = "d") -> dict[str, Any]:
    return {"id": number, "at": 1_700_000_000 + number, "card": card, "device": device, "sum": 5}


@pytest.mark.parametrize("catalogue", [TEXTS, NUMBERS])
@pytest.mark.parametrize("card", [None, "", " ", "NULL", "n/a", "-", '"-"'])
def test_a_record_without_one_is_accepted_and_flagged(catalogue: Catalogue, card: str | None) -> None:
    line = clean(f"1,1700000000,{card or ''},d,5,", catalogue=catalogue).transactions
    given = None if card is None else card.strip('"')
    by_json = clean(json.dumps(_record(given)), kind=Kind.TRANSACTION_JSON, catalogue=catalogue).transactions
    absent = {k: v for k, v in _record(None).items() if k != "card"}
    without = clean(json.dumps(absent), kind=Kind.TRANSACTION_JSON, catalogue=catalogue).transactions
    for found in (line, by_json, without):
        assert found.entity_keys["card"].tolist() == [NO_KEY]
        assert found.flags.tolist() == [1 << catalogue.flag_names.index(missing_flag("card"))]


def test_a_required_one_is_still_demanded() -> None:
    assert reasons("1,1700000000,,,5,", catalogue=TEXTS) == ["missing_field:device"]
    assert reasons("1,1700000000,4x,d,5,", catalogue=NUMBERS) == ["not_an_integer:card"]


def test_text_ids_come_back_from_files_and_from_the_log(tmp_path: Path) -> None:
    records = [json.dumps(_record(card, i)) for i, (card, _, _) in enumerate(PAYMENTS)]
    batch = RecordBatch.of([r.encode() for r in records], [Kind.TRANSACTION_JSON] * 5, [1_700_000_010] * 5)
    admitted = admit(batch, TEXTS, KEY)
    keys = admitted.transactions.entity_keys["card"].tolist()
    assert [key == NO_KEY for key in keys] == [card is None for card, _, _ in PAYMENTS]
    assert decode(encode(admitted, TEXTS), TEXTS).transactions.entity_keys["card"].tolist() == keys
    (tmp_path / "json").write_text("\n".join(records))
    rows = [_record(card, i) for i, (card, _, _) in enumerate(PAYMENTS)]
    pl.DataFrame(rows).write_parquet(tmp_path / "parquet")
    pl.DataFrame(rows).write_csv(tmp_path / "csv")
    for form in ("json", "parquet", "csv"):
        run([tmp_path / form], tmp_path / "out", catalogue=TEXTS)
        assert [k is None for k in rows_of(tmp_path / "out")["card_key"]] == [k == NO_KEY for k in keys]
        ((_, day),) = clean_days(tmp_path / "out", TEXTS)
        assert read_clean_day(day, TEXTS).entity_keys["card"].tolist() == keys


def _features() -> list[dict[str, float]]:
    """Of each payment, with a verdict on each before the next one."""
    engine, found = Engine(TEXTS, key=KEY), []
    for number, (card, device, is_fraud) in enumerate(PAYMENTS):
        records = [json.dumps(_record(card, number, device)).encode()]
        records += [json.dumps({"transaction_id": number, "is_fraud": is_fraud}).encode()]
        kinds, arrivals = [Kind.TRANSACTION_JSON, Kind.LABEL_JSON], [1_700_000_000 + number] * 2
        batch = admit(RecordBatch.of(records, kinds, arrivals), TEXTS, KEY)
        applied = engine.apply(batch.transactions, batch.labels, batch.is_label)
        found += [dict(zip(PLAN.names, row, strict=True)) for row in applied.matrix.tolist()]
    return found


def test_its_features_have_no_value_and_the_others_do_not_count_it() -> None:
    found = _features()
    of_card = ["card_count_1d", "card_mean_1d", "card_frauds_1d", "card_same_device_1d", "to_mean"]
    for row, (card, _, _) in zip(found, PAYMENTS, strict=True):
        first = row["card_count_1d"] == 0  # then there is no mean either
        expected = [True] * 5 if card is None else [False, first, False, False, first]
        assert np.isnan([row[name] for name in of_card]).tolist() == expected
        assert np.isnan(row["device_same_card_1d"]) == (card is None)
        assert row["flag_card_missing"] == (card is None)
    assert [row["is_new"] for row in found] == [1, 0, 0, 0, 1]
    assert [row["card_count_1d"] for row in found if row["card_count_1d"] >= 0] == [0, 1, 0]
    assert [row["card_frauds_1d"] for row in found if row["card_frauds_1d"] >= 0] == [0, 0, 0]
    assert [row["device_count_1d"] for row in found] == [0, 1, 2, 3, 4]
    assert [row["device_frauds_1d"] for row in found] == [0, 0, 1, 1, 1]
    assert [row["device_distinct_card_1d"] for row in found] == [0, 1, 1, 1, 1]


def test_a_snapshot_keeps_it() -> None:
    lines = [f"{i},{1_700_000_000 + i},{card or ''},d,5,".encode() for i, (card, _, _) in enumerate(PAYMENTS)]
    batch = admit(RecordBatch.of(lines, [Kind.TRANSACTION_LINE] * 5, [1_700_000_010] * 5), TEXTS, KEY)
    history = History(PLAN, secret=SECRET)
    history.apply(batch.transactions, batch.labels, batch.is_label)
    saved = {name: array.copy() for name, array in history.save().items()}
    again = History.restore(PLAN, {name: array.copy() for name, array in saved.items()}, secret=SECRET)
    assert {n: a.tobytes() for n, a in again.save().items()} == {n: a.tobytes() for n, a in saved.items()}


def test_a_missing_value_has_a_reason_of_its_own() -> None:
    writer = ReasonWriter.of(PLAN.infos)
    x = np.array([[row[name] for name in PLAN.names] for row in _features()[1:3]], np.float32)
    for name, without, texts in (
        ("card_count_1d", "the record has no card", "2nd payment with this card in 1 day"),
        ("card_mean_1d", "the record has no card", "this card's 1-day mean is 5.00"),
        ("to_mean", "the record has no card", "amount 5.00 is 1.0× this card's 1-day mean"),
        ("is_new", "the record has no card", "2nd payment with this card in 1 day"),
        (
            "device_same_card_1d",
            "the record has no card",
            "2nd payment from this device with this card in 1 day",
        ),
        ("device_count_1d", "2nd payment from this device in 1 day", "3rd payment from this device in 1 day"),
    ):
        weights = np.zeros(x.shape)
        weights[:, PLAN.column_of[name]] = 1.0
        given = writer.explain(x, weights, np.array([500, 500]))
        assert [reason.text for (reason,) in given] == [without, texts]


def test_card_precision_is_of_transactions_with_a_customer() -> None:
    score, is_fraud = np.array([0.9, 0.8, 0.7]), np.array([1, 1, 0], np.int8)
    times, keys = np.zeros(3, np.int64), np.array([NO_KEY, 1, 2])
    assert card_precision_by_day(score, is_fraud, times, keys, top=2).tolist() == [0.5]
    assert card_precision_by_day(score, is_fraud, times, np.full(3, NO_KEY), top=2).tolist() == []
