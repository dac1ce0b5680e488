"""The guard of served scores on the decisions of a stream, which are looked up in the archive on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploy.kafka.broker import LocalBroker
from tests.cli.conftest import Answer, Zaslon
from tests.cli.conftest import zaslon as zaslon  # noqa: PLC0414  fixtures
from tests.cli.test_retrain import World, champion_of, guard
from tests.cli.test_retrain import home as home  # noqa: PLC0414
from tests.cli.test_retrain import news as news  # noqa: PLC0414
from tests.cli.test_retrain import settings as settings  # noqa: PLC0414
from tests.cli.test_retrain import world as world  # noqa: PLC0414
from tests.integration.kafka_world import Cluster, begin_from_clean_days
from tests.postgres_server import LocalPostgres
from tests.waiting import until

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("has_history", [True, False])
def test_wrong_scores_of_a_stream_refuse_a_promotion(
    broker: LocalBroker, postgres: LocalPostgres, zaslon: Zaslon, news: Path, world: World,
    monkeypatch: pytest.MonkeyPatch, has_history: bool,
) -> None:  # fmt: skip
    cluster = Cluster.new(broker)
    for name, value in {**cluster.environment("viewer"), "ZASLON_STORE_URL": postgres.new_database()}.items():
        monkeypatch.setenv(name, value)
    assert zaslon("store", "migrate", "--home", news).code == 0

    def promoted() -> Answer:
        return zaslon("promote", champion_of(news), "--home", news, "--json")

    unknown = promoted()
    assert unknown.code == 0, unknown
    assert unknown.json["not_checked"] == ["served_parity"]
    assert "not checked" in zaslon("promote", champion_of(news), "--home", news).out
    if has_history:  # a stream that begins without one serves other scores than the clean days give
        begin_from_clean_days(cluster.context("scorer", news), news / "clean", last=1)
    lines = lines_of_the_last_day(world.whole)
    with cluster.scorer(news) as scorer:
        until(lambda: scorer.is_deciding)
        cluster.send("input", lines)
        cluster.wait_for(len(lines), scorer)
    archived = zaslon("store", "archive", "--log", "stream", "--once", "--home", news, "--json")
    assert archived.json["decisions"] == len(lines) > 100
    checked = promoted()
    if has_history:
        assert checked.code == 0, checked
        assert guard(checked, "served_parity")["value"] < 0.05
        assert checked.json["not_checked"] == []
    else:
        assert checked.code == 14, checked
        assert "served_parity" in checked.json["error"]["message"]


def lines_of_the_last_day(source: Path) -> list[bytes]:
    """The raw records of the newest day."""
    _, *lines = source.read_bytes().splitlines()
    last = max(line.split(b",")[1][:10] for line in lines)
    return [line for line in lines if line.split(b",")[1][:10] == last]
