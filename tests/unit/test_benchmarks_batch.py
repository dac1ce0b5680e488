"""The benchmark of speed works, and refuses to compare what is not equal."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from benchmarks import batch
from benchmarks.speed import measure as speed
from benchmarks.speed import ours, polar, tool_comparison
from benchmarks.speed.engine_speed import engine_costs, train_champion
from benchmarks.speed.kernel_speed import apply_cost, simulated_events
from benchmarks.speed.measure import cpu_seconds, measure
from benchmarks.speed.rows import write_clean, write_raw

from zaslon.domain.catalogue import load_catalogue

ROWS = 7_000
DAY = 86_400


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("rows")
    write_raw(ROWS, scratch / "raw.txt")
    write_clean([scratch / "raw.txt"], scratch / "clean", load_catalogue())
    return scratch


def test_a_peer_cleans_to_the_same_rows_and_the_same_reasons(rows: Path, tmp_path: Path) -> None:
    results = [
        tool.clean(rows / "raw.txt", tmp_path / name / "checked")
        for name, tool in (("zaslon", ours), ("polars", polar))
    ]
    assert len(results[0]) > 8, "the rows must have many kinds of defects"
    tool_comparison._check_clean(results[1], results[0], tmp_path, "polars")


def test_one_rejection_more_fails_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="cleaned otherwise"):
        tool_comparison._check_clean(
            {"rows_clean": 9, "duplicate": 1}, {"rows_clean": 10}, tmp_path, "polars"
        )


def test_a_peer_has_the_same_fifteen_features(rows: Path, tmp_path: Path) -> None:
    for name, tool in (("zaslon", ours), ("polars", polar)):
        tool.features_checked(rows / "clean", tmp_path / name / "checked")
    tool_comparison._check_features(tmp_path, "polars")
    path = tmp_path / "polars" / "checked" / "features.parquet"
    frame = pl.read_parquet(path)
    frame.with_columns(pl.col("terminal_share_7d") + 0.001).write_parquet(path)
    with pytest.raises(SystemExit, match="terminal_share_7d differs"):
        tool_comparison._check_features(tmp_path, "polars")


def test_the_fifteen_features_are_those_of_the_book(rows: Path, tmp_path: Path) -> None:
    ours.features_checked(rows / "clean", tmp_path / "out")
    found = pl.read_parquet(tmp_path / "out" / "features.parquet").sort("transaction_id")
    clean = pl.read_parquet(f"{rows}/clean/day=*/*.parquet").sort("transaction_id")
    moment, amount = clean["event_time_seconds"].to_numpy(), clean["amount_minor"].to_numpy() / 100
    customer, terminal = clean["customer_key"].to_numpy(), clean["terminal_key"].to_numpy()
    fraud = clean["is_fraud"].to_numpy()
    for row in np.random.default_rng(1).choice(len(clean), 200, replace=False).tolist():
        now = moment[row]
        expected = [amount[row], (now // DAY + 3) % 7 >= 5, now % DAY // 3_600 <= 6]
        for days in (1, 7, 30):
            own = (customer == customer[row]) & (moment > now - days * DAY) & (moment <= now)
            expected += [own.sum(), amount[own].mean()]
        for days in (1, 7, 30):
            known = (terminal == terminal[row]) & (moment <= now - 7 * DAY)
            known &= moment > now - (7 + days) * DAY
            expected += [known.sum(), fraud[known].mean() if known.any() else 0.0]
        got = [found[name][row] for name in ours.FEATURES]
        assert got == pytest.approx([float(e) for e in expected], rel=1e-6)


def _spend(source: Path, out: Path) -> dict[str, int]:
    begin = cpu_seconds()
    while cpu_seconds() - begin < 0.2:
        pass
    return {"rows": 1}


def test_what_is_measured_is_the_cpu_of_the_task(tmp_path: Path) -> None:
    found = measure(_spend, _spend, tmp_path, tmp_path, runs=1)
    assert found.result == {"rows": 1}
    assert found.cpu_seconds >= 0.2


def test_the_best_run_counts_and_the_warm_up_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, clock = iter([10.0, 13.0, 20.0, 21.0]), iter([0.0, 5.0, 6.0, 8.0])
    monkeypatch.setattr(speed, "cpu_seconds", lambda: next(cpu))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    found = speed._measure(lambda *_: {"rows": 1}, lambda *_: {"rows": 1}, tmp_path, tmp_path, 2)
    assert (found.cpu_seconds, found.seconds) == (1.0, 2.0)


def test_the_cost_of_applying_is_per_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = simulated_events("mission", ROWS, tmp_path)
    assert len(events.labels) > len(events.transactions) // 2
    seconds = itertools.count()
    monkeypatch.setattr("time.process_time", lambda: float(next(seconds)))
    cost, engine = apply_cost(ours.handbook_catalogue(), events)
    assert cost == 1 / len(events.transactions), "one part, for which the clock went on by a second"
    assert len(engine.history) == len(events.transactions)


def test_every_stage_of_a_decision_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.speed.engine_speed.BATCHES", (1, 50))
    found = engine_costs(train_champion(tmp_path, ROWS, trees=5))
    assert found["trees"] == 5
    for row in found["batches"]:
        assert set(row["us_per_record"]) == {
            "clean", "features", "score", "decide", "encode", "log", "total",
        }  # fmt: skip
        assert row["us_per_record"]["total"] > 0


def test_goals_are_compared_in_their_own_direction() -> None:
    tools = {"pyspark": {"ours_is_faster_by": 7.9}}
    found = {"cleaning": {"tools": tools}, "catalogue": {"us_per_row": 4.0, "bytes_per_event": 70.0}}
    assert [goal["met"] for goal in batch.goals(found)] == [False, True, False]
