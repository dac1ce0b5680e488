"""Every ingress behind Kafka records what the embedded engine records: the stream, HTTP one by one, HTTP batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import pytest
from deploy.kafka.broker import LocalBroker
from tests.api.serving import Caller
from tests.integration import faulty_scorer
from tests.integration.kafka_world import Cluster
from tests.integration.test_kafka_gateway import gateway
from tests.parity.ingress_log import (
    POISON,
    STAGE,
    Group,
    Ids,
    as_json,
    by_engine,
    ids_of,
    send_in_batches,
    send_one_by_one,
)
from tests.recovery.faults import inject

from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration
NOW = 1_790_000_000  # 2026: everything in the log has happened, but for the year 2099


@pytest.fixture(scope="module", params=["numbers", "texts"])
def ids(
    request: pytest.FixtureRequest, small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory
) -> Ids:
    return ids_of(request.param, small_world, tmp_path_factory.mktemp("ids"))


@pytest.fixture(scope="module")
def expected(ids: Ids, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    with pytest.MonkeyPatch.context() as patch:
        inject(patch, STAGE, POISON)
        return by_engine(ids.world.in_home(tmp_path_factory.mktemp("reference") / "home"), ids.groups, NOW)


@contextmanager
def scoring(cluster: Cluster, ids: Ids, home: Path) -> Iterator[None]:
    """A process that decides the stream, and whose code breaks on the poison record."""
    settings = {f"ZASLON_{name.upper()}": str(value) for name, value in ids.settings.items()}
    with cluster.scorer(home, *faulty_scorer.command(STAGE, [POISON], home), **settings) as scorer:
        assert scorer.prints("Deciding from position"), scorer.printed
        yield


def test_the_stream_records_what_the_engine_records(
    broker: LocalBroker, ids: Ids, tmp_path: Path, expected: list[bytes]
) -> None:
    cluster, home = Cluster.new(broker), ids.world.in_home(tmp_path / "home").context.home
    with scoring(cluster, ids, home):
        done = 0
        for is_labels, groups in groupby(ids.groups, lambda group: group.is_labels):
            records = [as_json(row) for group in groups for row in group.rows]
            cluster.send("labels" if is_labels else "input", records)
            done += len(records)
            cluster.wait_for(done)
    assert cluster.published() == expected


@pytest.mark.parametrize("send", [send_one_by_one, send_in_batches])
def test_http_behind_kafka_records_what_the_engine_records(
    broker: LocalBroker, ids: Ids, tmp_path: Path, expected: list[bytes],
    send: Callable[[Caller, Sequence[Group]], object],
) -> None:  # fmt: skip
    cluster, home = Cluster.new(broker), ids.world.in_home(tmp_path / "home").context.home
    with scoring(cluster, ids, home), gateway(cluster, home, **ids.settings) as caller:
        send(caller, ids.groups)
    assert cluster.published() == expected
