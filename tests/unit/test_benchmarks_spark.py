"""The benchmark of Spark refuses what is not equal, and counts what a process that was killed has used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from benchmarks.speed.process_tree import ProcessTree
from benchmarks.speed.rows import write_raw, write_sources
from benchmarks.speed.spark_events import exchanged
from benchmarks.speed.spark_results import CLEAN_COLUMNS, check_clean, check_features
from tests.waiting import until

DAY = "day=2019-08-22"


def _write_day(out: Path, rows: pl.DataFrame) -> Path:
    (out / DAY).mkdir(parents=True)
    rows.write_parquet(out / DAY / "part-0.parquet")
    return out


def _clean_rows() -> pl.DataFrame:
    return pl.DataFrame({name: [1, 2, 3] for name in CLEAN_COLUMNS})


def _rejected(ours: Path, theirs: Path, raw: str) -> None:
    pl.DataFrame(
        {"source": ["in/a.txt"], "reason": ["not_a_time"], "field": ["tx_datetime"], "raw": [raw.encode()]}
    ).write_parquet(ours / "_quarantine.parquet")
    (theirs / "quarantine").mkdir()
    pl.DataFrame(
        {"file_path": ["file:/in/a.txt"], "reason": ["not_a_time:tx_datetime"], "value": ["1,x"]}
    ).write_parquet(theirs / "quarantine" / "part.parquet")


def test_equal_clean_days_are_counted(tmp_path: Path) -> None:
    ours, theirs = (_write_day(tmp_path / who, _clean_rows()) for who in ("ours", "theirs"))
    _rejected(ours, theirs, "1,x")
    found = check_clean(ours, theirs)
    assert found == {"days": 1, "clean_rows": 3, "columns": len(CLEAN_COLUMNS), "rejected_rows": 1}


def test_other_bytes_in_the_quarantine_end_the_benchmark(tmp_path: Path) -> None:
    ours, theirs = (_write_day(tmp_path / who, _clean_rows()) for who in ("ours", "theirs"))
    _rejected(ours, theirs, "1,y")
    with pytest.raises(SystemExit, match="the quarantine differs"):
        check_clean(ours, theirs)


def test_rows_in_another_order_end_the_benchmark(tmp_path: Path) -> None:
    ours = _write_day(tmp_path / "ours", _clean_rows())
    theirs = _write_day(tmp_path / "theirs", _clean_rows().reverse())
    with pytest.raises(SystemExit, match=f"{DAY}.* differs"):
        check_clean(ours, theirs)


@pytest.mark.parametrize(("other", "is_equal"), [(0.1 * (1 + 5e-7), True), (0.1 * (1 + 5e-6), False)])
def test_features_are_equal_to_a_millionth(tmp_path: Path, other: float, is_equal: bool) -> None:
    ours = _write_day(tmp_path / "ours", pl.DataFrame({"transaction_id": [1], "sum": [0.1]}))
    theirs = _write_day(tmp_path / "theirs", pl.DataFrame({"transaction_id": [1], "sum": [other]}))
    if is_equal:
        assert check_features(ours, theirs) == {"days": 1, "rows": 1, "columns": 2}
    else:
        with pytest.raises(SystemExit, match="sum differs in 1 of 1 rows"):
            check_features(ours, theirs)


def test_the_cpu_of_a_process_that_was_killed_still_counts() -> None:
    work = "while True: pass"
    parent = (
        f"import subprocess, sys, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        f"print(subprocess.Popen([sys.executable, '-c', {work!r}]).pid, flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert process.stdout is not None and process.stdin is not None
    child = int(process.stdout.readline())
    with ProcessTree(process.pid) as tree:
        used = until(lambda: (cpu := tree.cpu_seconds()["python"]) > 0.3 and cpu, lambda: "no CPU was used")
        os.kill(child, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{child}").exists(), lambda: "it is still there")
        assert tree.cpu_seconds()["python"] >= used
        assert tree.peak_mib()["python"] > 0
    process.stdin.close()
    process.wait()


def _task(stage: int, seconds: float, read_mib: int, spilled: int = 0) -> dict[str, object]:
    return {
        "Event": "SparkListenerTaskEnd", "Stage ID": stage,
        "Task Metrics": {
            "Executor Run Time": int(seconds * 1_000), "Disk Bytes Spilled": spilled,
            "Shuffle Write Metrics": {"Shuffle Bytes Written": 1 << 20},
            "Shuffle Read Metrics": {"Local Bytes Read": read_mib << 20, "Remote Bytes Read": 0},
        },
    }  # fmt: skip


def test_the_slowest_task_stands_beside_the_median() -> None:
    events = [_task(0, 9, 0), _task(1, 1, 2), _task(1, 2, 3), _task(1, 7, 30, spilled=1 << 20)]
    found = exchanged([{"Event": "SparkListenerJobStart"}, *events])
    assert (found.shuffle_mib, found.spilled_mib, len(found.stages)) == (4, 1, 1)
    (stage,) = found.stages
    assert (stage.seconds_longest, stage.seconds_median) == (7, 2)
    assert (stage.read_mib_largest, stage.read_mib_median) == (30, 3)


def test_sources_hold_every_line_and_some_again(tmp_path: Path) -> None:
    raw = tmp_path / "raw.txt"
    written = write_raw(7_000, raw)
    header, *lines = raw.read_bytes().splitlines()
    sources = [Path(path).read_bytes().splitlines() for path in write_sources(raw, tmp_path / "sources", 3)]
    assert {one[0] for one in sources} == {header}
    rows = [line for one in sources for line in one[1:]]
    assert rows[: len(lines)] == lines and len(lines) == written
    again = rows[len(lines) :]
    assert len(again) == pytest.approx(written / 1_000, abs=2)
    assert again[0] == lines[0] and again[1] != lines[1]
