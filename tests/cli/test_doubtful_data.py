"""`run` on data that would make figures doubtful: its exit code, `warnings`, the screen and the report."""

from __future__ import annotations

import gzip
import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import Answer, Zaslon
from tests.small_catalogues import AT, ID, SUM, catalogue_text, entity

DAYS, ROWS_A_DAY = 36, 80
CATALOGUE = catalogue_text(
    "shop",
    {
        "id": ID, "at": AT, "card": entity("card"), "shop": entity("shop"), "sum": SUM,
        "code": {"role": "number", "required": False}, "fraud": {"role": "is_fraud"},
    },
    window="7d", compute=("count", "mean"),
)  # fmt: skip
HEADER = "id,at,card,shop,sum,code,fraud"
Rows = dict[str, np.ndarray[Any, Any]]
Change = Callable[[Rows], None]


def rows_of(change: Change = lambda rows: None) -> Rows:
    """Ordinary rows, one in 20 of them a fraud with a larger amount, and what a test makes of them."""
    random, n = np.random.default_rng(1), DAYS * ROWS_A_DAY
    seconds = np.sort(random.integers(0, DAYS * 86_400, n))
    fraud = (random.random(n) < 0.05).astype(int)
    rows: Rows = {
        "id": np.arange(n), "at": np.datetime64("2024-01-01") + seconds.astype("timedelta64[s]"),
        "card": random.integers(0, 150, n), "shop": random.integers(0, 20, n),
        "sum": np.round(random.exponential(30, n) + 40 * fraud * random.random(n) + 1, 2).astype("U12"),
        "code": random.integers(0, 9, n).astype("U4"), "fraud": fraud,
    }  # fmt: skip
    change(rows)
    return rows


def text_of(rows: Rows) -> str:
    columns = [np.char.replace(np.asarray(values).astype("U24"), "T", " ") for values in rows.values()]
    return "\n".join([HEADER, *(",".join(row) for row in zip(*columns, strict=True))]) + "\n"


class Shop:
    """A directory with a catalogue, in which `run` is called."""

    def __init__(self, zaslon: Zaslon, place: Path) -> None:
        self._zaslon, self.place = zaslon, place
        self.catalogue = place / "shop.toml"
        self.catalogue.write_text(CATALOGUE)

    def file(self, name: str, text: str) -> Path:
        path = self.place / name
        path.write_text(text)
        return path

    def run(self, *sources: Path, machine: bool = True) -> Answer:
        options = ["--home", self.place / "home", "--catalogue", self.catalogue, "--no-compare-delays"]
        return self._zaslon("run", *sources, *options, *(["--json"] if machine else []))

    def run_on(self, change: Change) -> Answer:
        return self.run(self.file("rows.csv", text_of(rows_of(change))))

    @property
    def report(self) -> str:
        return html.unescape((self.place / "home" / "reports" / "report.html").read_text())


@pytest.fixture
def shop(zaslon: Zaslon, tmp_path: Path) -> Shop:
    return Shop(zaslon, tmp_path)


def the_warning(answer: Answer, kind: str) -> dict[str, str]:
    (found,) = [w for w in answer.json["warnings"] if w["kind"] == kind]
    return {key: str(value) for key, value in found.items()}


def test_ordinary_data_have_no_warning_and_name_their_periods(shop: Shop) -> None:
    answer = shop.run_on(lambda rows: None)
    assert answer.code == 0, answer
    assert answer.json["warnings"] == []
    periods = answer.json["periods"]
    assert list(periods) == ["train", "validation", "test"]
    assert periods["test"]["frauds"] == answer.json["test_frauds"]
    assert periods["test"]["decided_by"] == "days", "36 days have none to spare"
    for row in answer.json["scorecard"]:
        assert (row["status"] == "not_shown") <= (row["days_needed"] is not None or "limit" in row["comment"])
    assert all(low < high for low, high in answer.json["intervals"].values())
    for period in periods.values():
        assert f"{period['frauds']} frauds among {period['transactions']:,} transactions" in shop.report


def set_column(name: str, value: Callable[[Rows], Any]) -> Change:
    def change(rows: Rows) -> None:
        rows[name] = np.broadcast_to(np.asarray(value(rows)), len(rows["id"]))

    return change


DOUBTFUL: dict[str, tuple[Change, str]] = {
    "label_in_features": (
        set_column("code", lambda rows: 1 - rows["fraud"]), "Feature 'code' has one value for all frauds",
    ),
    "probable_leak": (
        set_column("code", lambda rows: 100 * rows["fraud"] + rows["id"] % 90), "Feature 'code' alone separates frauds",
    ),
    "time_tells_label": (
        set_column("fraud", lambda rows: ((rows["id"] // ROWS_A_DAY % 9 == 3) & (rows["id"] % 2 == 0)).astype(int)),
        "The time alone separates frauds",
    ),
    "constant_feature": (set_column("code", lambda _: 7), "the same value in every row of the training period"),
    "constant_column": (set_column("shop", lambda _: 7), "Column 'shop' has the same value in every row."),
    "empty_column": (set_column("code", lambda _: ""), "Column 'code' has no value in every row."),
    "one_customer": (set_column("card", lambda _: 7), "All rows of the training period are of one customer."),
    "leaks_not_checked": (
        set_column("fraud", lambda rows: (rows["id"] % 97 == 5).astype(int)), "The training period has only",
    ),
    "rejected_rows": (
        set_column("sum", lambda rows: np.where(rows["id"] % 50 == 0, "1;5x", rows["sum"])),
        "2.0% of the rows were rejected for",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DOUBTFUL)
def test_doubtful_data_are_named_at_the_top_of_everything(kind: str, shop: Shop) -> None:
    change, sentence = DOUBTFUL[kind]
    answer = shop.run_on(change)
    assert answer.code == 0, answer
    found = the_warning(answer, kind)
    assert sentence in found["message"], found
    assert found["hint"]
    assert found["message"] in shop.report
    assert shop.report.index(found["message"]) < shop.report.index("<table")


def test_the_screen_has_the_warnings_above_the_scorecard(shop: Shop) -> None:
    change, sentence = DOUBTFUL["label_in_features"]
    answer = shop.run(shop.file("rows.csv", text_of(rows_of(change))), machine=False)
    assert answer.code == 0, answer
    assert answer.out.index(f"Warning: {sentence}") < answer.out.index("Scorecard of the test period")
    assert "Periods" in answer.out


def test_the_commonest_values_and_the_catalogue_line_are_named(shop: Shop) -> None:
    found = the_warning(shop.run_on(DOUBTFUL["rejected_rows"][0]), "rejected_rows")
    line = CATALOGUE.splitlines().index('name = "sum"') + 1
    assert "58 times" in found["hint"]
    assert f"Line {line} of catalogue '{shop.catalogue}' describes the" in found["hint"]


def test_too_many_rejected_rows_stop_the_run_before_training(shop: Shop) -> None:
    def spoil(rows: Rows) -> None:
        rows["sum"] = np.where(rows["id"] % 3 == 0, "1.234;56", rows["sum"])

    answer = shop.run_on(spoil)
    assert answer.code == answer.json["error"]["exit_code"] == 13
    assert "33% of 2,880 rows were rejected, 960 of them for" in answer.json["error"]["message"]
    hint = answer.json["error"]["hint"]
    assert "Most often 960 times: Field 'sum' is '1.234;56'" in hint
    assert f"of catalogue '{shop.catalogue}' describes the field" in hint
    assert the_warning(answer, "rejected_rows")["hint"] == hint
    assert not (shop.place / "home" / "models").exists()
    assert "Warning: 33.3% of the rows" in answer.err


def test_a_file_given_twice_stops_the_run_and_names_both(shop: Shop) -> None:
    text = text_of(rows_of())
    first, second = shop.file("rows.csv", text), shop.place / "again.csv.gz"
    second.write_bytes(gzip.compress(text.encode()))
    answer = shop.run(first, second)
    assert answer.code == 13
    sentence = f"'{second}' has the same content as '{first}'."
    assert answer.json["error"]["hint"] == f"{sentence} Leave one of them out."
    assert the_warning(answer, "same_files")["message"] == sentence


def test_one_day_given_twice_is_a_warning_that_names_both(shop: Shop) -> None:
    lines = text_of(rows_of()).splitlines(keepends=True)
    day = lines[0] + "".join(lines[1:101])
    rest = shop.file("rest.csv", lines[0] + "".join(lines[101:]))
    answer = shop.run(shop.file("day.csv", day), rest, shop.file("copy.csv", day))
    assert answer.code == 0, answer
    found = the_warning(answer, "same_files")
    assert (
        found["message"] == f"'{shop.place / 'copy.csv'}' has the same content as '{shop.place / 'day.csv'}'."
    )
    assert found["message"] in shop.report
    assert the_warning(answer, "repeated_rows")["message"].startswith("3.4% of the rows")


@pytest.mark.parametrize(
    ("fraud", "sentence"),
    [
        (lambda rows: rows["id"] // ROWS_A_DAY > 20, "has no frauds among its"),
        (lambda rows: np.ones(len(rows["id"]), int), "has only frauds among its"),
    ],
)
def test_a_training_period_with_one_kind_of_answer_is_one_sentence(
    fraud: Callable[[Rows], Any], sentence: str, shop: Shop
) -> None:
    answer = shop.run_on(set_column("fraud", lambda rows: fraud(rows).astype(int)))
    assert answer.code == answer.json["error"]["exit_code"] == 7
    assert answer.json["error"]["message"].startswith("The training period, 2024-01-01 … ")
    assert sentence in answer.json["error"]["message"]
    assert the_warning(answer, "leaks_not_checked")


def test_train_warns_of_the_same_rows(shop: Shop, zaslon: Zaslon) -> None:
    options = ["--home", shop.place / "home", "--catalogue", shop.catalogue, "--json"]
    change, sentence = DOUBTFUL["label_in_features"]
    assert zaslon("clean", shop.file("rows.csv", text_of(rows_of(change))), *options).code == 0
    assert sentence in the_warning(zaslon("train", *options), "label_in_features")["message"]
