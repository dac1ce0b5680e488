"""Cleaning and features in Spark: ours beside native Spark SQL on the same rows, with equal results.

    make .spark/venv/installed.stamp
    .spark/venv/bin/python benchmarks/spark.py [--rows 1000000] [--section NAME]… [--turns 3] [--json]

clean      the mission's text in files, with its defects, to clean days and a quarantine
features   clean days to the default catalogue's features, but for three that Spark SQL has no frame for
memory     ours: memory of a task, bytes exchanged and spilled, with 1 to 8 partitions, one task at a time
skew       ours: the mission's terminals, of which one has 4.2 % of the rows, beside even ones
scaling    ours: 1 and 2 cores, 1 to 8 partitions

In `clean` and `features` both ways have a process and a session of their own and run by turns; the first turn
warms up, and its results are compared. CPU is that of the whole tree: driver, JVM, Python workers, those that
have ended too. `speed/native_cleaning.py` and `speed/native_features.py` are the native way.
One JSON object with --json, else the same, indented.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.speed.rows import write_clean, write_raw, write_sources
from benchmarks.speed.spark_events import exchanged
from benchmarks.speed.spark_results import check_clean, check_features
from benchmarks.speed.spark_work import SparkProcess, Turn

from zaslon.domain.catalogue import load_catalogue

SECTIONS = ("clean", "features", "memory", "skew", "scaling")
ROWS_MIN = 20_000
_SOURCES, _CORES = 8, 2
_GOALS = {"clean": 3.0, "features": 5.0}


@dataclass(frozen=True)
class Inputs:
    """What is worked on: files of text, and clean days; `rows` and `clean_rows` in them."""

    directory: Path
    sources: list[str]
    days: list[str]
    rows: int
    clean_rows: int

    def of(self, work: str) -> list[str]:
        """Those of `clean` or of `features`."""
        return self.sources if work == "clean" else self.days

    def count(self, work: str) -> int:
        """Their rows."""
        return self.rows if work == "clean" else self.clean_rows


def make_inputs(rows: int, directory: Path, *, is_skewed: bool = True) -> Inputs:
    """Simulate."""
    directory.mkdir()
    raw, clean = directory / "raw.txt", directory / "clean"
    written = write_raw(rows, raw, is_skewed=is_skewed)
    sources = write_sources(raw, directory / "sources", _SOURCES)
    raw.unlink()
    count = write_clean([Path(source) for source in sources], clean, load_catalogue())
    return Inputs(directory, sources, sorted(map(str, clean.glob("day=*/*.parquet"))), written, count)


def compared(work: str, inputs: Inputs, turns: int, partitions: int, memory: str) -> dict[str, Any]:
    """Both ways by turns."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=inputs.directory)))
        names = {"ours": work, "native": f"native_{work}"}
        processes = {
            who: stack.enter_context(SparkProcess(scratch / who, _CORES, partitions, memory)) for who in names
        }
        done: dict[str, list[Turn]] = {who: [] for who in names}
        for _ in range(1 + turns):
            for who, name in names.items():
                done[who].append(processes[who].turn(name, inputs.of(work), scratch / f"{who}.out"))
            if len(done["ours"]) == 1:
                equal = _checked(work, done, scratch)
        last = {who: exchanged(process.events_of_turn()) for who, process in processes.items()}
    measured = {who: all_turns[1:] for who, all_turns in done.items()}
    return {
        "rows": inputs.count(work), "equal": equal, "goal": _GOALS[work], **_ratios(measured),
        **{who: _figures(inputs.count(work), of) | last[who].to_json_dict() for who, of in measured.items()},
    }  # fmt: skip


def _checked(work: str, done: dict[str, list[Turn]], scratch: Path) -> dict[str, int]:
    found = {who: of[0].found for who, of in done.items()}
    if found["ours"] != found["native"]:
        raise SystemExit(f"other counts by reason: {found}")
    check = check_clean if work == "clean" else check_features
    return check(scratch / "ours.out", scratch / "native.out")


def _ratios(turns: dict[str, list[Turn]]) -> dict[str, Any]:
    ratios = [native.cpu / ours.cpu for ours, native in zip(turns["ours"], turns["native"], strict=True)]
    return {"ours_is_faster_by": round(median(ratios), 2), "by_turn": [round(ratio, 2) for ratio in ratios]}


def _figures(rows: int, turns: Sequence[Turn]) -> dict[str, Any]:
    best = min(turns, key=lambda turn: turn.cpu)
    return {
        "rows_per_cpu_second": round(rows / best.cpu),
        "cpu_seconds": [round(turn.cpu, 2) for turn in turns],
        "cpu_seconds_by_program": {program: round(cpu, 2) for program, cpu in best.cpu_seconds.items()},
        "seconds": [round(turn.seconds, 1) for turn in turns],
        "peak_mib_of_a_process": turns[-1].peak_mib,
    }


def grid(
    work: str, inputs: Inputs, cores: Sequence[int], partitions: Sequence[int], memory: str
) -> list[dict[str, Any]]:
    """Ours with every number of cores and partitions, in a new session each; the second of two turns counts."""
    found = []
    for number in cores:
        for count in partitions:
            with (
                tempfile.TemporaryDirectory(dir=inputs.directory) as name,
                SparkProcess(Path(name) / "spark", number, count, memory) as process,
            ):
                turns = [process.turn(work, inputs.of(work), Path(name) / "out") for _ in range(2)]
                spark = exchanged(process.events_of_turn()).to_json_dict()
            found.append(
                {
                    "work": work,
                    "cores": number,
                    "partitions": count,
                    **_figures(inputs.count(work), turns[1:]),
                    **spark,
                }
            )
            print(json.dumps(found[-1]), file=sys.stderr)
    return found


def skewed(rows: int, scratch: Path, partitions: int, memory: str) -> list[dict[str, Any]]:
    """Features with the mission's terminals and with even ones."""
    found = []
    for name, is_skewed in (("mission", True), ("even", False)):
        inputs = make_inputs(rows, scratch / name, is_skewed=is_skewed)
        (one,) = grid("features", inputs, [_CORES], [partitions], memory)
        found.append({"terminals": name, **one})
        rmtree(inputs.directory)
    return found


def measured(section: str, given: argparse.Namespace, scratch: Path) -> Any:
    """One section's figures."""
    if section == "skew":
        return skewed(given.rows, scratch, given.partitions, given.memory)
    inputs = make_inputs(given.rows, scratch / section)
    if section in _GOALS:
        return compared(section, inputs, given.turns, given.partitions, given.memory)
    cores = (1,) if section == "memory" else (1, 2)
    return [line for work in _GOALS for line in grid(work, inputs, cores, (1, 2, 4, 8), given.memory)]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--section", action="append", choices=SECTIONS, default=[])
    parser.add_argument("--turns", type=int, default=3, help="measured turns, after one to warm up")
    parser.add_argument(
        "--partitions", type=int, default=4, help="of an exchange, in clean, features and skew"
    )
    parser.add_argument("--memory", default="2g", help="of a JVM")
    parser.add_argument("--scratch", type=Path, help="directory for inputs and outputs, some 500 bytes a row")
    parser.add_argument("--json", action="store_true", help="one line")
    given = parser.parse_args()
    if given.rows < ROWS_MIN:
        parser.error(f"--rows must be at least {ROWS_MIN:,}: fewer leave nothing to measure.")
    if given.turns < 1:
        parser.error("--turns must be at least 1.")
    found: dict[str, Any] = {}
    for section in given.section or SECTIONS:
        print(f"{section} …", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="zaslon-spark-", dir=given.scratch) as name:
            found[section] = measured(section, given, Path(name))
        print(json.dumps({section: found[section]}), file=sys.stderr)  # the next one may end the program
    print(json.dumps(found, indent=None if given.json else 1))


if __name__ == "__main__":
    main()
