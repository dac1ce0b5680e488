"""A real broker for a test session, and for each test its own topics, group and home."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from deploy.kafka.access import access
from deploy.kafka.broker import LocalBroker
from tests.waiting import DEADLINE_SECONDS, deadline, until

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.adapters.cluster.kafka.connection import Connection, Watch
from zaslon.adapters.cluster.kafka.messages import recorded, recorded_rejection
from zaslon.adapters.cluster.kafka.order import Order, interleaved, is_barrier
from zaslon.bootstrap import build_context, kafka_connection, open_topics
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import LogBatch, Originals
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.engine import Engine
from zaslon.flows.stream import CHECKPOINT, StreamReport, stream, stream_snapshots
from zaslon.intake import clean_days
from zaslon.services.context import Context
from zaslon.services.featurising import Featuriser
from zaslon.settings import Settings, load_settings

_NUMBERS = itertools.count(1)
_ASKED_EVERY = 3  # of the times that a stream asks whether it is over
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
            future.result(DEADLINE_SECONDS)
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
        targets = self._beginnings(consumer, topic)
        consumer.assign(targets)
        messages: list[list[Message]] = [[] for _ in targets]
        left = len(targets)
        while left:
            for message in consumer.consume(10_000, 0.2):
                error = message.error()
                if error is None:
                    messages[message.partition() or 0].append(message)
                elif error.code() == error_codes.PARTITION_END:
                    left -= 1
        consumer.close()
        return [message for part in messages for message in part]

    def _beginnings(self, consumer: Consumer, topic: str) -> list[TopicPartition]:
        name = self.topic(topic)
        partitions = sorted(consumer.list_topics(name, timeout=DEADLINE_SECONDS).topics[name].partitions)
        return [TopicPartition(name, partition, OFFSET_BEGINNING) for partition in partitions]

    def connected_admin(self) -> AdminClient:
        """As the user that may do everything; to be kept, as its answers die with it."""
        return self.connection("admin").admin()

    def grow(self, **partitions: int) -> None:
        """Add partitions to topics, up to so many."""
        admin = self.connected_admin()
        wanted = [NewPartitions(self.topic(name), count) for name, count in partitions.items()]
        for done in admin.create_partitions(wanted).values():
            done.result(DEADLINE_SECONDS)

    def published(self) -> list[bytes]:
        """Every outcome in the topics, by log position; a position with two outcomes is listed twice."""
        found = [
            *map(recorded, self.read("predictions")),
            *map(recorded_rejection, self.read("rejections")),
        ]
        return [outcome.json for outcome in sorted(found, key=lambda outcome: outcome.position)]

    def orders(self) -> list[Order]:
        """What topic `order` holds, without barriers."""
        return [Order.from_bytes(m.value()) for m in self.read("order") if not is_barrier(m)]

    def recorded(self, catalogue: Catalogue) -> Iterator[LogBatch]:
        """The log as topic `order` holds it, with the original bytes from the other topics."""
        messages = {name: self.read(name) for name in ("input", "labels")}
        content = {
            (m.topic(), m.partition(), m.offset()): m.value() or b""
            for found in messages.values()
            for m in found
        }
        for order in self.orders():
            records = [
                [
                    found
                    for o in range(r.begin, r.end)
                    if (found := content.get((r.topic, r.partition, o))) is not None
                ]
                for r in order.ranges
            ]
            assert [len(part) for part in records] == order.counts
            batch = order.batch(catalogue)
            if batch.change is not None:
                yield batch
                continue
            yield replace(batch, originals=Originals.joined(interleaved(order.source, records)))

    def embedded(self, engine: Engine) -> list[bytes]:
        """What an engine without any server gives for the recorded log."""
        return [
            o.to_json() for batch in self.recorded(engine.catalogue) for o in engine.process(batch).outcomes
        ]

    def stream_until(
        self, home: Path, position: int, notify: Callable[[str], None] = print, **more: object
    ) -> StreamReport:
        """Score in this process until the log has reached a position."""
        context = self.context("scorer", home, snapshot_every_records=700, **more)
        consumer = self.connection("scorer").consumer(Watch("broker"), group_id=f"zaslon-{self.number}")
        check, looks = deadline(lambda: "the stream has not reached the position"), itertools.count()
        done = False

        def is_over() -> bool:
            nonlocal done
            check()
            if not done and next(looks) % _ASKED_EVERY == 0:
                done = self._committed(consumer) >= position
            return done

        try:
            return stream(context, is_over, notify)
        finally:
            consumer.close()

    def _committed(self, consumer: Consumer) -> int:
        targets = [target for name in ("input", "labels") for target in self._beginnings(consumer, name)]
        return sum(max(target.offset, 0) for target in consumer.committed(targets, DEADLINE_SECONDS))

    def committed_records(self) -> int:
        """How many records of `input` and `labels` the group has committed."""
        consumer = self.connection("scorer").consumer(Watch("broker"), group_id=f"zaslon-{self.number}")
        done = self._committed(consumer)
        consumer.close()
        return done

    def wait_for(self, records: int, *scorers: Scorer) -> None:
        """Until the group has committed so many records; none of the scorers may end before."""

        def is_done() -> bool:
            assert all(scorer.process.poll() is None for scorer in scorers), [s.printed for s in scorers]
            return self.committed_records() >= records

        until(is_done, lambda: [scorer.printed for scorer in scorers], look_seconds=0.1)

    @contextmanager
    def scorer(self, home: Path, *command: str, **environment: str) -> Iterator[Scorer]:
        """`zaslon stream` in a process of its own; `command` instead of Python's arguments for it."""
        given = command or ("-m", "zaslon.entrypoints.cli", "stream", "--home", str(home), "--json")
        process = subprocess.Popen(
            [sys.executable, *given],
            env={**os.environ, "PYTHONFAULTHANDLER": "1", **self.environment("scorer"), **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        scorer = Scorer(process)
        try:
            yield scorer
        finally:
            scorer.close()


class Scorer:
    """A scorer in a process of its own; the lines that it prints are collected."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.printed = process, list[str]()
        self._line_added = threading.Condition()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._line_added:
                self.printed.append(line.strip())
                self._line_added.notify_all()

    def prints(self, words: str) -> bool:
        """Wait until it has printed a line with these words."""
        with self._line_added:
            return self._line_added.wait_for(
                lambda: any(words in line for line in self.printed), DEADLINE_SECONDS
            )

    @property
    def is_deciding(self) -> bool:
        """Whether it is alive and decides, by the last line that it printed about that."""
        states = [
            line for line in list(self.printed) if line.startswith(("Deciding", "Standing by", "Replaying"))
        ]
        return self.process.poll() is None and bool(states) and states[-1].startswith("Deciding")

    def kill(self) -> None:
        """`kill -9`."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)

    def aborted(self) -> list[str]:
        """End one that hangs: what it printed, then where each of its threads was."""
        self.process.send_signal(signal.SIGABRT)
        self.process.wait(DEADLINE_SECONDS)
        self._thread.join()
        return self.printed

    def close(self) -> None:
        """End it, and give back what was open."""
        self.kill()
        self._thread.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def terminate(self) -> str:
        """SIGTERM; what it printed at its end."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        report = self.process.stdout.read()
        assert self.process.wait(DEADLINE_SECONDS) == 0, self.printed
        return report


def begin_from_clean_days(context: Context, clean: Path, *, last: int) -> int:
    """Let a stream's log begin from the history of clean days but the `last`; how many transactions."""
    featuriser = Featuriser(context.catalogue, context.key, 7 * SECONDS_PER_DAY, context.progress.warn)
    for _ in featuriser.days(clean_days(clean, context.catalogue)[:-last]):
        pass
    engine = featuriser.engine
    engine.save(stream_snapshots(context), **{CHECKPOINT: b'{"history":"clean days","position":0}'})
    return len(engine.history.deduplication)
