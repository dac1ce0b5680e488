"""Challengers decide beside the champion of a stream, from the topic that is its log."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from deploy.kafka.broker import LocalBroker
from tests.integration.kafka_world import Cluster
from tests.waiting import until

from zaslon.adapters.embedded.sqlite_shadow import SqliteShadowStore
from zaslon.domain.events import Kind
from zaslon.features.plan import plan_features
from zaslon.flows.compare_live import compare_live_models
from zaslon.flows.shadow import shadow
from zaslon.models.artefact import save_model
from zaslon.models.model import Model
from zaslon.services.context import STREAM
from zaslon.services.home import keep_champion, load_champion
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration


def transaction_lines(world: SmallWorld, count: int) -> list[bytes]:
    named = zip(world.records, world.kinds, strict=True)
    return [record for record, kind in named if kind == Kind.TRANSACTION_LINE][:count]


def test_a_challenger_decides_beside_a_stream_over_a_promotion(
    broker: LocalBroker, small_world: SmallWorld, challenger: Model, tmp_path: Path
) -> None:
    cluster = Cluster.new(broker)
    world = small_world.in_home(tmp_path / "home")
    home, key = world.context.home, world.context.key.decode()
    lines = transaction_lines(world, 120)
    _, policy = load_champion(world.context, plan_features(world.context.catalogue))
    thresholds = {"review": policy.thresholds.review, "block": policy.thresholds.block}
    challenger = challenger.with_facts(thresholds=thresholds)
    save_model(challenger, home / "models" / challenger.artefact_id)
    context = cluster.context("viewer", home, pseudonym_key=key).with_log(STREAM)
    with cluster.scorer(home, ZASLON_PSEUDONYM_KEY=key) as scorer:
        until(lambda: scorer.is_deciding)

        def follow() -> int:
            return shadow(
                context, [challenger.artefact_id], None, within_seconds=60, keep_days=4_000,
                is_over=lambda _: True,
            ).transactions  # fmt: skip

        assert follow() == 0
        cluster.send("input", lines[:60])
        cluster.wait_for(60)
        first = follow()
        keep_champion(world.context, challenger, policy)
        sent = 60
        while (newest := json.loads(cluster.published()[-1]))["model"] != challenger.artefact_id or (
            newest["outcome"] == "change"
        ):
            cluster.send("input", [lines[sent]])
            sent += 1
            cluster.wait_for(sent)
        assert first + follow() == sum(b'"outcome":"decision"' in outcome for outcome in cluster.published())
        report = compare_live_models(context, "champion", challenger.artefact_id).to_json_dict()
        assert report["models"]["a"] == report["models"]["b"] == challenger.artefact_id
    published = [json.loads(outcome) for outcome in cluster.published()]
    recorded = {outcome["position"]: outcome for outcome in published if outcome["outcome"] == "decision"}
    (path,) = (home / "shadow").glob("*.db")
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT position, score_champion FROM transactions").fetchall()
    assert len(rows) == len(recorded)
    assert all(recorded[position]["score"] == score for position, score in rows)


def test_labels_count_in_a_stream_whether_first_or_second(
    broker: LocalBroker, small_world: SmallWorld, challenger: Model, tmp_path: Path
) -> None:
    cluster = Cluster.new(broker)
    world = small_world.in_home(tmp_path / "home")
    home, key = world.context.home, world.context.key.decode()
    lines = transaction_lines(world, 60)
    a, b, c, d, e, f = (int(line.split(b",")[0]) for line in lines[:6])
    context = cluster.context("viewer", home, pseudonym_key=key).with_log(STREAM)
    sent = 0

    def send(topic: str, records: list[bytes]) -> None:
        nonlocal sent
        cluster.send(topic, records)
        sent += len(records)
        cluster.wait_for(sent)

    def say(verdicts: dict[int, bool]) -> None:
        send("labels", [orjson.dumps({"transaction_id": i, "is_fraud": v}) for i, v in verdicts.items()])

    def follow() -> None:
        shadow(context, ["champion"], None, within_seconds=60, keep_days=4_000, is_over=lambda _: True)

    with cluster.scorer(home, ZASLON_PSEUDONYM_KEY=key) as scorer:
        until(lambda: scorer.is_deciding)
        say({a: True})
        follow()  # the first label waits already
        say({b: True, c: False, d: True})
        say({b: True, c: True, d: False})
        send("input", lines)
        say({e: True, f: False})
        say({e: True, f: True})
        follow()
    (path,) = (home / "shadow").glob("*.db")
    with closing(SqliteShadowStore(path, read_only=True)) as store:
        serving = load_champion(context, plan_features(context.catalogue))[0].artefact_id
        match = store.match(serving, serving)
        assert match is not None
        assert match.transactions > len({a, b, c, d, e, f})
        assert set(store.frauds(match).transaction_id.tolist()) == {a, b, c, e, f}
