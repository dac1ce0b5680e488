"""Latency at 400/s while the champion changes, beside the same service or stream left alone, and a replay.

    python benchmarks/champion_changes.py [--seconds 10] [--turns 3] [--trees 300] [--json]
    python benchmarks/champion_changes.py --stream [--changes 10] [--trees 300] [--json]

Two models of as many trees and their policies take turns, a change a second. Each is loaded, checked and run
once by a thread of the process that decides, and then takes over between two groups. Nothing may fail, every
decision must name the model that served at its position, and a replay of the log must give the same bytes:
exit code 1 if not. Latency counts from the intended send time.

    service  by turns with the same service left alone
    stream   a broker of its own (TLS, SCRAM) and two scorers; before the first change the stream is left alone
             for as long, and in the middle the scorer that decides is killed (`kill -9`), so that its standby
             takes over. What waited for that is listed by itself
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.serve_speed import (  # noqa: E402  from the repository's root
    BROKER_WARM_SECONDS,
    WARM_SECONDS,
    open_loop,
    ours,
    running,
)
from deploy.kafka.broker import LocalBroker  # noqa: E402
from tests.changed_log import ChangedLog, champions_by_name, check_log  # noqa: E402
from tests.integration.kafka_promotions import change_under_load  # noqa: E402
from tests.integration.kafka_world import Cluster  # noqa: E402
from tests.waiting import until  # noqa: E402

from zaslon.features.plan import plan_features  # noqa: E402
from zaslon.intake import clean_days  # noqa: E402
from zaslon.models.artefact import save_model  # noqa: E402
from zaslon.models.training import TrainSettings  # noqa: E402
from zaslon.services.context import Context  # noqa: E402
from zaslon.services.home import Champion, keep_champion, load_champion, named_champion  # noqa: E402
from zaslon.services.model_training import train_and_evaluate  # noqa: E402
from zaslon.services.samples import collect_samples  # noqa: E402
from zaslon.system.periodic import Periodic  # noqa: E402
from zaslon.testing import SmallWorld, make_small_world  # noqa: E402

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


def service(
    world: SmallWorld, second: Champion, *, alone: float, changing: float, turns: int
) -> dict[str, Any]:
    """Latencies by turns of `alone` and `changing` seconds, and what the log holds of the latter."""
    context, engine = world.context, world.engine()
    first = load_champion(context, engine.plan)
    save_model(second[0], context.home / "models" / second[0].artefact_id)
    champions = itertools.cycle([second, first])
    contender = ours("zaslon", context.home)
    report: dict[str, Any] = {"alone": [], "changing": []}
    disturbed: list[range] = []
    with running(contender):
        uvloop.run(open_loop(contender, RATE, WARM_SECONDS))
        for _ in range(turns):
            report["alone"].append(_figures(uvloop.run(open_loop(contender, RATE, alone))))
            begin = _end_of_log(context)
            with _changing(context, champions):
                report["changing"].append(_figures(uvloop.run(open_loop(contender, RATE, changing))))
            until(lambda: _is_made(context))
            disturbed.append(range(begin, _end_of_log(context)))
    with closing(context.open_journal_for_reading()) as journal:
        recorded = [outcome for _, outcome in journal.outcomes()]
        log = check_log(recorded, journal.read(0), engine, champions_by_name(first, second))
    return {**report, **_counted(log, disturbed)}


def stream(world: SmallWorld, second: Champion, place: Path, *, changes: int) -> dict[str, Any]:
    """Latencies before the changes, during them, and of what waited for the standby; the log as it is then."""
    first = load_champion(world.context, plan_features(world.context.catalogue))
    apart = int(RATE * SECONDS_A_CHANGE)
    broker = LocalBroker(place / "kafka", libs=ROOT / ".kafka" / "libs", fast_start=False)
    try:
        broker.start()
        live = change_under_load(
            Cluster.new(broker), world, [second, first], place, rate=RATE, changes=changes,
            warm=int(RATE * BROKER_WARM_SECONDS), alone=changes * apart, apart=apart,
        )  # fmt: skip
    finally:
        broker.kill()
    return {
        "alone": [_figures(live.alone_seconds)], "changing": [_figures(live.changing_seconds)],
        "waited_for_takeover": len(live.waiting_seconds), "takeover_seconds": round(live.takeover_seconds, 2),
        **_counted(live.log, [range(live.log.changes[0], len(live.log.outcomes))]),
    }  # fmt: skip


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stream", action="store_true", help="through Kafka, with a kill in the middle")
    parser.add_argument("--changes", type=int, default=10, help="of the stream")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn of the service")
    parser.add_argument("--turns", type=int, default=3, help="of the service")
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="only one JSON object on standard output")
    given = parser.parse_args()
    missing = LocalBroker.missing_tool() if given.stream else None
    if missing:
        parser.error(missing)
    with tempfile.TemporaryDirectory(prefix="zaslon-changes-") as scratch:
        world = make_small_world(Path(scratch) / "home", rounds=given.trees)
        second = challenger(world.context, given.trees)
        found = (
            stream(world, second, Path(scratch), changes=given.changes)
            if given.stream
            else service(world, second, alone=given.seconds, changing=given.seconds, turns=given.turns)
        )
    _show({"trees": given.trees, **found}, is_json=given.json)
    raise SystemExit(1 if found["wrong_versions"] or found["differing"] else 0)


def _changing(context: Context, champions: Iterator[Champion]) -> Periodic:
    """Promote the next champion every second."""
    return Periodic(
        lambda: keep_champion(context, *next(champions), by="benchmark"), SECONDS_A_CHANGE, "promoting"
    )


def _end_of_log(context: Context) -> int:
    with closing(context.open_journal_for_reading()) as journal:
        return journal.next_position


def _is_made(context: Context) -> bool:
    """Whether the log's newest record is decided by what the home names."""
    named = named_champion(context)
    with closing(context.open_journal_for_reading()) as journal:
        serving = journal.serving(journal.next_position - 1)
    return serving is not None and (serving.model, serving.policy) == (named.model, named.policy)


def _counted(log: ChangedLog, disturbed: Sequence[range]) -> dict[str, int]:
    """Decisions and changes of the disturbed turns only; what is wrong, of the whole log."""
    return {
        "decisions": sum(position in part for position in log.decided for part in disturbed),
        "changes": sum(position in part for position in log.changes for part in disturbed),
        "records": len(log.outcomes), "wrong_versions": len(log.wrong_versions),
        "differing": len(log.differing), "degraded": log.degraded,
    }  # fmt: skip


def _figures(seconds: Sequence[float]) -> dict[str, float]:
    p50, p99, p99_9 = np.percentile(np.array(seconds) * 1000, [50, 99, 99.9]).round(2).tolist()
    return {"p50_ms": p50, "p99_ms": p99, "p99_9_ms": p99_9}


def _show(report: dict[str, Any], *, is_json: bool) -> None:
    if is_json:
        print(json.dumps(report))
        return
    for name in ("alone", "changing"):
        for figures in report[name]:
            print(f"{name:9}" + "".join(f"  {key} {value:8.2f}" for key, value in figures.items()))
    if "takeover_seconds" in report:
        print(
            "{waited_for_takeover} transactions waited for a takeover of {takeover_seconds} s".format(
                **report
            )
        )
    print(
        "{decisions} decisions and {changes} changes in the disturbed turns; of all {records} records "
        "{wrong_versions} with wrong versions, {differing} that a replay gives otherwise".format(**report)
    )


if __name__ == "__main__":
    main()
