"""Laws of typed columns: their texts are Python's, and a table has the outcomes of the same CSV."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.laws.test_intake_laws import VALUES
from tests.unit.intake_cases import MISSION, NAMES, SHOP, line, quarantine_of, rows_of, run

from zaslon.domain.catalogue import Catalogue
from zaslon.intake.tables import table_of

INTEGERS = st.none() | st.integers(-(2**63), 2**63 - 1)


@given(st.lists(INTEGERS, min_size=1, max_size=20))
def test_integers_are_written_as_python_writes_them(values: list[int | None]) -> None:
    table = table_of(pl.DataFrame({"a": pl.Series(values, dtype=pl.Int64)}), [False], ",")
    assert table.lines(range(len(values))) == [b"" if v is None else b"%d" % v for v in values]


@given(st.lists(st.datetimes(), min_size=1, max_size=20))
def test_moments_are_written_as_python_writes_them(values: list[datetime]) -> None:
    table = table_of(pl.DataFrame({"a": pl.Series(values, dtype=pl.Datetime("us"))}), [False], ",")
    for value, written in zip(values, table.lines(range(len(values))), strict=True):
        digits = "" if not value.microsecond else f".{value.microsecond:06}"
        digits = digits.removesuffix("000") if digits else ""
        assert written.decode() == f"{value.replace(microsecond=0).isoformat(' ')}{digits}"
    days = table_of(pl.DataFrame({"a": pl.Series([v.date() for v in values])}), [False], ",")
    assert days.lines(range(len(values))) == [str(v.date()).encode() for v in values]


WORDS = st.sampled_from([v for v in VALUES if len(v) < 4000]) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=8
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 2**32).map(lambda s: str((EPOCH + timedelta(seconds=s)).replace(tzinfo=None)))
FIELDS = st.just("1") | st.none() | WORDS
IGNORED = st.just("0")  # is in no row of a table
MISSION_ROWS = st.lists(
    st.tuples(st.integers(0, 30).map(str), MOMENTS, FIELDS, FIELDS, FIELDS, FIELDS, IGNORED, FIELDS, FIELDS),
    min_size=1, max_size=12,
)  # fmt: skip
SHOP_ROWS = st.lists(
    st.tuples(st.integers(0, 30).map(str), st.integers(0, 2**32).map(str), WORDS, WORDS, WORDS, WORDS),
    min_size=1, max_size=12,
)  # fmt: skip


def _quoted(value: str | None) -> str:
    return "" if value is None else '"' + value.replace('"', '""') + '"'


@pytest.mark.parametrize("catalogue", [MISSION, SHOP], ids=["mission", "shop"])
@settings(max_examples=max(25, settings().max_examples // 5))  # each writes and cleans two files
@given(data=st.data())
def test_a_table_has_the_outcomes_of_the_same_csv(
    tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue, data: st.DataObject
) -> None:
    rows = data.draw(MISSION_ROWS if catalogue is MISSION else SHOP_ROWS)
    names, place = catalogue.record.columns, tmp_path_factory.mktemp("table")
    lines = [names, *rows]
    (place / "csv").write_bytes("".join(",".join(map(_quoted, row)) + "\n" for row in lines).encode())
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String)).write_parquet(place / "parquet")
    found = []
    for form in ("csv", "parquet"):
        report = run([place / form], place / f"{form}-out", catalogue=catalogue).to_json_dict()
        kept = quarantine_of(place / f"{form}-out").select("record", "reason", "field", "detail")
        for name in ("seconds", "sources"):
            del report[name]
        rows_clean = rows_of(place / f"{form}-out").fill_nan(None).rows()
        found.append((report, kept.sort("record").rows(), rows_clean))
    assert found[0] == found[1]


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**7)), min_size=1, max_size=20))
def test_typed_columns_have_the_outcomes_of_their_texts(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int]]
) -> None:
    place = tmp_path_factory.mktemp("typed")
    texts = [line(transaction_id=i, tx_amount=f"{a // 100}.{a % 100:02}").split(",") for i, a in rows]
    text = pl.DataFrame({n: [row[k] for row in texts] for k, n in enumerate(NAMES)})
    typed = text.with_columns(
        pl.col("tx_datetime").str.to_datetime(), pl.col("tx_amount").cast(pl.Float64),
        pl.exclude("tx_datetime", "tx_amount").cast(pl.Int64),
    )  # fmt: skip
    found = []
    for name, frame in (("text", text), ("typed", typed)):
        frame.write_parquet(place / name)
        run([place / name], place / f"{name}-out")
        kept = quarantine_of(place / f"{name}-out").select("record", "reason", "field", "detail")
        found.append((kept.rows(), rows_of(place / f"{name}-out").rows()))
    assert found[0] == found[1]
