"""A clean row that breaks what is done with all rows of a run is one rejection; the other rows become days."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from tests.recovery.faults import InjectedError
from tests.unit.intake_cases import GOOD, NAMES, quarantine_of, rows_of, run

from zaslon.domain.events import Transactions
from zaslon.intake import chunk_cleaning, files, settling, staging
from zaslon.intake.date_gaps import RowDays, WrongDates
from zaslon.intake.quarantine import Quarantine
from zaslon.intake.repeat_filter import RepeatFilter

POISON = 7_777_777
POISON_TIME = "2019-08-23 07:07:07"
POISON_SECONDS = 1_566_544_027
HEADER = ",".join(NAMES)


def row(number: int, time: str = "2019-08-22 06:51:03", **changes: str) -> str:
    values = dict(zip(NAMES, GOOD.split(","), strict=True))
    return ",".join((values | {"transaction_id": str(number), "tx_datetime": time} | changes).values())


# The poison comes twice, so that one of its rows is a suspect; its neighbours are on the same days.
ROWS = [row(n, f"2019-08-{22 + n % 3} 06:51:{n:02d}") for n in range(1, 31)]
POISON_ROW = row(POISON, POISON_TIME)


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join([HEADER, *rows, ""]))
    return path


def fail_on_poison(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, always: bool = False) -> None:
    """Let a function fail, after its work, when what it is given has the poison."""
    real = owner.__dict__[name]
    function = real.__func__ if isinstance(real, classmethod) else real

    def failing(*given: Any, **named: Any) -> Any:
        found = function(*given, **named)
        if always or any(map(has_poison, given)):
            raise InjectedError
        return found

    monkeypatch.setattr(owner, name, classmethod(failing) if isinstance(real, classmethod) else failing)


def has_poison(given: Any) -> bool:
    """Whether an argument of a function of staging holds the poison."""
    if isinstance(given, Transactions):
        return POISON in given.transaction_id
    if isinstance(given, pl.DataFrame):
        return "transaction_id" in given.columns and POISON in given["transaction_id"]
    if isinstance(given, np.ndarray):
        return POISON in given or POISON_SECONDS in given
    return False


PLACES = [
    (chunk_cleaning, "frame_of"),
    (RowDays, "of"),
    (RepeatFilter, "suspects"),
    (staging, "_by_day"),
    (staging, "_finished"),
]


@pytest.fixture(params=[1 << 20, 500], ids=["held", "spilt"])
def held_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows stay in memory, or go to disk a few at a time."""
    monkeypatch.setattr(staging, "_ROWS_HELD_MAX", 7 if request.param == 500 else request.param)


@pytest.mark.usefixtures("held_rows")
@pytest.mark.parametrize(("owner", "name"), PLACES)
def test_a_row_that_breaks_staging_is_rejected_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    sound = write(tmp_path / "sound", ROWS)
    run([sound], tmp_path / "out-sound")
    source = write(tmp_path / "in", [*ROWS[:10], POISON_ROW, *ROWS[10:]])
    fail_on_poison(monkeypatch, owner, name)
    report = run([source], tmp_path / "out")
    assert report.rows_rejected == {"engine_error": 1}
    assert rows_of(tmp_path / "out").equals(rows_of(tmp_path / "out-sound"))
    (kept,) = quarantine_of(tmp_path / "out").to_dicts()
    assert (kept["source"], kept["record"], kept["in_clear"]) == (str(source), 11, False)
    assert "own code failed on this record: InjectedError" in kept["detail"]
    if owner is staging:  # the bytes of a row that is no suspect were not kept
        assert kept["offset"] == -1
        content = orjson.loads(kept["raw"])
        assert (content["transaction_id"], content["event_time_seconds"]) == (POISON, POISON_SECONDS)
        assert (content["amount_minor"], content["customer_key"]) == (7091, 4961)
    else:
        assert kept["raw"] == POISON_ROW.encode()


@pytest.mark.usefixtures("held_rows")
@pytest.mark.parametrize("name", ["settle", "repeated_rows"])
def test_repeats_that_break_the_settling_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = write(tmp_path / "in", [*ROWS, POISON_ROW, ROWS[3], POISON_ROW, row(5)])
    fail_on_poison(monkeypatch, staging if name == "settle" else settling, name)
    report = run([source], tmp_path / "out")
    assert report.rows_rejected == {"engine_error": 1, "duplicate": 1, "conflicting_duplicate": 1}
    assert POISON in rows_of(tmp_path / "out")["transaction_id"], "the first row of its id is certainly new"
    (kept,) = quarantine_of(tmp_path / "out").filter(reason="engine_error").to_dicts()
    assert (kept["record"], kept["raw"]) == (33, POISON_ROW.encode())


def test_a_repeat_that_breaks_its_sentence_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in", [*ROWS, POISON_ROW, ROWS[3], POISON_ROW])
    fail_on_poison(monkeypatch, files, "why_repeats")
    report = run([source], tmp_path / "out")
    assert report.rows_rejected == {"engine_error": 1, "duplicate": 1}


def test_a_wrong_date_that_breaks_its_sentence_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [row(n, f"2019-08-{1 + n % 28:02d} 06:51:03") for n in range(1, 3_001)]
    late = [row(9_001, "2022-03-03 03:03:03"), row(9_002, "2022-04-04 04:04:04")]
    source, sentence = write(tmp_path / "in", [*many, *late]), WrongDates.sentence

    def failing(wrong: WrongDates, field: str, moment: int) -> str:
        if moment == 1_649_045_044:
            raise InjectedError
        return sentence(wrong, field, moment)

    monkeypatch.setattr(WrongDates, "sentence", failing)
    report = run([source], tmp_path / "out")
    assert report.rows_rejected == {"engine_error": 1, "after_arrival:tx_datetime": 1}
    assert late[1].encode() in quarantine_of(tmp_path / "out").filter(reason="engine_error")["raw"].to_list()


@pytest.mark.usefixtures("held_rows")
def test_a_row_with_a_wrong_date_is_not_rejected_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [row(n, f"2019-08-{1 + n % 28:02d} 06:51:03") for n in range(1, 3_001)]
    late = [row(POISON, "2022-03-03 03:03:03"), row(9_002, "2022-04-04 04:04:04")]
    fail_on_poison(monkeypatch, staging, "_by_day")
    report = run([write(tmp_path / "in", [*many, *late])], tmp_path / "out")
    assert report.rows_rejected == {"engine_error": 1, "after_arrival:tx_datetime": 1}


def test_a_rejected_row_that_breaks_the_quarantine_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = Quarantine.of

    def failing(quarantine: Quarantine, chunk: Any, rejected: Any) -> Any:
        if any(b"much" in raw for raw in chunk.originals(rejected.index.tolist())) and chunk.problem is None:
            raise InjectedError
        return of(quarantine, chunk, rejected)

    monkeypatch.setattr(Quarantine, "of", failing)
    bad = [row(101, tx_amount="much"), row(102, tx_amount="more")]
    report = run([write(tmp_path / "in", [*ROWS, *bad])], tmp_path / "out")
    assert report.rows_rejected == {"engine_error": 1, "not_a_number:tx_amount": 1}
    assert bad[0].encode() in quarantine_of(tmp_path / "out").filter(reason="engine_error")["raw"].to_list()


@pytest.mark.parametrize(("owner", "name"), [*PLACES, (staging, "settle"), (files, "why_repeats")])
def test_code_that_breaks_ordinary_rows_stops_cleaning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    source = write(tmp_path / "in", [*ROWS, ROWS[3]])
    fail_on_poison(monkeypatch, owner, name, always=True)
    with pytest.raises(InjectedError):
        run([source], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_day_of_which_every_row_breaks_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on_poison(monkeypatch, staging, "_finished")
    alone = row(POISON, "2019-08-30 07:07:07")
    report = run([write(tmp_path / "in", [*ROWS, alone])], tmp_path / "out")
    assert report.days == ["2019-08-22", "2019-08-23", "2019-08-24"]
    assert report.rows_clean == len(ROWS)
