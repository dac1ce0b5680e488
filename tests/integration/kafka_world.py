"""A real broker for a test session, and for each test its own topics, group and home."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from deploy.kafka.access import access
from deploy.kafka.broker import LocalBroker

from zaslon.adapters.cluster.kafka.commit import as_rejection
from zaslon.adapters.cluster.kafka.connection import Connection, Watch
from zaslon.adapters.cluster.kafka.order import Order, batch_in_order, is_barrier
from zaslon.admission import admit
from zaslon.bootstrap import build_context, kafka_connection, open_topics
from zaslon.domain.events import RecordBatch
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.engine import Engine
from zaslon.flows.stream import CHECKPOINT, StreamReport, stream, stream_snapshots
from zaslon.intake import clean_days
from zaslon.labels.feedback import DelayedLabels
from zaslon.services.context import Context
from zaslon.services.featurising import featurise
from zaslon.settings import Settings, load_settings

_NUMBERS = itertools.count(1)
TOPICS = ("input", "labels", "order", "predictions", "rejections")


@dataclass(frozen=True)
class Cluster:
    """A broker, and names on it that no other test uses."""

    broker: LocalBroker
    number: int

    @staticmethod
    def new(broker: LocalBroker) -> Cluster:
        """New topics with access for its users."""
        cluster = Cluster(broker, next(_NUMBERS))
        settings = cluster.settings("admin", Path("unused"))
        admin = kafka_connection(settings).admin()  # kept: its answers die with it
        for future in admin.create_acls(list(access(settings))).values():
            future.result(20)
        states = open_topics(settings).create()
        assert not any(state.complaints for state in states)
        return cluster

    def topic(self, name: str) -> str:
        return f"{name}-{self.number}"

    def environment(self, user: str) -> dict[str, str]:
        names = {f"ZASLON_KAFKA_TOPIC_{name.upper()}": self.topic(name) for name in TOPICS}
        return {
            **self.broker.environment(user), **names, "ZASLON_KAFKA_GROUP": f"zaslon-{self.number}",
            "ZASLON_STREAM_BATCH_RECORDS": "400", "ZASLON_STREAM_REPORT_SECONDS": "0",
        }  # fmt: skip

    def settings(self, user: str, home: Path, **more: object) -> Settings:
        given: dict[str, Any] = {
            key.removeprefix("ZASLON_").lower(): value for key, value in self.environment(user).items()
        }
        return load_settings(**{**given, "home": home, "threads": 1, **more})

    def context(self, user: str, home: Path, **more: object) -> Context:
        return build_context(self.settings(user, home, **more))

    def connection(self, user: str) -> Connection:
        return kafka_connection(self.settings(user, Path("unused")))

    def send(self, topic: str, records: Sequence[bytes]) -> None:
        sender = self.context("producer", self.broker.directory / "home").adapters.open_sender(
            self.topic(topic), print
        )
        sender.send(records)
        assert sender.finish() == len(records)

    def read(self, topic: str) -> list[Message]:
        """All committed messages of a topic, by partition in order, as the viewer sees them."""
        consumer = self.connection("viewer").consumer(
            Watch("broker"), group_id="viewer-tests", enable_partition_eof=True, auto_offset_reset="earliest"
        )
        places = self._places(consumer, topic)
        consumer.assign(places)
        messages: list[list[Message]] = [[] for _ in places]
        left = len(places)
        while left:
            for message in consumer.consume(10_000, 0.2):
                error = message.error()
                if error is None:
                    messages[message.partition() or 0].append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left -= 1
        consumer.close()
        return [message for part in messages for message in part]

    def _places(self, consumer: Consumer, topic: str) -> list[TopicPartition]:
        """The beginnings of all partitions."""
        name = self.topic(topic)
        partitions = sorted(consumer.list_topics(name, timeout=20).topics[name].partitions)
        return [TopicPartition(name, partition, OFFSET_BEGINNING) for partition in partitions]

    def connected_admin(self) -> AdminClient:
        """As the user that may do everything; to be kept, as its answers die with it."""
        return self.connection("admin").admin()

    def grow(self, **partitions: int) -> None:
        """Add partitions to topics, up to so many."""
        admin = self.connected_admin()
        wanted = [NewPartitions(self.topic(name), count) for name, count in partitions.items()]
        for done in admin.create_partitions(wanted).values():
            done.result(20)

    def published(self) -> list[bytes]:
        """Every outcome in the topics, by log position; a position given twice stands here twice."""
        by_position: list[tuple[int, bytes]] = []
        for message in self.read("predictions"):
            value = message.value() or b""
            by_position.append((int(value.split(b'"position":')[1].split(b",")[0]), value))
        for message in self.read("rejections"):
            rejection = as_rejection(message)
            by_position.append((rejection.position, rejection.to_json()))
        return [outcome for _, outcome in sorted(by_position)]

    def recorded(self) -> Iterator[RecordBatch]:
        """The log as topic `order` recorded it."""
        messages = {name: self.read(name) for name in ("input", "labels")}
        content = {
            (m.topic(), m.partition(), m.offset()): m.value() or b""
            for found in messages.values()
            for m in found
        }
        for message in self.read("order"):
            if is_barrier(message):
                continue
            order = Order.from_json(message.value())
            records = [
                [
                    found
                    for o in range(r.begin, r.end)
                    if (found := content.get((r.topic, r.partition, o))) is not None
                ]
                for r in order.ranges
            ]
            assert [len(part) for part in records] == order.counts
            yield batch_in_order(order, records, self.topic("labels"))

    def embedded(self, engine: Engine) -> list[bytes]:
        """What an engine without any server gives for the recorded log."""
        return [
            o.to_json()
            for batch in self.recorded()
            for o in engine.process(admit(batch, engine.catalogue, engine.key)).outcomes
        ]

    def stream_until(self, home: Path, position: int, **more: object) -> StreamReport:
        """Score in this process until the log has reached a position."""
        context = self.context("scorer", home, snapshot_every_records=700, **more)
        consumer = self.connection("scorer").consumer(Watch("broker"), group_id=f"zaslon-{self.number}")
        end = time.monotonic() + 60
        asked_at = 0.0
        done = False

        def is_over() -> bool:
            nonlocal asked_at, done
            assert time.monotonic() < end, "the stream has not reached the position"
            if not done and time.monotonic() - asked_at > 0.3:
                done = self._committed(consumer) >= position
                asked_at = time.monotonic()
            return done

        report = stream(context, is_over, print)
        consumer.close()
        return report

    def _committed(self, consumer: Consumer) -> int:
        places = [target for name in ("input", "labels") for target in self._places(consumer, name)]
        return sum(max(target.offset, 0) for target in consumer.committed(places, 20))

    def committed_records(self) -> int:
        """How many records of `input` and `labels` the group has committed."""
        consumer = self.connection("scorer").consumer(Watch("broker"), group_id=f"zaslon-{self.number}")
        done = self._committed(consumer)
        consumer.close()
        return done

    @contextmanager
    def scorer(self, home: Path, *command: str, **environment: str) -> Iterator[Scorer]:
        """`zaslon stream` in a process of its own; `command` instead of Python's arguments for it."""
        given = command or ("-m", "zaslon.entrypoints.cli", "stream", "--home", str(home), "--json")
        process = subprocess.Popen(
            [sys.executable, *given],
            env={**os.environ, **self.environment("scorer"), **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        scorer = Scorer(process)
        try:
            yield scorer
        finally:
            scorer.kill()


class Scorer:
    """A scorer in a process of its own; what it says is collected."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.said = process, list[str]()
        self._heard = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._heard:
                self.said.append(line.strip())
                self._heard.notify_all()

    def says(self, words: str, seconds: float = 60) -> bool:
        """Wait until it has said something with these words."""
        with self._heard:
            return self._heard.wait_for(lambda: any(words in line for line in self.said), seconds)

    @property
    def is_deciding(self) -> bool:
        """Whether it is alive and decides, by what it said last of that."""
        told = [line for line in list(self.said) if line.startswith(("Deciding", "Standing by", "Following"))]
        return self.process.poll() is None and bool(told) and told[-1].startswith("Deciding")

    def kill(self) -> None:
        """`kill -9`."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def terminate(self) -> str:
        """SIGTERM; what it printed at its end."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        told = self.process.stdout.read()
        assert self.process.wait(60) == 0, self.said
        return told


def begin_from_clean_days(context: Context, clean: Path, *, last: int) -> int:
    """Let a stream's log begin from the history of clean days but the `last`; how many transactions."""
    engine = Engine(context.catalogue, key=context.key)
    days = list(clean_days(clean, context.catalogue))[:-last]
    for _ in featurise(engine, days, context.catalogue, DelayedLabels(7 * SECONDS_PER_DAY)):
        pass
    engine.save(stream_snapshots(context), **{CHECKPOINT: b'{"history":"clean days","position":0}'})
    return len(engine.history.remembered)
