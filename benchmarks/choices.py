"""What we write ourselves beside the library that would do it: CPU time of both in one run.

    python benchmarks/choices.py [--rows 200000]

The rows are mission text with every defect. `times` is the library's CPU time divided by ours; `differs`
counts what the library reads or answers otherwise. Decision 0023 draws the conclusions.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.speed.rows import write_raw

from zaslon.domain.catalogue import load_catalogue
from zaslon.expressions.expression import as_columns, as_row, parse_expression
from zaslon.intake.fields import Fields, fields_of_lines
from zaslon.intake.repeat_filter import RepeatFilter
from zaslon.intake.text import read_decimals, read_times
from zaslon.models.explain import contributions, leaf_paths
from zaslon.models.trees import read_trees

NAMES = ("id", "moment", "customer", "terminal", "amount", "seconds", "days", "fraud", "scenario")
MOMENT, AMOUNT = 1, 4
CONDITION = "amount > 500 AND hour < 6 OR amount / mean > 8 AND LN(amount) > 5"
ROUNDS = 5


@dataclass(frozen=True)
class Compared:
    """One task done by both: nanoseconds of CPU per row, and what the library does otherwise."""

    task: str
    library: str
    ours_ns: float
    library_ns: float
    differs: str


def compare(
    task: str, library: str, rows: int, ours: Callable[[], object], theirs: Callable[[], object], differs: str
) -> Compared:
    """Both by turns; the best round of each counts, so that other work on the machine does not."""
    best = [float("inf"), float("inf")]
    ours(), theirs()
    for _ in range(ROUNDS):
        for k, work in enumerate((ours, theirs)):
            calls, spent = 0, 0.0
            while spent < 0.02:
                begin = time.process_time()
                work()
                spent, calls = spent + time.process_time() - begin, calls + 1
            best[k] = min(best[k], spent / calls)
    return Compared(task, library, 1e9 * best[0] / rows, 1e9 * best[1] / rows, differs)


def text_fields(content: bytes) -> Iterator[Compared]:
    """Lines to fields, times and amounts, beside Polars."""
    catalogue, lines = load_catalogue(), content.count(b"\n")
    buffer = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(buffer == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])

    def split() -> Fields:
        return fields_of_lines(buffer, starts, ends - starts, catalogue)

    def read() -> pl.DataFrame:
        return pl.scan_csv(
            content, has_header=False, schema=dict.fromkeys(NAMES, pl.String), quote_char=None,
            missing_columns="insert", truncate_ragged_lines=True, empty_string_is_null=False,
        ).collect()  # fmt: skip

    fields, frame = split(), read()
    missing = f"takes {np.count_nonzero(fields.reason)} records of too few fields"
    yield compare("lines to fields", "Polars", lines, split, read, missing)

    def times() -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        value, reason = np.full(lines, -1), np.zeros(lines, np.uint8)
        read_times(buffer, fields.start[MOMENT], fields.length[MOMENT], value, reason, np.zeros_like(reason))
        return value, reason

    def polars_times() -> pl.Series:
        moment = frame["moment"].str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
        return moment.dt.epoch("s").fill_null(-1)

    reasons = len(np.unique(times()[1])) - 1
    differing = np.count_nonzero((times()[0] != polars_times().to_numpy()) & (fields.reason == 0))
    differs = f"{differing} values; one null for {reasons} reasons"
    yield compare("times", "Polars", lines, times, polars_times, differs)

    def amounts() -> NDArray[np.int64]:
        value, reason = np.full(lines, -1), np.zeros(lines, np.uint8)
        start, length = fields.start[AMOUNT], fields.length[AMOUNT]
        read_decimals(buffer, start, length, True, 2, False, 0, 10**15, value, reason)
        return value

    def polars_amounts() -> pl.Series:
        return (frame["amount"].cast(pl.Decimal(18, 2), strict=False) * 100).cast(pl.Int64).fill_null(-1)

    # Ours rejects all of these.
    hostile = pl.Series(["1e2", "0.005", "1_000", " 5", "inf"])
    read_as = hostile.cast(pl.Decimal(18, 2), strict=False)
    taken = ", ".join(f"{t!r} as {v}" for t, v in zip(hostile, read_as, strict=True) if v is not None)
    yield compare("amounts", "Polars", lines, amounts, polars_amounts, f"takes {taken}")


def conditions(rows: int) -> Iterator[Compared]:
    """A condition of a rule for one transaction and for many, beside Polars' SQL."""
    random = np.random.default_rng(1)
    expression = parse_expression(CONDITION, ("amount", "hour", "mean"), "condition")
    theirs = pl.sql_expr(CONDITION)
    for count in (1, rows):
        columns = {
            "amount": random.lognormal(4, 1, count),
            "hour": random.integers(0, 24, count).astype(float), "mean": random.lognormal(4, 1, count),
        }  # fmt: skip
        columns["mean"][1::100] = np.nan  # unknown, so the comparison must not hold
        frame = pl.DataFrame(columns)
        found = expression.evaluate(columns)
        differing = np.count_nonzero(found != frame.select(theirs).to_series().to_numpy())
        row, arrays = as_row(expression.names, columns), as_columns(expression.names, columns)

        def ours(row: dict[str, float] = row, arrays: dict[str, NDArray[np.float64]] = arrays) -> object:
            if len(arrays["amount"]) == 1:
                return expression.evaluate_row(row)
            return expression.evaluate_columns(arrays, len(arrays["amount"]))

        yield compare(
            f"condition, rows: {count}", "Polars SQL", count, ours,
            lambda frame=frame: frame.select(theirs), f"{differing} rows, where the mean is unknown",  # type: ignore[misc]
        )  # fmt: skip


def explanations() -> Iterator[Compared]:
    """Contributions to a score, beside LightGBM's own TreeSHAP."""
    random = np.random.default_rng(2)
    x = random.normal(size=(20_000, 20)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 2).astype(int)
    parameters = {"objective": "binary", "num_leaves": 8, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x, y), 300)
    paths = leaf_paths(read_trees(booster.model_to_string()))
    for count in (1, 1_000):
        rows = x[:count]
        answer = np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1))
        difference = np.abs(contributions(paths, rows) - answer[:, :-1])
        yield compare(
            f"contributions, rows: {count}", "LightGBM", count,
            lambda rows=rows: contributions(paths, rows),  # type: ignore[misc]
            lambda rows=rows: booster.predict(rows, pred_contrib=True, num_threads=1),  # type: ignore[misc]
            f"{difference.max():.0e} log-odds",
        )  # fmt: skip


def repeats(rows: int) -> Iterator[Compared]:
    """Which ids may have come before, beside a set and, where it is installed, a Bloom filter."""
    ids = np.random.default_rng(3).permutation(rows)
    listed = ids.tolist()
    filter_bytes = rows  # eight bits an id

    def ours() -> object:
        return RepeatFilter(filter_bytes, bytes(range(16))).suspects(ids)

    entry_bytes = (sys.getsizeof(set(listed)) + sum(map(sys.getsizeof, listed))) / rows
    yield compare("repeats", "set", rows, ours, lambda: set(listed), f"{entry_bytes:.0f} bytes an id, not 1")
    if find_spec("rbloom") is not None:
        import rbloom  # noqa: PLC0415  only for the comparison

        def bloom() -> object:
            found = rbloom.Bloom(rows, 0.02)
            return [found.add(i) for i in listed if i not in found]

        yield compare("repeats", "rbloom", rows, ours, bloom, "an id at a time")


def compared(rows: int) -> Iterator[Compared]:
    """All tasks, over about `rows` rows where the task has as many."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "raw.txt")
        write_raw(rows, path)
        content = path.read_bytes().partition(b"\n")[2]
    yield from text_fields(content)
    yield from conditions(5_000)
    yield from explanations()
    yield from repeats(rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    print(f"{'task':26} {'library':11} {'ours ns':>9} {'library ns':>11} {'times':>6}  differs")
    for c in compared(parser.parse_args().rows):
        times = c.library_ns / c.ours_ns
        print(f"{c.task:26} {c.library:11} {c.ours_ns:9.1f} {c.library_ns:11.1f} {times:6.1f}  {c.differs}")


if __name__ == "__main__":
    main()
