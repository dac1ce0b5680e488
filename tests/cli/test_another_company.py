"""Another company's columns, entities and currency: a catalogue file and no code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import Zaslon
from tests.cli.test_the_log import decisions

CATALOGUE = """
name = "wallet"
version = 3
currency = "KWD"
minor_digits = 3

[[fields]]
name = "payment"
aliases = ["payment_no"]
role = "transaction_id"
minimum = 1

[[fields]]
name = "paid_at"
role = "event_time"
format = "epoch_seconds"

[[fields]]
name = "card"
role = "entity"
entity = "card"
type = "text"

[[fields]]
name = "device"
role = "entity"
entity = "device"
type = "text"
unknown = ["n/a"]

[[fields]]
name = "ship_to"
role = "entity"
entity = "address"
type = "text"
required = false

[[fields]]
name = "sum"
role = "amount"
minimum = 0

[[fields]]
name = "items"
role = "number"
required = false

[[fields]]
name = "chargeback"
role = "is_fraud"
required = false

[[aggregates]]
entity = "card"
windows = ["1h", "7d"]
compute = ["count", "mean", "max"]

[[aggregates]]
entity = "device"
windows = ["7d"]
compute = ["count", "frauds", "risk", "distinct_card"]

[[aggregates]]
entity = "address"
windows = ["7d"]
compute = ["count", "distinct_device"]

[derived]
sum_to_mean = "amount / card_mean_7d"
"""
DAYS, CARDS, DEVICES = 32, 150, 60
BEGIN = 1_700_006_400  # 2023-11-15


@dataclass(frozen=True)
class Shop:
    rows: list[dict[str, Any]]
    catalogue: Path


def simulated() -> list[dict[str, Any]]:
    """Payments of which those from a stolen device are frauds, and some others by their sum."""
    random = np.random.default_rng(9)
    rows: list[dict[str, Any]] = []
    for day in range(DAYS):
        stolen = set(random.choice(DEVICES, 3, replace=False).tolist())
        for second in np.sort(random.integers(0, 86_400, 260)).tolist():
            card = int(random.integers(CARDS))
            device = int(random.integers(DEVICES)) if random.random() < 0.2 else card % DEVICES
            fraud = device in stolen and random.random() < 0.5
            amount = float(random.gamma(2.0, 3.0)) * (6 if fraud and random.random() < 0.8 else 1)
            rows.append(
                {
                    "payment": len(rows) + 1,
                    "paid_at": BEGIN + day * 86_400 + second,
                    "card": f"crd_{card:x}é",
                    "device": "n/a" if random.random() < 0.01 else f"dev-{device}",
                    "ship_to": f"Street {card % 40}, \u041c\u043e\u0441\u043a\u0432\u0430"
                    if card % 3
                    else None,
                    "sum": f"{amount:.3f}",
                    "items": int(random.integers(1, 9)),
                    "chargeback": int(fraud),
                }
            )
    return rows


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    catalogue = tmp_path_factory.mktemp("shop") / "wallet.toml"
    catalogue.write_text(CATALOGUE)
    return Shop(simulated(), catalogue)


def as_jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Other order of columns, another name for one of them, quotes around commas."""
    names = ["sum", "card", "device", "payment_no", "paid_at", "items", "chargeback", "ship_to"]
    lines = [",".join(names)]
    for row in rows:
        values = {**row, "payment_no": row["payment"], "ship_to": (row["ship_to"] or "").replace(",", "")}
        lines.append(",".join(str(values[name]) for name in names))
    return "\n".join(lines) + "\n"


@pytest.mark.usefixtures("room_for_luck")
@pytest.mark.parametrize("form", [as_jsonl, as_csv], ids=["JSON lines", "CSV"])
def test_its_file_runs_to_decisions_with_reasons_in_words(
    zaslon: Zaslon, shop: Shop, tmp_path: Path, form: Any
) -> None:
    file, home = tmp_path / "payments", tmp_path / "home"
    file.write_text(form(shop.rows))
    given = ["--catalogue", shop.catalogue, "--home", home]
    answer = zaslon("run", file, *given, "--no-compare-delays", "--json")
    assert answer.code == 0, answer
    values = answer.json
    assert values["rows_in"] == len(shop.rows)
    assert values["rows_rejected"] == {
        "unknown_entity:device": sum(row["device"] == "n/a" for row in shop.rows)
    }
    assert values["roc_auc"] > 0.6
    stopped = [d for d in decisions(home) if d["action"] != "allow"]
    assert stopped
    picked_up = [d for d in decisions(home) if "address_missing" in d["flags"]]
    assert len(picked_up) > 100
    assert "this address" not in json.dumps([d["reasons"] for d in picked_up])
    assert all(d["reasons"] for d in stopped)
    texts = " | ".join(reason["text"] for d in stopped for reason in d["reasons"])
    assert "this card's" in texts
    assert "customer" not in texts
    assert "terminal" not in texts
    assert any(len(word.rpartition(".")[2]) == 3 for word in texts.split() if word.count(".") == 1)
    (loss,) = [row for row in values["scorecard"] if "loss" in row["goal"]]
    assert "KWD" in loss["reached"]
    assert "RUB" not in json.dumps(values)
    for decision in (stopped[0], stopped[-1]):
        assert zaslon("replay", decision["position"], *given, "--json").json["identical"]
    journal = (home / "log" / "journal.db").read_bytes()
    assert b"crd_" not in journal
    assert b"Street" not in journal


@pytest.mark.usefixtures("room_for_luck")
@pytest.mark.slow
def test_its_features_rules_and_labels_speak_of_its_entities(
    zaslon: Zaslon, shop: Shop, tmp_path: Path
) -> None:
    file, home = tmp_path / "payments.jsonl", tmp_path / "home"
    file.write_text(as_jsonl(shop.rows))
    home.mkdir()
    (home / "policy.toml").write_text(
        '[[rules]]\nname = "device_seen"\nwhen = "device_distinct_card_7d >= 2 AND items >= 1"\n'
        'action = "review"\nreason = "{device_distinct_card_7d} cards on this device, sum {amount}"\n'
    )
    given = ["--catalogue", shop.catalogue, "--home", home]
    assert zaslon("run", file, *given, "--no-compare-delays", "--json").code == 0
    ruled = next(d for d in decisions(home) if d["rules"])
    cards, _, amount = ruled["reasons"][0]["text"].partition(" cards on this device, sum ")
    assert int(cards) >= 2
    assert len(amount.split(".")[1]) == 3
    last = shop.rows[-1]
    moment = datetime.fromtimestamp(last["paid_at"] + 60, UTC)
    tomorrow = [{**last, "payment": len(shop.rows) + 1, "paid_at": int(moment.timestamp())}]
    (home / "next.jsonl").write_text(as_jsonl(tomorrow))
    assert zaslon("score", home / "next.jsonl", *given, "--json").json["decisions"] == 1
    (home / "labels.csv").write_text(f"transaction_id,is_fraud\n{len(shop.rows) + 1},yes\n")
    assert zaslon("label", home / "labels.csv", *given, "--json").json["labels"] == 1
    assert zaslon("doctor", *given, "--json").json["healthy"]
    (home / "pseudonym.key").write_text("another")
    for command in (["score", home / "next.jsonl"], ["label", home / "labels.csv"], ["replay", 0]):
        answer = zaslon(*command, *given, "--json")
        assert answer.code == 6
        assert "pseudonym.key" in answer.json["error"]["hint"]


def test_its_records_are_not_taken_for_the_missions(zaslon: Zaslon, shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "payments.jsonl"
    file.write_text(as_jsonl(shop.rows[:50]))
    answer = zaslon("clean", file, "--home", tmp_path / "home", "--json")
    assert answer.code == 3
    assert "have none of the fields that a record needs, but 'payment, " in answer.err
