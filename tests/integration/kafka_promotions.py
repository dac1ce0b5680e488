"""Champions change while transactions keep coming at a fixed rate, and the active scorer dies in the middle.

Used by the integration test in small and by `benchmarks/champion_changes.py --stream` in full.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import orjson
from confluent_kafka import KafkaError, Message, TopicPartition
from tests.changed_log import ChangedLog, champions_by_name, check_log
from tests.integration.kafka_world import Cluster, Scorer
from tests.payments import payments
from tests.waiting import DEADLINE_SECONDS, until

from zaslon.adapters.cluster.kafka.connection import Watch
from zaslon.decisions.policy import Policy
from zaslon.models.artefact import save_model
from zaslon.models.model import Model
from zaslon.services.context import Context
from zaslon.services.home import Champion, keep_champion, keep_policy, named_champion
from zaslon.testing import SmallWorld

IN_STEP_SECONDS = 0.1  # a transaction that is decided so soon did not wait for a takeover
_SESSION_SECONDS = 3


def promote(context: Context, model: Model, policy: Policy) -> None:
    save_model(model, context.home / "models" / model.artefact_id)
    keep_champion(context, model, policy, by="me")


def two_homes(world: SmallWorld, place: Path) -> tuple[Context, Context, dict[str, str]]:
    """Two homes with the same champion, and settings with which their scorers share a log."""
    here, there = (world.in_home(place / name).context for name in ("here", "there"))
    settings = {
        "ZASLON_KAFKA_SESSION_TIMEOUT_SECONDS": str(_SESSION_SECONDS),
        "ZASLON_PSEUDONYM_KEY": world.context.key.decode(),
    }  # fmt: skip
    return here, there, settings


class Traffic:
    """Sends transactions at fixed moments whatever comes back, and notes when each was decided.

    Attributes:
        intended, decided: moments of `time.perf_counter`, by transaction id.
        refused: what the broker said about records that it did not take.
    """

    def __init__(self, cluster: Cluster, rate: int) -> None:
        self._cluster, self._rate = cluster, rate
        self.intended: dict[bytes, float] = {}
        self.decided: dict[bytes, float] = {}
        self.refused: list[KafkaError] = []
        self._is_over, self._is_read = threading.Event(), threading.Event()
        self._decided_one = threading.Condition()
        self._sender = threading.Thread(target=self._send, daemon=True)
        self._reader = threading.Thread(target=self._read, daemon=True)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Send until the block ends, then wait until all that was sent is decided."""
        self._reader.start()
        self._sender.start()
        try:
            yield
        finally:
            self._is_over.set()
            self._sender.join()
            self._is_read.set()
            self._reader.join()

    def wait_for(self, transactions: int) -> None:
        """Until so many more are decided."""
        with self._decided_one:
            wanted = len(self.decided) + transactions
            arrived = self._decided_one.wait_for(lambda: len(self.decided) >= wanted, DEADLINE_SECONDS)
        assert arrived, "no more transactions are decided"

    def wait_for_all(self) -> None:
        """Send no more, and wait until everything is decided."""
        self._is_over.set()
        self._sender.join()
        until(lambda: len(self.decided) >= len(self.intended), lambda: "transactions are without a decision")

    def _send(self) -> None:
        producer = self._cluster.connection("producer").producer(Watch("broker"), linger_ms=0)
        records, topic = payments(), self._cluster.topic("input")
        begin = time.perf_counter()
        while not self._is_over.is_set():
            moment = begin + len(self.intended) / self._rate
            self._is_over.wait(max(0.0, moment - time.perf_counter()))
            record = next(records)
            self.intended[b"%d" % orjson.loads(record)["transaction_id"]] = moment
            producer.produce(topic, record, on_delivery=self._delivered)
            producer.poll(0)
        producer.flush(DEADLINE_SECONDS)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.refused.append(error)

    def _read(self) -> None:
        consumer = self._cluster.connection("viewer").consumer(
            Watch("broker"), group_id="viewer-traffic", auto_offset_reset="error", fetch_wait_max_ms=10
        )
        consumer.assign([TopicPartition(self._cluster.topic("predictions"), 0, 0)])
        while not self._is_read.is_set():
            message = consumer.poll(0.2)
            if message is None or message.error() is not None or (key := message.key()) not in self.intended:
                continue
            with self._decided_one:
                self.decided.setdefault(key, time.perf_counter())
                self._decided_one.notify_all()
        consumer.close()


@dataclass
class LiveChanges:
    """What came of it.

    Attributes:
        sent: transactions.
        promotions: that were awaited; the one in which the scorer died may be one more change, or none.
        alone_seconds, changing_seconds: latencies from the intended moment of sending to the read of the outcome.
        waiting_seconds: the same of those that waited for the takeover.
        takeover_seconds: from the kill to the first decision about something sent later.
        log: as it is after the end.
    """

    sent: int
    promotions: int
    alone_seconds: list[float]
    changing_seconds: list[float]
    waiting_seconds: list[float]
    takeover_seconds: float
    log: ChangedLog

    def check(self) -> None:
        """Nothing is lost or doubled, nothing is mixed, and a replay gives the same bytes."""
        log = self.log
        assert [outcome["position"] for outcome in log.outcomes] == list(range(len(log.outcomes)))
        assert (len(log.decisions), log.decisions.total()) == (self.sent, self.sent)
        assert len(log.changes) >= self.promotions
        assert (log.wrong_versions, log.differing) == ([], [])


def change_under_load(
    cluster: Cluster, world: SmallWorld, champions: Sequence[Champion], place: Path, *, rate: int, changes: int,
    warm: int, alone: int, apart: int, seed: int = 1,
) -> LiveChanges:  # fmt: skip
    """Let `champions` take turns on a stream under load; in a change in the middle the active scorer is killed.

    Args:
        champions: the last is the one of `world`, which serves first.
        rate: transactions a second.
        warm, alone: transactions that are decided before the first change; those of `warm` are not measured.
        apart: transactions between two changes.
        seed: of the moment of the kill, which comes after its promotion and at most `apart` transactions later.
    """
    here, there, settings = two_homes(world, place)
    for model, policy in champions:  # models and policies are copied between homes
        save_model(model, there.home / "models" / model.artefact_id)
        keep_policy(there, policy)
    traffic, turns = Traffic(cluster, rate), cycle(champions)
    kill_after = random.Random(seed).randrange(1, apart)
    with ExitStack() as stack:
        first = stack.enter_context(cluster.scorer(here.home, **settings))
        until(lambda: first.is_deciding)
        second = stack.enter_context(cluster.scorer(there.home, **settings))
        assert second.prints("Replaying")
        with traffic.flowing():
            traffic.wait_for(warm)
            alone_from = time.perf_counter()
            traffic.wait_for(alone)
            changing_from = time.perf_counter()
            for _ in range(changes // 2):
                _change(here, first, traffic, next(turns), apart)
            promote(here, *next(turns))
            traffic.wait_for(kill_after)
            first.kill()
            killed_at = time.perf_counter()
            _await_takeover(here, there, second)
            for _ in range(changes - changes // 2):
                _change(there, second, traffic, next(turns), apart)
            traffic.wait_for_all()
    assert not traffic.refused
    published, engine = cluster.published(), world.engine()
    log = check_log(published, cluster.recorded(engine.catalogue), engine, champions_by_name(*champions))
    return _found(traffic, changes, alone_from, changing_from, killed_at, log)


def _change(context: Context, scorer: Scorer, traffic: Traffic, champion: Champion, apart: int) -> None:
    """Promote, and wait until this decides and `apart` transactions were decided since."""
    before, wanted = _made(scorer), len(traffic.decided) + apart
    promote(context, *champion)
    until(lambda: _made(scorer) > before, lambda: scorer.printed)
    traffic.wait_for(max(0, wanted - len(traffic.decided)))


def _made(scorer: Scorer) -> int:
    return sum("decide from position" in line for line in list(scorer.printed))


def _await_takeover(here: Context, there: Context, standby: Scorer) -> None:
    """Until the standby decides, and its home names what the log has: the next promotion there is above it."""
    asked_for = named_champion(here).number
    until(lambda: standby.is_deciding, lambda: standby.printed)
    until(lambda: named_champion(there).number >= asked_for - 1, lambda: standby.printed)


def _found(
    traffic: Traffic, promotions: int, alone_from: float, changing_from: float, killed_at: float, log: ChangedLog
) -> LiveChanges:  # fmt: skip
    pairs = [(moment, traffic.decided[key]) for key, moment in traffic.intended.items()]
    later = [(sent, read) for sent, read in pairs if sent > killed_at]
    in_step_from = next((sent for sent, read in later if read - sent < IN_STEP_SECONDS), float("inf"))
    waited = [read - sent for sent, read in pairs if read > killed_at and sent < in_step_from]
    changing = [
        read - sent
        for sent, read in pairs
        if sent >= changing_from and (read <= killed_at or sent >= in_step_from)
    ]
    alone = [read - sent for sent, read in pairs if alone_from <= sent < changing_from]
    return LiveChanges(
        len(pairs), promotions, alone, changing, waited, min(read for _, read in later) - killed_at, log
    )  # fmt: skip
