"""A record that breaks the reading of its file is one rejection; the others are clean, as without it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from tests.recovery.faults import InjectedError
from tests.unit.intake_cases import GOOD, MISSION, NAMES, line, quarantine_of, rows_of, run

from zaslon.domain.errors import InputError
from zaslon.domain.events import Transactions
from zaslon.intake import chunks, columnar, record_blocks, sources
from zaslon.intake.chunks import TextChunk
from zaslon.intake.sources import read_source

POISON = 7_777_777
COUNT = 20
HEADER = ",".join(NAMES)


def fail_on_poison(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, always: bool = False) -> None:
    """Let a function fail, after its work, when what it is given has the poison."""
    real = getattr(owner, name)

    def failing(*given: Any, **named: Any) -> Any:
        found = real(*given, **named)
        looked_at = [lines(*given[:3])] if name == "fields_of_lines" else given
        if always or any(map(has_poison, looked_at)):
            raise InjectedError
        return found

    monkeypatch.setattr(owner, name, failing)


def lines(buffer: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> bytes:
    """What a function that splits lines looks at."""
    places = zip(starts.tolist(), lengths.tolist(), strict=True)
    return b" ".join(buffer[at : at + size].tobytes() for at, size in places)


def has_poison(given: Any) -> bool:
    """Whether an argument of a function of intake holds the poison's id."""
    if isinstance(given, TextChunk):
        return any(map(has_poison, given.originals(range(len(given)))))
    if isinstance(given, list):
        return any(map(has_poison, given))
    if isinstance(given, pl.Series):
        return any(has_poison(str(value).encode()) for value in given.to_list())
    if isinstance(given, pl.DataFrame):
        return any(map(has_poison, given.get_columns()))
    if isinstance(given, Transactions):
        return POISON in given.transaction_id
    if isinstance(given, np.ndarray):
        return POISON in given if given.dtype == np.int64 else has_poison(given.tobytes())
    return isinstance(given, bytes) and str(POISON).encode() in given


def ids(poison_at: int | None) -> list[int]:
    found = list(range(1, COUNT + 1))
    return found if poison_at is None else [*found[:poison_at], POISON, *found[poison_at:]]


def write(form: str, path: Path, poison_at: int | None) -> Path:
    """A file of good records, one of which may be the poison."""
    good = dict(zip(NAMES, GOOD.split(","), strict=True))
    rows = [good | {"transaction_id": str(i), "tx_amount": str(i)} for i in ids(poison_at)]
    lines = [",".join(row.values()) for row in rows]
    if form == "jsonl":
        path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    elif form == "parquet":
        numbers = {
            name: pl.Series([float(row[name]) for row in rows]) for name in ("transaction_id", "tx_amount")
        }
        pl.DataFrame({name: [row[name] for row in rows] for name in NAMES} | numbers).write_parquet(path)
    elif form == "quoted":
        path.write_text("\n".join([HEADER, *(f'"{one}'.replace(",", '",', 1) for one in lines)]))
    else:
        path.write_text("\n".join([HEADER, *lines] if form == "csv" else lines))
    return path


PLACES = [
    ("csv", record_blocks, "_block"),
    ("quoted", record_blocks, "_block"),
    ("jsonl", record_blocks, "_block"),
    ("headerless", record_blocks, "_block"),
    ("jsonl", chunks, "fields_of_json"),
    ("csv", chunks, "fields_of_lines"),
    ("csv", sources, "_no_transactions"),
    ("jsonl", sources, "names_of"),
    ("headerless", sources, "find_layout"),
    ("headerless", sources, "likely_header"),
    ("parquet", columnar, "table_of"),
    ("parquet", columnar, "_plain_numbers"),
]

OF_FIRST_RECORD = ("find_layout", "likely_header", "names_of")


@pytest.mark.parametrize("chunk_bytes", [100, 1 << 20])
@pytest.mark.parametrize(
    ("form", "owner", "name", "poison_at"),
    [(*place, at) for place in PLACES for at in (0, 7, COUNT) if at == 0 or place[2] not in OF_FIRST_RECORD],
)
def test_a_record_that_breaks_the_reading_is_rejected_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    form: str, owner: Any, name: str, poison_at: int, chunk_bytes: int,
) -> None:  # fmt: skip
    (tmp_path / "sound").mkdir()
    sound = write(form, tmp_path / "sound" / "in", None)
    run([sound], tmp_path / "out-sound", chunk_bytes=chunk_bytes)
    source = write(form, tmp_path / "in", poison_at)
    fail_on_poison(monkeypatch, owner, name)
    report = run([source], tmp_path / "out", chunk_bytes=chunk_bytes)
    assert report.rows_rejected == {"engine_error": 1}
    assert rows_of(tmp_path / "out").equals(rows_of(tmp_path / "out-sound"))
    (kept,) = quarantine_of(tmp_path / "out").to_dicts()
    assert kept["record"] == poison_at + 1
    assert "own code failed on this record: " in kept["detail"]
    assert str(POISON).encode() in kept["raw"]
    if form != "parquet":
        content = source.read_bytes()
        assert content[kept["offset"] :].startswith(kept["raw"])
        assert kept["raw"] in content.splitlines()


@pytest.mark.parametrize(("form", "owner", "name"), [p for p in PLACES if p[2] != "_plain_numbers"])
def test_code_that_breaks_ordinary_records_stops_cleaning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, owner: Any, name: str
) -> None:
    source = write(form, tmp_path / "in", None)
    fail_on_poison(monkeypatch, owner, name, always=True)
    with pytest.raises((InjectedError, InputError)):
        run([source], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["find_layout", "likely_header"])
def test_a_header_that_breaks_our_code_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = write("csv", tmp_path / "in", None)
    fail_on_poison(monkeypatch, sources, name, always=True)
    with pytest.raises(
        InputError, match="may be the header, and Zaslon's own code failed on it: InjectedError"
    ):
        run([source], tmp_path / "out")


def test_headers_behind_a_poison_record_change_the_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = [*NAMES[1:], NAMES[0]]
    rows = [line(transaction_id=i).split(",") for i in (POISON, 1, 2)]
    content = [HEADER, *(",".join(row) for row in rows[:2]), ",".join(turned), ",".join([*rows[2][1:], "2"])]
    (tmp_path / "in").write_text("\n".join(content))
    fail_on_poison(monkeypatch, chunks, "fields_of_lines")
    report = run([tmp_path / "in"], tmp_path / "out")
    assert (report.headers_inside, report.rows_clean) == (1, 2)
    assert rows_of(tmp_path / "out")["transaction_id"].to_list() == [1, 2]


def test_text_in_quotes_behind_a_poison_line_is_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = line(transaction_id=99)
    quoted = line(transaction_id=5).replace("4961", f'"x\n{POISON}\n{forged}\ny"')
    (tmp_path / "in").write_text("\n".join([HEADER, line(transaction_id=1), quoted, line(transaction_id=2)]))
    fail_on_poison(monkeypatch, record_blocks, "_block")
    for chunk_bytes in (10, 1 << 20):
        report = run([tmp_path / "in"], tmp_path / f"out-{chunk_bytes}", chunk_bytes=chunk_bytes)
        assert report.rows_rejected == {"engine_error": 1}
        assert rows_of(tmp_path / f"out-{chunk_bytes}")["transaction_id"].to_list() == [1, 2]
        assert quarantine_of(tmp_path / f"out-{chunk_bytes}")["raw"].to_list() == [quoted.encode()]


def test_many_poison_lines_are_all_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {3, 4, 17, 60}
    rows = [line(transaction_id=i, customer_id=POISON if i in chosen else 5) for i in range(1, 61)]
    (tmp_path / "in").write_text("\n".join([HEADER, *rows]) + "\n")
    fail_on_poison(monkeypatch, record_blocks, "_block")
    run([tmp_path / "in"], tmp_path / "out")
    assert quarantine_of(tmp_path / "out")["record"].to_list() == sorted(chosen)
    with gzip.open(tmp_path / "in.gz", "wb") as packed:
        packed.write((tmp_path / "in").read_bytes())
    found = [len(chunk) for chunk in read_source(str(tmp_path / "in.gz"), MISSION, 500)]
    assert sum(found) == 60
