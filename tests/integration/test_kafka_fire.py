"""Exactly once under fire, and a takeover; `benchmarks/fire.py` measures how long one takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deploy.kafka.broker import LocalBroker
from tests.integration.kafka_fire import burn
from tests.integration.kafka_world import Cluster, begin_from_clean_days

from zaslon.domain.events import Kind
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration


def test_kills_of_scorers_and_broker_leave_one_outcome_per_record(
    broker: LocalBroker, small_world: SmallWorld, tmp_path: Path
) -> None:
    fire = burn(
        Cluster.new(broker), small_world, tmp_path, seed=7, kills=3, feed_seconds=15, broker_kill=True
    )
    print(json.dumps(fire.to_json_dict()))
    assert fire.equal, fire.difference
    assert (fire.kills, fire.broker_kills, fire.standbys_left) == (3, 1, 1)


def test_a_standby_takes_over_from_a_killed_scorer(
    broker: LocalBroker, small_world: SmallWorld, tmp_path: Path
) -> None:
    cluster = Cluster.new(broker)
    lines = [
        r for r, k in zip(small_world.records, small_world.kinds, strict=True) if k == Kind.TRANSACTION_LINE
    ]
    key = {"ZASLON_PSEUDONYM_KEY": small_world.context.key.decode()}
    homes = [small_world.in_home(tmp_path / name) for name in ("first", "second")]
    for world in homes:
        assert begin_from_clean_days(world.context, small_world.context.home / "clean", last=8) > 10_000
    with cluster.scorer(homes[0].context.home, **key) as first:
        assert first.prints("Deciding")
        with cluster.scorer(homes[1].context.home, **key) as second:
            assert second.prints("Replaying")
            cluster.send("input", lines[:500])
            cluster.wait_for(500, first, second)
            first.kill()
            cluster.send("input", lines[500:1_000])
            assert second.prints("Deciding")
            cluster.wait_for(1_000, second)
            second.terminate()
    assert len(cluster.published()) == 1_000
