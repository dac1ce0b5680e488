"""The stream end to end on one machine, broker included, beside the mission's way and Quix Streams.

    python benchmarks/stream_speed.py [--transactions 600000] [--seconds 15] [--only zaslon]… [--json]

Starts a broker of its own (TLS, SCRAM), trains a model of 300 trees on simulated transactions, and
    throughput  drains a backlog with `zaslon stream`, exactly once; CPU of broker and scorer by stage
    latency     sends 50, 400 and 5,000 transactions a second at fixed times whatever comes back (open
                loop) and waits for each at a `read_committed` consumer; before that 400 a second for
                some time, in which the broker's Java compiles what a drained backlog has not used
    standbys    drains the same backlog with none, one and two standbys on the same cores: what they cost the
                scorer that decides
    mission     the same lines, consumed as the mission does, and tuned: stream_peers.py says how
    quix        the same lines through a stateful Quix Streams application, in its own environment
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.environments import own_python  # noqa: E402  from the repository's root
from confluent_kafka import TopicPartition  # noqa: E402
from deploy.kafka.broker import LocalBroker  # noqa: E402
from tests.integration.kafka_world import Cluster, Scorer, begin_from_clean_days  # noqa: E402

from zaslon.adapters.cluster.kafka.connection import Watch  # noqa: E402
from zaslon.admission import admit  # noqa: E402
from zaslon.admission.log_format import encode  # noqa: E402
from zaslon.domain.events import Kind, RecordBatch  # noqa: E402
from zaslon.engine import Engine  # noqa: E402
from zaslon.engine.batch_outcomes import BatchOutcomes  # noqa: E402
from zaslon.flows.stream import newest_state, stream_snapshots  # noqa: E402
from zaslon.services.changes import champion_of_home  # noqa: E402
from zaslon.testing import SmallWorld, make_small_world  # noqa: E402

RATES = (50, 400, 5_000)
BATCH = 5_000
TREES = 300
STANDBYS = 2
WARM_UP_RATE, WARM_UP_SECONDS = 400, 30.0
CONTENDERS = ("zaslon", "standbys", "mission_way", "mission_way_tuned", "quix_streams")
# Enough lines for some ten seconds, so that Quix Streams also commits several times in what is counted.
PEER_LINES = {"mission_way": 60_000, "mission_way_tuned": 240_000, "quix_streams": 400_000}


def cpu_seconds(pid: int) -> float:
    """Processor time of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send_all(cluster: Cluster, lines: Sequence[bytes]) -> None:
    """Fill topic `input`."""
    for begin in range(0, len(lines), 50_000):
        cluster.send("input", lines[begin : begin + 50_000])


def throughput(
    cluster: Cluster, scorer: Scorer, transactions: int, broker: LocalBroker
) -> tuple[float, float, float]:
    """(transactions a second, µs of the scorer's CPU and of the broker's per transaction).

    Counted from the second commit on, so that neither start nor first use is in it.
    """
    consumer = cluster.connection("scorer").consumer(Watch("broker"), group_id=f"zaslon-{cluster.number}")
    place = [TopicPartition(cluster.topic("input"), 0)]

    def done() -> int:
        return max(0, consumer.committed(place, 20)[0].offset)

    while done() < transactions // 3:
        assert scorer.process.poll() is None, scorer.printed
        time.sleep(0.02)
    first, begin = done(), time.perf_counter()
    before = cpu_seconds(scorer.process.pid), broker.cpu_seconds()
    while (now := done()) < transactions:
        time.sleep(0.02)
    seconds = time.perf_counter() - begin
    counted = now - first
    used = cpu_seconds(scorer.process.pid) - before[0], broker.cpu_seconds() - before[1]
    consumer.close()
    return counted / seconds, used[0] / counted * 1e6, used[1] / counted * 1e6


def stages(world: SmallWorld, lines: Sequence[bytes]) -> dict[str, float]:
    """µs of CPU per transaction of each stage, in this process, in batches as the stream's."""
    context = world.context
    engine, _ = newest_state(context, stream_snapshots(context), champion_of_home(context).champion, print)
    used = dict.fromkeys(("admit", "order", "features", "score", "decide", "encode"), 0.0)
    counted = 0
    for begin in range(0, len(lines), BATCH):
        part = lines[begin : begin + BATCH]
        batch = RecordBatch.of(part, [Kind.TRANSACTION_LINE] * len(part), [2_000_000_000] * len(part), begin)
        marks = _one_batch(engine, batch)
        if begin >= len(lines) // 3:  # the first batches pay for what happens once
            counted += len(part)
            for name, cpu in zip(used, np.diff(marks), strict=True):
                used[name] += float(cpu)
    return {name: cpu / counted * 1e6 for name, cpu in used.items()}


def _one_batch(engine: Engine, batch: RecordBatch) -> list[float]:
    """CPU marks around the stages: admission, the order's records, then the calls of `Engine.process`."""
    assert engine.model is not None
    marks = [time.process_time()]
    admitted = admit(batch, engine.catalogue, engine.key)
    marks.append(time.process_time())
    encode(admitted, engine.catalogue)
    marks.append(time.process_time())
    applied = engine.apply(admitted.transactions, admitted.labels, admitted.is_label)
    marks.append(time.process_time())
    scores = engine.model.score(engine.for_model(applied.matrix))
    marks.append(time.process_time())
    outcomes = BatchOutcomes(engine, admitted, applied, applied.status == 0, scores).assemble()
    engine.position += len(batch)
    marks.append(time.process_time())
    for outcome in outcomes:
        outcome.to_json()
    marks.append(time.process_time())
    return marks


def latency(cluster: Cluster, lines: Sequence[bytes], rate: int, seconds: float) -> dict[str, float]:
    """p50, p99, p99.9 in ms from the intended moment of sending to the read of the outcome."""
    count = min(int(rate * seconds), len(lines))
    arrived: dict[bytes, float] = {}
    outcomes = {line.split(b",", 1)[0] for line in lines[:count]}
    ready, stop = threading.Event(), threading.Event()

    def read() -> None:
        consumer = cluster.connection("viewer").consumer(
            Watch("broker"), group_id="viewer-latency", auto_offset_reset="error", fetch_wait_max_ms=10
        )
        place = TopicPartition(cluster.topic("predictions"), 0)
        place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
        consumer.assign([place])
        consumer.poll(1)
        ready.set()
        while not stop.is_set() and len(arrived) < count:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None and (key := message.key()) in outcomes:
                arrived.setdefault(key, time.perf_counter())
        consumer.close()

    reader = threading.Thread(target=read)
    reader.start()
    assert ready.wait(30)
    producer = cluster.connection("producer").producer(Watch("broker"), linger_ms=0)
    intended = _send_at_rate(producer, cluster.topic("input"), lines[:count], rate)
    reader.join(10)
    stop.set()
    reader.join()
    # What is rejected has its outcome elsewhere; a late decision counts as long as it was waited for.
    found = [arrived[key] - moment for key, moment in intended.items() if key in arrived]
    assert len(found) > 0.95 * count, f"{len(found)} of {count} came back at {rate}/s"
    p50, p99, p99_9 = np.quantile(found, (0.5, 0.99, 0.999)) * 1000
    return {"p50": round(p50, 2), "p99": round(p99, 2), "p99_9": round(p99_9, 2)}


def _send_at_rate(producer: Any, topic: str, lines: Sequence[bytes], rate: int) -> dict[bytes, float]:
    """Send each line at its own moment; the moments by transaction id."""
    begin = time.perf_counter() + 0.1
    intended = {}
    for number, line in enumerate(lines):
        moment = begin + number / rate
        while (left := moment - time.perf_counter()) > 0:
            time.sleep(left)
        producer.produce(topic, line)
        producer.poll(0)
        intended[line.split(b",", 1)[0]] = moment
    producer.flush(30)
    return intended


def zaslon(world: SmallWorld, broker: LocalBroker, lines: list[bytes], seconds: float) -> dict[str, Any]:
    """Throughput, CPU by stage, latency."""
    cluster = Cluster.new(broker)
    warm_up = int(WARM_UP_RATE * WARM_UP_SECONDS)
    reserved = sum(int(rate * seconds) for rate in RATES) + warm_up
    backlog, later = lines[:-reserved], lines[-reserved:]
    by_stage = stages(world, backlog)
    send_all(cluster, backlog)
    with cluster.scorer(world.context.home, ZASLON_STREAM_BATCH_RECORDS=str(BATCH)) as scorer:
        rate, scorer_us, broker_us = throughput(cluster, scorer, len(backlog), broker)
        latency(cluster, later[:warm_up], WARM_UP_RATE, WARM_UP_SECONDS)
        later = later[warm_up:]
        latencies = {}
        for each in RATES:
            count = int(each * seconds)
            latencies[str(each)] = latency(cluster, later[:count], each, seconds)
            later = later[count:]
        scorer.terminate()
    cpu = {"broker": broker_us, "client": max(0.0, scorer_us - sum(by_stage.values())), **by_stage}
    return {
        "tx_per_second": round(rate),
        "cpu_us": {name: round(us, 2) for name, us in cpu.items()},
        "latency_ms": latencies,
        "backlog": len(backlog),
    }


def standbys(world: SmallWorld, broker: LocalBroker, lines: list[bytes], scratch: Path) -> dict[str, Any]:
    """Throughput of the scorer that decides, by the number of its standbys, and what these use themselves."""
    found = [_with_standbys(world, broker, lines, scratch, count) for count in range(STANDBYS + 1)]
    for values in found:
        values["cost_percent"] = round(100 * (1 - values["tx_per_second"] / found[0]["tx_per_second"]), 1)
    return {str(count): values for count, values in enumerate(found)}


def _with_standbys(
    world: SmallWorld, broker: LocalBroker, lines: list[bytes], scratch: Path, count: int
) -> dict[str, Any]:
    """All scorers are stopped while the backlog is sent, so that they begin it together."""
    cluster = Cluster.new(broker)
    settings = {"ZASLON_STREAM_BATCH_RECORDS": str(BATCH), "ZASLON_KAFKA_SESSION_TIMEOUT_SECONDS": "120"}
    homes = [
        Path(shutil.copytree(world.context.home, scratch / f"{cluster.number}-{n}")) for n in range(count + 1)
    ]
    with ExitStack() as stack:
        scorers = [stack.enter_context(cluster.scorer(homes[0], **settings))]
        assert scorers[0].prints("Deciding"), scorers[0].printed
        for home in homes[1:]:
            scorers.append(stack.enter_context(cluster.scorer(home, **settings)))
            assert scorers[-1].prints("Replaying"), scorers[-1].printed
        for scorer in scorers:
            scorer.process.send_signal(signal.SIGSTOP)
        send_all(cluster, lines)
        for scorer in scorers:
            scorer.process.send_signal(signal.SIGCONT)
        before = [cpu_seconds(scorer.process.pid) for scorer in scorers[1:]]
        rate, scorer_us, broker_us = throughput(cluster, scorers[0], len(lines), broker)
        used = [cpu_seconds(s.process.pid) - b for s, b in zip(scorers[1:], before, strict=True)]
    return {
        "tx_per_second": round(rate), "scorer_us": round(scorer_us, 2), "broker_us": round(broker_us, 2),
        "standby_us": [round(seconds / len(lines) * 1e6, 2) for seconds in used],
    }  # fmt: skip


def peer(
    name: str, python: Path, broker: LocalBroker, lines: Sequence[bytes], scratch: Path
) -> dict[str, Any]:
    """A peer in a process of its own, on topics of its own."""
    cluster = Cluster.new(broker)
    send_all(cluster, lines)
    done = subprocess.run(
        [str(python), str(ROOT / "benchmarks" / "stream_peers.py"), name, str(len(lines)), str(scratch)],
        env={**os.environ, **cluster.environment("admin")}, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--transactions", type=int, default=600_000)
    parser.add_argument("--seconds", type=float, default=15, help="of each rate of the latency test")
    parser.add_argument("--only", action="append", choices=CONTENDERS, default=[])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    given = parser.parse_args()
    missing = LocalBroker.missing_tool()
    if missing:
        parser.error(missing)
    is_spark_asked = any(name.startswith("mission_way") for name in given.only or CONTENDERS)
    if is_spark_asked and find_spec("pyspark") is None:
        parser.error("The mission's way needs PySpark, an extra: `make bench` installs it.")
    least = int(sum(RATES) * given.seconds + WARM_UP_RATE * WARM_UP_SECONDS) + 50_000
    if given.transactions < least:
        parser.error(f"--transactions must be at least {least}: the latency test takes them from the end.")
    with tempfile.TemporaryDirectory(prefix="zaslon-stream-") as scratch:
        report = measure(given, Path(scratch))
    print(json.dumps(report, indent=None if given.json else 1))


def measure(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Everything that was asked for."""
    asked = given.only or list(CONTENDERS)
    world = make_small_world(
        scratch / "world", customers=given.transactions // 14 + 1, log_rows=given.transactions, rounds=TREES
    )
    lines = [r for r, k in zip(world.records, world.kinds, strict=True) if k == Kind.TRANSACTION_LINE]
    begin_from_clean_days(world.context, world.context.home / "clean", last=12)
    broker = LocalBroker(scratch / "kafka", libs=ROOT / ".kafka" / "libs", fast_start=False)
    broker.start()
    report: dict[str, Any] = {"transactions": len(lines), "trees": TREES}
    if "quix_streams" in asked:
        own_python("quix")
    try:
        if "zaslon" in asked:
            report["zaslon"] = zaslon(world, broker, lines, given.seconds)
        if "standbys" in asked:
            report["standbys"] = standbys(world, broker, lines, scratch)
        for name, count in PEER_LINES.items():
            if name in asked:
                python = own_python("quix") if name == "quix_streams" else Path(sys.executable)
                report[name] = peer(name, python, broker, lines[:count], scratch)
    finally:
        broker.kill()
    return report


if __name__ == "__main__":
    main()
