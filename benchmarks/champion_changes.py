"""Latency at 400/s while the champion changes, beside the same service left alone, by turns.

    python benchmarks/champion_changes.py [--seconds 10] [--turns 3] [--trees 300] [--json]

Two models of as many trees and their policies take turns, a change a second. Each is loaded, checked and run
once by a thread of the process that decides, and then takes over between two groups. Nothing may fail, and
every decision must name the model that served at its position. Latency counts from the intended send time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.serve_speed import WARM_SECONDS, open_loop, ours, running  # noqa: E402  from the repository's root

from zaslon.features.plan import plan_features  # noqa: E402
from zaslon.flows.train import collect_samples, train_and_evaluate  # noqa: E402
from zaslon.intake import clean_days  # noqa: E402
from zaslon.models.training import TrainSettings  # noqa: E402
from zaslon.services.context import Context  # noqa: E402
from zaslon.services.home import Champion, keep_champion, load_champion  # noqa: E402
from zaslon.system.periodic import Periodic  # noqa: E402
from zaslon.testing import make_small_world  # noqa: E402

RATE = 400
SECONDS_A_CHANGE = 1.0


def challenger(context: Context, trees: int) -> Champion:
    """A second model of about as many trees, with its policy."""
    days = clean_days(context.home / "clean", context.catalogue)
    samples = collect_samples(context, days, label_delay_seconds=7 * 86_400)
    trained = train_and_evaluate(
        context, samples, TrainSettings(rounds=trees, rounds_max=trees, threads=1, seed=2)
    )
    return trained.model, trained.policy


def changing(context: Context, champions: Iterator[Champion]) -> Periodic:
    """Promote the next champion every second."""
    return Periodic(
        lambda: keep_champion(context, *next(champions), by="benchmark"), SECONDS_A_CHANGE, "promoting"
    )


def wrong_versions(context: Context) -> tuple[int, int, int]:
    """Decisions, changes, and decisions that name other versions than served at their position."""
    decisions = changes = wrong = 0
    serving: tuple[str, str] | None = None
    with closing(context.open_journal_for_reading()) as journal:
        for position, outcome in journal.outcomes():
            content = json.loads(outcome)
            if content["outcome"] == "change":
                changes, serving = changes + 1, (content["model"], content["policy"])
                continue
            if serving is None:
                begun = journal.serving(position)
                assert begun is not None
                serving = begun.model, begun.policy
            decisions += 1
            wrong += (content["model"], content["policy"]) != serving
    return decisions, changes, wrong


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="only one JSON object on standard output")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        world = make_small_world(home, rounds=given.trees)
        context = world.context
        first = load_champion(context, plan_features(context.catalogue))
        second = challenger(context, given.trees)
        champions = itertools.cycle([second, first])
        report: dict[str, Any] = {"trees": given.trees, "alone": [], "changing": []}
        service = ours("zaslon", home)
        with running(service):
            uvloop.run(open_loop(service, RATE, WARM_SECONDS))
            for _ in range(given.turns):
                report["alone"].append(_figures(uvloop.run(open_loop(service, RATE, given.seconds))))
                with changing(context, champions):
                    report["changing"].append(_figures(uvloop.run(open_loop(service, RATE, given.seconds))))
        report["decisions"], report["changes"], report["wrong_versions"] = wrong_versions(context)
    if given.json:
        print(json.dumps(report))
        return
    for name in ("alone", "changing"):
        for figures in report[name]:
            print(f"{name:9}" + "".join(f"  {key} {value:8.2f}" for key, value in figures.items()))
    print("{decisions} decisions, {changes} changes, {wrong_versions} with wrong versions".format(**report))


def _figures(latencies: list[float]) -> dict[str, float]:
    p50, p99, p99_9 = np.percentile(np.array(latencies) * 1000, [50, 99, 99.9]).round(2).tolist()
    return {"p50_ms": p50, "p99_ms": p99, "p99_9_ms": p99_9}


if __name__ == "__main__":
    main()
