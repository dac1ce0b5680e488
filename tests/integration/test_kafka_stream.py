"""The stream on a real broker: one outcome per record, in one order, whatever is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deploy.kafka.broker import LocalBroker
from tests.integration.kafka_world import Cluster
from tests.text_ids import BY_TEXT, renamed, text_of, world_by_text
from tests.waiting import DEADLINE_SECONDS

from zaslon.adapters.cluster.kafka import live_log
from zaslon.adapters.cluster.kafka.connection import Watch
from zaslon.adapters.cluster.kafka.messages import as_rejection
from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import Kind
from zaslon.engine import ENGINE_VERSION, engine
from zaslon.flows.stream import stream
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration

LINE = b"%d,2020-01-01 10:00:00,5,7,20.00,0,0,0,0"
POISON = {
    b"\x00\xff\x00\x80binary": "not_text",
    b"x" * 500_000: "too_long",
    b'{"transaction_id": 12, "tx_am': "not_json",
    b'{"transaction_id": 13}': "missing_field:tx_datetime",
    b'["a list"]': "wrong_field_count",
    b"": "empty",
    b"   ": "empty",
    b"1,2,3": "wrong_field_count",
}


def _parts(world: SmallWorld, kind: Kind) -> list[bytes]:
    return [r for r, k in zip(world.records, world.kinds, strict=True) if k == kind]


def test_outcomes_are_those_of_the_engine_for_the_recorded_order(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    cluster = Cluster.new(broker)
    lines, labels = _parts(small_world, Kind.TRANSACTION_LINE), _parts(small_world, Kind.LABEL_JSON)
    for begin in range(0, 2_000, 500):
        cluster.send("input", lines[begin : begin + 500])
        cluster.send("labels", labels[begin // 10 : begin // 10 + 50])
    report = cluster.stream_until(home, 2_200)
    published = cluster.published()
    assert len(published) == 2_200
    assert published == cluster.embedded(small_world.engine())
    assert report.decided.labels + sum(report.decided.rejected.values()) + report.decided.decisions == 2_200
    batches = list(cluster.recorded(small_world.context.catalogue))
    assert len(batches) > 4
    assert any(0 < len(b.labels) < len(b) for b in batches), "nothing was interleaved"


def test_a_restart_continues_from_snapshot_and_order(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    cluster = Cluster.new(broker)
    lines = _parts(small_world, Kind.TRANSACTION_LINE)
    cluster.send("input", lines[:1_000])
    cluster.stream_until(home, 1_000)
    newest = max((home / "stream" / "snapshots").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])  # damaged: the one before it must do
    cluster.send("input", lines[1_000:1_500])
    report = cluster.stream_until(home, 1_500)
    assert report.replayed > 0, "nothing was replayed"
    assert report.decided.decisions + sum(report.decided.rejected.values()) == 500
    assert report.next_position == 1_500
    messages: list[str] = []
    idle = stream(
        cluster.context("scorer", home), lambda: any("Deciding" in m for m in messages), messages.append
    )
    assert (idle.replayed, idle.next_position) == (0, 1_500)
    assert cluster.published() == cluster.embedded(small_world.engine())


def test_poison_becomes_named_rejections_with_the_original_bytes(broker: LocalBroker, home: Path) -> None:
    cluster = Cluster.new(broker)
    cluster.send("input", [LINE % 1, *POISON, LINE % 2])
    producer = cluster.connection("producer").producer(Watch("broker"))
    producer.produce(cluster.topic("input"), None)  # a tombstone
    producer.produce(cluster.topic("labels"), b'{"transaction_id": 1}')
    producer.produce(cluster.topic("labels"), None, key=b"1")
    assert producer.flush(DEADLINE_SECONDS) == 0
    cluster.stream_until(home, len(POISON) + 5)
    found = [(m.value() or b"", as_rejection(m).code) for m in cluster.read("rejections")]
    expected = [
        *POISON.items(), (b"", "empty"),
        (b'{"transaction_id": 1}', "unreadable_label:is_fraud"), (b"", "unreadable_label"),
    ]  # fmt: skip
    assert sorted(found) == sorted(expected)
    assert [m.key() for m in cluster.read("predictions")] == [b"1", b"2"]


def test_text_ids_pass_the_stream_unchanged(
    broker: LocalBroker, small_world: SmallWorld, tmp_path: Path
) -> None:
    cluster, catalogue = Cluster.new(broker), tmp_path / "by_text.toml"
    world = world_by_text(small_world, tmp_path / "home")
    home = world.context.home
    catalogue.write_text(BY_TEXT, "utf-8")
    lines = [line for line in _parts(small_world, Kind.TRANSACTION_LINE) if line.split(b",")[0].isdigit()][
        :800
    ]
    labels = _parts(small_world, Kind.LABEL_JSON)[:100]
    sent = 0
    for _ in range(2):  # the second scorer begins from a snapshot and replays the rest
        cluster.send("input", [renamed(line, Kind.TRANSACTION_LINE) for line in lines[sent : sent + 400]])
        cluster.send(
            "labels", [renamed(label, Kind.LABEL_JSON) for label in labels[sent // 8 : sent // 8 + 50]]
        )
        sent += 400
        report = cluster.stream_until(home, sent + sent // 8, catalogue=catalogue)
        newest = max((home / "stream" / "snapshots").iterdir())
        newest.unlink()
    assert report.replayed > 0
    published = cluster.published()
    assert len(published) == 900
    assert published == cluster.embedded(world.engine())
    named = {message.key() for message in cluster.read("predictions")}
    assert text_of(int(lines[-1].split(b",")[0])).encode() in named


def test_another_engine_version_takes_over_only_by_setting(
    broker: LocalBroker, small_world: SmallWorld, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster.new(broker)
    lines = _parts(small_world, Kind.TRANSACTION_LINE)
    cluster.send("input", lines[:300])
    with monkeypatch.context() as patched:
        patched.setattr(engine, "ENGINE_VERSION", ENGINE_VERSION + 1)
        patched.setattr(live_log, "ENGINE_VERSION", ENGINE_VERSION + 1)
        cluster.stream_until(home, 300)
    cluster.send("input", lines[300:600])
    with pytest.raises(ArtefactError, match=f"decided by engine version {ENGINE_VERSION + 1}"):
        cluster.stream_until(home, 600)
    assert len(cluster.published()) == 300
    cluster.stream_until(home, 600, stream_takeover_from_engine=ENGINE_VERSION + 1)
    decided_by = [json.loads(outcome).get("engine") for outcome in cluster.published()]
    assert set(decided_by[:300]) <= {ENGINE_VERSION + 1, None}
    assert set(decided_by[300:]) <= {ENGINE_VERSION, None}
    cluster.stream_until(home, 600)
