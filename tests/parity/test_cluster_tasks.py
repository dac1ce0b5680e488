"""The tasks of a cluster, over random partitions and in any order, give what one process gives.

The exchanges are made here; `tests/cluster/` has those of Spark.
"""

from __future__ import annotations

import gzip
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from tests.unit.intake_cases import ARRIVAL_SECONDS, HEADER, KEY, MISSION, SHOP_TEXT, line, quarantine_of, run

from zaslon.adapters.cluster.spark.entity_columns import row_schema
from zaslon.adapters.cluster.spark.software import Software
from zaslon.adapters.cluster.spark.source_rows import (
    CLEAN,
    COUNTED,
    KIND,
    PLACE,
    REASON,
    REJECTED,
    SUMMARY,
    Originals,
    Settling,
    SourceCleaning,
    Sources,
    Summary,
    day_columns,
    polars_frame,
    quarantine_schema,
    staged_schema,
)
from zaslon.domain.catalogue import Catalogue, parse_catalogue
from zaslon.domain.errors import InputError, ServerError
from zaslon.domain.time import SECONDS_PER_DAY, day_text, parse_duration_seconds, time_text
from zaslon.flows.clean import refuse_pipes
from zaslon.intake.date_gaps import DayCounts

Task = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]

START = 18_130 * SECONDS_PER_DAY
REMEMBER = parse_duration_seconds(MISSION.retention.remember)
SOFTWARE = Software.here()
SORTED_BY = ("source", "record", "offset", "reason")


def _record(chance: random.Random, number: int, seconds: int) -> str:
    return line(
        transaction_id=number, tx_datetime=time_text(START + seconds), customer_id=chance.randrange(50),
        terminal_id=chance.randrange(9), tx_amount=f"{chance.randrange(9_000) / 100:.2f}",
        tx_time_seconds=seconds, tx_time_days=seconds // SECONDS_PER_DAY, tx_fraud=chance.choice("01"),
    )  # fmt: skip


def _sources(directory: Path, seed: int) -> list[str]:
    """Three files with repeats in and across them, ids used again, other answers, wrong dates and torn quotes."""
    chance = random.Random(seed)
    records = [_record(chance, n, chance.randrange(12 * SECONDS_PER_DAY)) for n in range(1_500)]
    again = [chance.choice(records) for _ in range(60)]
    other_answers = [f"{r.rsplit(',', 2)[0]},{chance.choice('01')},0" for r in again[:30]]
    other_content = [_record(chance, n, chance.randrange(12 * SECONDS_PER_DAY)) for n in range(40)]
    later = [_record(chance, n, REMEMBER + chance.randrange(12 * SECONDS_PER_DAY)) for n in range(900, 1_400)]
    wrong_dates = [_record(chance, 5_000 + n, 1_500 * SECONDS_PER_DAY) for n in range(3)]
    torn = ['7,"2019', "1,2,3", line(tx_amount="-1"), HEADER, "\xff"]
    rows = [*records, *again, *other_answers, *other_content, *later, *wrong_dates, *torn]
    chance.shuffle(rows)
    found = []
    for number in range(3):
        content = "\n".join([HEADER, *rows[number::3], ""]).encode("latin-1")
        path = directory / f"in-{number}.txt{'.gz' if number == 1 else ''}"
        path.write_bytes(gzip.compress(content) if number == 1 else content)
        found.append(str(path))
    return found


def _after(task: Task, rows: pl.DataFrame, schema: pa.Schema) -> pl.DataFrame:
    batches = list(task(iter(rows.to_arrow().to_batches())))
    return polars_frame(pa.Table.from_batches(batches, schema=schema))


class _Exchanges:
    """The steps of the job in this process, with partitions as `chance` has it."""

    def __init__(self, sources: Sequence[str], seed: int) -> None:
        self.sources, self.chance = sources, random.Random(seed)
        self.schema = staged_schema(MISSION)
        self.given = Sources.of(sources)
        work = SourceCleaning(MISSION, KEY, ARRIVAL_SECONDS, 1 << 13, self.given, SOFTWARE)
        numbered = [pl.DataFrame({"number": [n]}) for n in range(len(sources))]
        self.chance.shuffle(numbered)
        self.staged = pl.concat([_after(work, one, self.schema) for one in numbered])
        self.read = self._summaries(self.staged)
        days = DayCounts(MISSION.gap_max_seconds)
        for summary in self.read:
            days.add_days(summary.rows_by_day)
        self.wrong = days.rejected(MISSION, ARRIVAL_SECONDS)
        self.settled = self._settle(self.chance.randrange(1, 7))
        self.counted = self._summaries(self.settled)

    def _settle(self, partitions: int) -> pl.DataFrame:
        assert self.wrong is not None
        before = pl.col("event_time_seconds") < self.wrong.first_day * SECONDS_PER_DAY
        rows = self.staged.filter((pl.col(KIND) == CLEAN) & before)
        parts = [
            rows.filter(pl.col("transaction_id") % partitions == n).sort("order") for n in range(partitions)
        ]
        return pl.concat([_after(Settling(MISSION, REMEMBER, SOFTWARE), part, self.schema) for part in parts])

    @staticmethod
    def _summaries(rows: pl.DataFrame) -> list[Summary]:
        return [Summary.from_bytes(s) for s in rows.filter(pl.col(KIND) == SUMMARY)[COUNTED]]

    def days(self) -> pl.DataFrame:
        rows = self.settled.filter(pl.col(KIND) == CLEAN).select(day_columns(MISSION))
        return rows.sort("event_time_seconds", "transaction_id")

    def quarantine(self) -> pl.DataFrame:
        assert self.wrong is not None
        columns = [*PLACE, REASON, "event_time_seconds"]
        repeats = self.settled.filter(pl.col(KIND) == REJECTED)
        wrong = self.staged.filter(pl.col("event_time_seconds") >= self.wrong.first_day * SECONDS_PER_DAY)
        places = pl.concat([repeats.select(columns), wrong.select(columns)]).sort(PLACE[0])
        work = Originals(MISSION, KEY, 1 << 14, self.given, self.wrong, SOFTWARE)
        late = _after(work, places, quarantine_schema())
        early = self.staged.filter(pl.col(KIND) == REJECTED).select(
            pl.col(f"_{c}").alias(c) for c in late.columns
        )
        return pl.concat([early, late]).sort(SORTED_BY)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tasks_give_what_one_process_gives(tmp_path: Path, seed: int) -> None:
    sources = _sources(tmp_path, seed)
    report = run(sources, tmp_path / "out", chunk_bytes=1 << 14)
    assert {"duplicate", "conflicting_duplicate", "after_arrival:tx_datetime"} <= report.rows_rejected.keys()
    assert report.answers_changed and report.headers_inside and report.rows_clean > 1_550
    cluster = _Exchanges(sources, seed)
    of_days = [pl.read_parquet(tmp_path / "out" / f"day={day}" / "part-0.parquet") for day in report.days]
    assert cluster.days().equals(pl.concat(of_days), null_equal=True)
    assert cluster.quarantine().equals(quarantine_of(tmp_path / "out").sort(SORTED_BY), null_equal=True)
    assert sum(s.rows_in for s in cluster.read) == report.rows_in
    assert sum(s.headers_inside for s in cluster.read) == report.headers_inside
    assert sum(s.answers_changed for s in cluster.counted) == report.answers_changed
    rows_by_day = sum((Counter(s.rows_by_day) for s in cluster.counted), Counter[int]())
    assert [day_text(day) for day in sorted(rows_by_day)] == report.days
    flags = [sum(column) for column in zip(*(s.flags for s in cluster.counted), strict=True)]
    assert flags == list(report.flags.values())


def _cleaning(catalogue: Catalogue, sources: Sequence[str], software: Software) -> SourceCleaning:
    return SourceCleaning(catalogue, KEY, ARRIVAL_SECONDS, 1 << 13, Sources.of(sources), software)


def test_a_task_that_is_tried_twice_gives_the_same_rows(tmp_path: Path) -> None:
    sources, given = _sources(tmp_path, 1), pl.DataFrame({"number": [2]})
    work = _cleaning(MISSION, sources, SOFTWARE)
    first, second = (_after(work, given, staged_schema(MISSION)) for _ in range(2))
    assert first.equals(second, null_equal=True)
    assert first.filter(pl.col(KIND) == CLEAN)["order"].min() == 2 << 40


def test_a_source_that_changed_since_the_job_began_is_refused(tmp_path: Path) -> None:
    sources, given = _sources(tmp_path, 1), pl.DataFrame({"number": [0]})
    work = _cleaning(MISSION, sources, SOFTWARE)
    with Path(sources[0]).open("ab") as file:
        file.write(b"1,2,3\n")
    with pytest.raises(InputError, match="changed while it was read"):
        _after(work, given, staged_schema(MISSION))


def test_a_pipe_is_refused_before_a_cluster_reads_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="can be read only once"):
        refuse_pipes(["s3://lake/in.txt", str(tmp_path / "pipe")])


def test_a_task_of_another_software_makes_no_rows(tmp_path: Path) -> None:
    work = _cleaning(MISSION, _sources(tmp_path, 1), replace(SOFTWARE, engine=SOFTWARE.engine + 1))
    with pytest.raises(ServerError, match=r"Zaslon's engine \d+ instead of"):
        _after(work, pl.DataFrame({"number": [0]}), staged_schema(MISSION))


@pytest.mark.parametrize("name", ["day", "kind", "reason", "features", "summary"])
def test_fields_may_have_the_names_of_a_quarantine(tmp_path: Path, name: str) -> None:
    catalogue = parse_catalogue(SHOP_TEXT.replace("risk", name))
    path = tmp_path / "in.csv"
    path.write_text(f"id,at,card,device,sum,{name}\n1,1566456663,a,b,7,2.5\n")
    rows = _after(
        _cleaning(catalogue, [str(path)], SOFTWARE), pl.DataFrame({"number": [0]}), staged_schema(catalogue)
    )
    assert rows.filter(pl.col(KIND) == CLEAN)[name].to_list() == [2.5]
    assert name in day_columns(catalogue) and name in row_schema(catalogue).names
