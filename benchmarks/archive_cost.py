"""What the archive of decisions costs: how fast it copies, how much room it takes, what decides beside it.

    python benchmarks/archive_cost.py [--url postgresql://user@host/database] [--section copy]… [--json]

    copy     a log of simulated decisions, written into a new home with the engine, is copied by `store archive`
    service  p50, p99 and p99.9 at 400/s, by turns alone and with `store archive` beside the service
    stream   the same of the stream with a broker of its own, copied with `--log stream`
    idle     the processor time of `store archive --log stream` after the stream has stopped

The database must be empty and may be thrown away; without `--url` a PostgreSQL of its own is started, which writes to
disk as in production. docs/benchmarks.md has the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import uvloop

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.serve_speed import (  # noqa: E402  from the repository's root
    BROKER_WARM_SECONDS,
    WARM_SECONDS,
    cpu_seconds,
    open_loop,
    ours,
    running,
)
from deploy.kafka.broker import LocalBroker  # noqa: E402
from tests.integration.kafka_promotions import Traffic  # noqa: E402
from tests.integration.kafka_world import Cluster  # noqa: E402
from tests.postgres_server import LocalPostgres  # noqa: E402
from tests.waiting import until  # noqa: E402

from zaslon.bootstrap import build_context, migrate_store  # noqa: E402
from zaslon.flows.archive import archive  # noqa: E402
from zaslon.flows.run import run  # noqa: E402
from zaslon.settings import load_settings  # noqa: E402
from zaslon.simulate import simulation_profile, write_simulation  # noqa: E402
from zaslon.testing import make_small_world  # noqa: E402

SECTIONS = ("copy", "service", "stream", "idle")
RATE, TREES = 400, 300


def copy(url: str, scratch: Path, decisions: int) -> dict[str, float]:
    """A log that is complete, copied in one go."""
    home, raw = scratch / "copied", scratch / "all.csv"
    profile = simulation_profile("handbook", customers=decisions // 40, terminals=decisions // 20)
    write_simulation(profile, 60, 1, raw)
    context = build_context(load_settings(home=home, test_days=20, period_days_max=20, store_url=url))
    run(context, [str(raw)], compare_delays=False)
    begin, cpu = time.perf_counter(), _own_cpu_seconds()
    done = archive(context, keep_days=None, is_over=lambda _: True, notify=print, waits=False)
    seconds, cpu = time.perf_counter() - begin, _own_cpu_seconds() - cpu
    return {
        "decisions": done.decisions, "decisions_per_second": round(done.decisions / seconds),
        "cpu_us_per_decision": round(cpu / done.decisions * 1e6, 1),
        "bytes_per_decision": round(_archived_bytes(url) / done.decisions),
    }  # fmt: skip


def service(url: str, scratch: Path, seconds: float, turns: int) -> dict[str, Any]:
    """The embedded service; only the copier knows of PostgreSQL."""
    home = scratch / "served"
    make_small_world(home, rounds=TREES)
    contender = ours("zaslon", home)
    report: dict[str, Any] = {"alone": [], "archiving": [], "copier": []}
    with running(contender):
        uvloop.run(open_loop(contender, RATE, WARM_SECONDS))
        for _ in range(turns):
            report["alone"].append(_figures(uvloop.run(open_loop(contender, RATE, seconds))))
            with _copier(home, "log", url, {}, report["copier"]):
                report["archiving"].append(_figures(uvloop.run(open_loop(contender, RATE, seconds))))
    return report


def stream(url: str, scratch: Path, seconds: float, turns: int) -> dict[str, Any]:
    """The stream; the copier reads its log from the broker."""
    world = make_small_world(scratch / "streamed", rounds=TREES)
    report: dict[str, Any] = {"alone": [], "archiving": [], "copier": []}
    count = int(RATE * seconds)
    with _broker(scratch / "kafka") as broker:
        cluster = Cluster.new(broker)
        home = world.context.home
        traffic = Traffic(cluster, RATE)
        with cluster.scorer(home) as scorer:
            assert scorer.prints("Deciding"), scorer.printed
            with traffic.flowing():
                traffic.wait_for(int(RATE * BROKER_WARM_SECONDS))
                for _ in range(turns):
                    report["alone"].append(_turn(traffic, count))
                    with _copier(home, "stream", url, cluster.environment("viewer"), report["copier"]):
                        report["archiving"].append(_turn(traffic, count))
                traffic.wait_for_all()
    return report


def idle(url: str, scratch: Path, seconds: float) -> dict[str, float]:
    """A stream that has decided some records and is over; the copier waits for more."""
    home = make_small_world(scratch / "still").context.home
    with _broker(scratch / "still-kafka") as broker:
        cluster = Cluster.new(broker)
        traffic = Traffic(cluster, RATE)
        with cluster.scorer(home) as scorer:
            assert scorer.prints("Deciding"), scorer.printed
            with traffic.flowing():
                traffic.wait_for(RATE)
                traffic.wait_for_all()
        figures: list[dict[str, float]] = []
        with _copier(home, "stream", url, cluster.environment("viewer"), figures):
            time.sleep(seconds)
    return figures[0]


def main(arguments: Sequence[str]) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", help="of an empty database")
    parser.add_argument("--section", action="append", choices=SECTIONS, default=[], help="all if not given")
    parser.add_argument("--decisions", type=int, default=100_000, help="of the section copy")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    given = parser.parse_args(arguments)
    asked = given.section or list(SECTIONS)
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="archive-") as directory, _database(given.url) as url:
        scratch = Path(directory)
        migrate_store(load_settings(home=scratch / "migrated", store_url=url))
        if "copy" in asked:
            report["copy"] = copy(url, scratch, given.decisions)
        if "service" in asked:
            report["service"] = service(url, scratch, given.seconds, given.turns)
        if "stream" in asked:
            report["stream"] = stream(url, scratch, given.seconds, given.turns)
        if "idle" in asked:
            report["idle"] = idle(url, scratch, given.seconds)
    print(json.dumps(report, indent=None if given.json else 1))
    return 0


@contextmanager
def _broker(directory: Path) -> Iterator[LocalBroker]:
    broker = LocalBroker(directory, libs=ROOT / ".kafka" / "libs", fast_start=False)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@contextmanager
def _database(url: str | None) -> Iterator[str]:
    """The database that was given, or one of a server that lives as long as the block."""
    if url is not None:
        yield url
        return
    server = LocalPostgres(syncs=True)
    server.start()
    try:
        yield server.new_database()
    finally:
        server.remove()


@contextmanager
def _copier(
    home: Path, log: str, url: str, environment: Mapping[str, str], figures: list[dict[str, float]]
) -> Iterator[None]:
    """`store archive` in a process of its own, at work; what it copied, and its CPU in percent of a core."""
    command = ["store", "archive", "--home", str(home), "--log", log, "--json"]
    archived = _archived(url)
    copier = subprocess.Popen(
        [sys.executable, "-m", "zaslon.entrypoints.cli", *command],
        env={**os.environ, **environment, "ZASLON_STORE_URL": url}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: _archived(url) > archived, look_seconds=0.2)  # what was decided before
    begin, before = time.perf_counter(), cpu_seconds(copier.pid)
    try:
        yield
        used, seconds = cpu_seconds(copier.pid) - before, time.perf_counter() - begin
    finally:
        copier.send_signal(signal.SIGTERM)
        out, _ = copier.communicate()
    figures.append({"decisions": json.loads(out)["decisions"], "cpu_percent": round(100 * used / seconds, 1)})


def _archived(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT coalesce(sum(next_position), 0) FROM archive.places").fetchone()
    return int(found[0]) if found else 0


def _turn(traffic: Traffic, count: int) -> dict[str, float]:
    """Latencies of the transactions that are sent while `count` more are decided."""
    begin = time.perf_counter()
    traffic.wait_for(count)
    end = time.perf_counter()
    # A list of the dictionary: its thread goes on to fill it.
    moments = [(key, sent) for key, sent in list(traffic.intended.items()) if begin <= sent < end]
    traffic.wait_for(RATE)  # the last of them too
    return _figures([traffic.decided[key] - sent for key, sent in moments])


def _figures(seconds: Sequence[float]) -> dict[str, float]:
    p50, p99, p99_9 = np.percentile(np.array(seconds) * 1000, [50, 99, 99.9]).round(2).tolist()
    return {"p50_ms": p50, "p99_ms": p99, "p99_9_ms": p99_9}


def _archived_bytes(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'archive.decisions'::regclass"
        ).fetchone()
    return int(found[0]) if found else 0


def _own_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
