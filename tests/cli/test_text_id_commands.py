"""A company whose payments are named by UUIDs, through the commands: its own ids come back everywhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.cli.conftest import Zaslon
from tests.cli.test_another_company import CATALOGUE, simulated
from tests.cli.test_the_log import decisions
from tests.text_ids import text_of

BY_TEXT = CATALOGUE.replace('role = "transaction_id"\nminimum = 1', 'role = "transaction_id"\ntype = "text"')
LABELLED = 40


def as_csv(rows: list[dict[str, Any]], path: Path) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.slow
def test_uuids_run_through_every_command_and_come_back_as_they_were(zaslon: Zaslon, tmp_path: Path) -> None:
    rows = [{**row, "payment": text_of(row["payment"])} for row in simulated()]
    names = {row["payment"] for row in rows if row["device"] != "n/a"}
    (tmp_path / "wallet.toml").write_text(BY_TEXT)
    home, tomorrow = tmp_path / "home", rows[-300:]
    given = ["--catalogue", tmp_path / "wallet.toml", "--home", home]
    ran = zaslon(
        "run", as_csv(rows[:-300], tmp_path / "payments.csv"), *given, "--no-compare-delays", "--json"
    )
    assert ran.code == 0, ran
    assert zaslon("doctor", *given, "--json").json["healthy"]

    scored = zaslon("score", as_csv(tomorrow, tmp_path / "tomorrow.csv"), *given, "--json").json
    assert scored["decisions"] == sum(row["device"] != "n/a" for row in tomorrow)
    decided = decisions(home)
    found = [decision["transaction_id"] for decision in decided]
    assert set(found) <= names
    assert {row["payment"] for row in tomorrow} & names <= set(found)
    clean = pl.read_parquet(f"{scored['paths']['clean']}/*/part-0.parquet")
    assert set(clean["transaction_id"]) == {row["payment"] for row in tomorrow} & names
    assert zaslon("score", tmp_path / "tomorrow.csv", *given, "--json").json["decisions"] == 0

    labels = [{"payment": name, "is_fraud": "yes"} for name in found[-LABELLED:]]
    labelled = zaslon("label", as_csv(labels, tmp_path / "labels.csv"), *given, "--json").json
    assert (labelled["labels"], labelled["records_rejected"]) == (LABELLED, {})
    lines = [{"transaction_id": found[-1], "is_fraud": False}, {"transaction_id": 7, "is_fraud": True}]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    labelled = zaslon("label", tmp_path / "labels.jsonl", *given, "--json").json
    assert (labelled["labels"], labelled["records_rejected"]) == (1, {"unreadable_label:transaction_id": 1})

    for name in (found[0], found[-1]):
        replayed = zaslon("replay", f"tx:{name}", *given, "--json").json
        assert (replayed["identical"], replayed["recorded"]["transaction_id"]) == (True, name)
    for unknown in ("tx:never seen", "tx:5"):
        answer = zaslon("replay", unknown, *given, "--json")
        assert answer.code == 7
        assert f"about transaction {unknown[3:]} " in answer.json["error"]["message"]

    (tmp_path / "sent.txt").write_text("\n".join([*found[-5:], "lost"]))
    reconciled = zaslon("reconcile", "--sent", tmp_path / "sent.txt", *given, "--json")
    assert (reconciled.json["sent"], reconciled.json["unanswered"]) == (6, ["lost"])

    features = zaslon("features", "--out", tmp_path / "features", *given, "--json")
    assert features.code == 0, features
    written = pl.read_parquet(f"{tmp_path}/features/*/*.parquet")
    assert set(written["transaction_id"]) <= names


@pytest.mark.parametrize(("name", "reason"), [
    ("", "missing_field:payment"), ("x" * 65, "out_of_range:payment"), ("a\tb", "out_of_range:payment"),
    ("a\x01b", "not_text"), ("a\u202eb", "out_of_range:payment"),
])  # fmt: skip
def test_nonsense_instead_of_a_text_is_rejected_by_name(
    zaslon: Zaslon, tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "wallet.toml").write_text(BY_TEXT)
    rows = [{**row, "payment": name if i == 5 else f"p-{i}"} for i, row in enumerate(simulated()[:20])]
    rows = [{**row, "device": "d"} for row in rows]
    given = ["--catalogue", tmp_path / "wallet.toml", "--home", tmp_path / "home", "--out", tmp_path / "out"]
    answer = zaslon("clean", as_csv(rows, tmp_path / "in.csv"), *given, "--json").json
    assert (answer["rows_clean"], answer["rows_rejected"]) == (19, {reason: 1})
