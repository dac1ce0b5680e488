"""A record that breaks our own code gets an outcome; the scorer, its standby and all other records continue."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest
from deploy.kafka.broker import LocalBroker
from tests.integration import faulty_scorer
from tests.integration.kafka_world import Cluster
from tests.recovery.faults import STREAM_LABEL_STAGES, STREAM_STAGES, Poison, stopped_poison
from tests.waiting import until

from zaslon.adapters.cluster.kafka.messages import as_rejection
from zaslon.domain.events import Kind, RecordBatch
from zaslon.domain.outcomes import Outcome
from zaslon.domain.rejections import Reason
from zaslon.engine.batch_outcomes import BatchOutcomes
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration
NOW = 1_790_000_000  # 2026: everything in the log has happened


def _lines(world: SmallWorld) -> list[bytes]:
    """Good ones only, so that every one is decided unless the fault hits it."""
    lines = [r for r, k in zip(world.records, world.kinds, strict=True) if k == Kind.TRANSACTION_LINE]
    return [line for line in lines if line.split(b",")[0].isdigit()]


def _id(line: bytes) -> int:
    return int(line.split(b",")[0])


def _engine_errors(cluster: Cluster) -> list[tuple[int, bytes]]:
    found = [(as_rejection(m), m.value() or b"") for m in cluster.read("rejections")]
    return [(r.position, content) for r, content in found if r.reason == Reason.ENGINE_ERROR]


@pytest.mark.parametrize("stage", STREAM_STAGES)
def test_a_record_that_breaks_a_stage_is_rejected_alone(
    broker: LocalBroker, small_world: SmallWorld, home: Path, stage: str
) -> None:
    cluster, lines = Cluster.new(broker), _lines(small_world)[:1_000]
    raw = RecordBatch.of(lines, [Kind.TRANSACTION_LINE] * 1_000, [NOW] * 1_000)
    poison, index = stopped_poison(small_world, small_world.admit(raw))
    cluster.send("input", lines)
    with cluster.scorer(home, *faulty_scorer.command(stage, [poison], home)) as scorer:
        cluster.wait_for(1_000, scorer)
        report = json.loads(scorer.terminate())
    assert report["records_rejected"]["engine_error"] == 1
    assert report["takeovers"] == 1, "it kept deciding"
    assert _engine_errors(cluster) == [(index, lines[index])]
    assert any("engine_error" in sentence and "InjectedError" in sentence for sentence in scorer.printed)
    published = cluster.published()
    assert len(published) == 1_000
    assert published == cluster.embedded(small_world.engine()), "a sound engine agrees with the log"


@pytest.mark.parametrize("stage", STREAM_LABEL_STAGES)
def test_a_label_that_breaks_a_stage_is_rejected_alone(
    broker: LocalBroker, small_world: SmallWorld, home: Path, stage: str
) -> None:
    cluster, ids = Cluster.new(broker), [_id(line) for line in _lines(small_world)[:200]]
    labels = [orjson.dumps({"transaction_id": i, "is_fraud": i % 2 == 0}) for i in ids]
    cluster.send("labels", labels)
    with cluster.scorer(home, *faulty_scorer.command(stage, [Poison(ids[70], 0.0)], home)) as scorer:
        cluster.wait_for(200, scorer)
        report = json.loads(scorer.terminate())
    assert (report["records_rejected"]["engine_error"], report["takeovers"]) == (1, 1)
    assert [content for _, content in _engine_errors(cluster)] == [labels[70]]
    assert cluster.published() == cluster.embedded(small_world.engine()), "a sound engine agrees with the log"


def test_a_standby_with_the_same_fault_continues(
    broker: LocalBroker, small_world: SmallWorld, tmp_path: Path
) -> None:
    cluster, lines = Cluster.new(broker), _lines(small_world)[:1_200]
    broken = [lines[100], lines[101], lines[700]]
    settings = {
        "ZASLON_KAFKA_SESSION_TIMEOUT_SECONDS": "3", "ZASLON_SNAPSHOT_EVERY_RECORDS": "300",
        "ZASLON_PSEUDONYM_KEY": small_world.context.key.decode(),
    }  # fmt: skip
    homes = [small_world.in_home(tmp_path / name).context.home for name in ("first", "second")]
    poisons = [Poison(_id(line), float(line.split(b",")[4])) for line in broken]
    first_command, second_command = (faulty_scorer.command("apply", poisons, home) for home in homes)
    cluster.send("input", lines[:600])
    with (
        cluster.scorer(homes[0], *first_command, **settings) as first,
        cluster.scorer(homes[1], *second_command, **settings) as second,
    ):
        cluster.wait_for(600, first, second)
        until(lambda: first.is_deciding or second.is_deciding)
        deciding, standby = (first, second) if first.is_deciding else (second, first)
        deciding.kill()
        cluster.send("input", lines[600:])
        cluster.wait_for(1_200, standby)
        report = json.loads(standby.terminate())
    assert report["records_rejected"]["engine_error"] == 1
    assert report["records_replayed"] >= 600
    assert [content for _, content in _engine_errors(cluster)] == broken
    assert cluster.published() == cluster.embedded(small_world.engine())


def test_code_that_breaks_every_record_stops_the_scorer(
    broker: LocalBroker, small_world: SmallWorld, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, lines = Cluster.new(broker), _lines(small_world)[:200]
    cluster.send("input", lines)
    assemble, is_broken = BatchOutcomes.assemble, False

    def broken_from_a_record_on(outcomes: BatchOutcomes) -> list[Outcome]:
        nonlocal is_broken
        is_broken = is_broken or _id(lines[150]) in outcomes.batch.transactions.transaction_id
        if is_broken:
            raise ZeroDivisionError("a fault that a test has put here")
        return assemble(outcomes)

    with monkeypatch.context() as patched:
        patched.setattr(BatchOutcomes, "assemble", broken_from_a_record_on)
        with pytest.raises(ZeroDivisionError):
            cluster.stream_until(home, 200, stream_batch_records=40)
    assert len(cluster.published()) <= 150
    cluster.stream_until(home, 200)
    assert _engine_errors(cluster) == []
    assert cluster.published() == cluster.embedded(small_world.engine())
