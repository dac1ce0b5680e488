"""Fire: scorers and the broker are killed at seeded moments while records keep coming.

Used by the integration test in small and by `benchmarks/fire.py` in full.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.kafka_world import Cluster, Scorer
from tests.waiting import until

from zaslon.domain.events import Kind
from zaslon.testing import SmallWorld

SESSION_SECONDS = 3
_SLICES = 200


@dataclass
class Fire:
    """What was done and what came of it."""

    records: int
    kills: int = 0
    broker_kills: int = 0
    standbys_left: int = 0
    takeover_seconds: list[float] = field(default_factory=list)
    micro_batches: int = 0
    equal: bool = False
    difference: str = ""
    seconds: float = 0.0

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **vars(self),
            "takeover_seconds": [round(s, 2) for s in self.takeover_seconds],
            "seconds": round(self.seconds, 1),
        }


def burn(
    cluster: Cluster, world: SmallWorld, scratch: Path, *, seed: int, kills: int, feed_seconds: float,
    broker_kill: bool,
) -> Fire:  # fmt: skip
    """Feed the world's records, kill the active scorer `kills` times, and compare the outcomes.

    Two scorers run. The active scorer is killed at a random moment; the other takes over, and a new
    one starts. Once the broker is killed and started again, and once a standby joins and leaves.
    """
    chance = random.Random(seed)
    fire = Fire(len(world.records))
    begin = time.perf_counter()
    feeder = threading.Thread(target=_feed, args=(cluster, world, feed_seconds), daemon=True)
    with ExitStack() as stack:
        scorers = [_start(cluster, world, scratch / f"home-{i}", stack) for i in range(2)]
        feeder.start()
        for round_ in range(kills):
            active = _active(scorers)
            time.sleep(chance.uniform(0.3, 1.5))  # the moment of the kill is random
            if broker_kill and round_ == kills // 2:
                for scorer in scorers:  # one that has not connected yet would end
                    assert scorer.prints("Replaying the log"), scorer.printed
                cluster.broker.kill()
                time.sleep(chance.uniform(0.0, 1.0))
                cluster.broker.start()
                fire.broker_kills += 1
                active = _active(scorers)
            active.kill()
            died_at = time.time()
            scorers.remove(active)
            _active(scorers)
            fire.takeover_seconds.append(time.time() - died_at)
            fire.kills += 1
            scorers.append(_start(cluster, world, scratch / f"home-{round_ + 2}", stack))
        leaver = next(s for s in scorers if s is not _active(scorers))
        assert leaver.prints("Replaying the log")
        leaver.terminate()
        fire.standbys_left += 1
        feeder.join()
        cluster.wait_for(len(world.records))
        _active([s for s in scorers if s is not leaver]).terminate()
    published = cluster.published()
    engine = world.engine()
    batches = list(cluster.recorded(engine.catalogue))
    fire.micro_batches = len(batches)
    embedded = [o.to_json() for batch in batches for o in engine.process(batch).outcomes]
    fire.difference = _first_difference(published, embedded, len(world.records))
    fire.equal = not fire.difference
    fire.seconds = time.perf_counter() - begin
    return fire


def _start(cluster: Cluster, world: SmallWorld, home: Path, stack: ExitStack) -> Scorer:
    world.in_home(home)
    return stack.enter_context(
        cluster.scorer(
            home,
            ZASLON_KAFKA_SESSION_TIMEOUT_SECONDS=str(SESSION_SECONDS),
            ZASLON_SNAPSHOT_EVERY_RECORDS="5000",
            ZASLON_PSEUDONYM_KEY=world.context.key.decode(),
        )
    )


def _active(scorers: Sequence[Scorer]) -> Scorer:
    """The scorer that decides now: of those alive, the last that reported it."""

    def deciding() -> Scorer | None:
        found = [s for s in scorers if s.is_deciding]
        dead = [s for s in scorers if s.process.poll() is not None]
        assert found or not dead, dead[0].printed
        return found[-1] if found else None

    found = until(deciding, lambda: "\n".join(line for s in scorers for line in s.aborted()))
    assert found is not None
    return found


def _feed(cluster: Cluster, world: SmallWorld, seconds: float) -> None:
    parts = {
        "input": [r for r, k in zip(world.records, world.kinds, strict=True) if k != Kind.LABEL_JSON],
        "labels": [r for r, k in zip(world.records, world.kinds, strict=True) if k == Kind.LABEL_JSON],
    }
    home = cluster.broker.directory / "home"
    senders = {
        name: cluster.context("producer", home).adapters.open_sender(cluster.topic(name), _tell)
        for name in parts
    }
    for number in range(_SLICES):
        for name, records in parts.items():
            senders[name].send(
                records[number * len(records) // _SLICES : (number + 1) * len(records) // _SLICES]
            )
        time.sleep(seconds / _SLICES)
    for name, sender in senders.items():
        assert sender.finish() == len(parts[name])


def _first_difference(published: Sequence[bytes], embedded: Sequence[bytes], records: int) -> str:
    """Where the outcomes of the stream and of the embedded engine part; empty where they do not."""
    if not len(published) == len(embedded) == records:
        return f"{records} records, {len(published)} outcomes published, {len(embedded)} recorded"
    pairs = ((i, a, b) for i, (a, b) in enumerate(zip(published, embedded, strict=True)) if a != b)
    return next((f"at {i}: {a!r} is not {b!r}" for i, a, b in pairs), "")


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)
