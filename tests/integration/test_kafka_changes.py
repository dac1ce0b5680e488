"""Another model takes over while the stream is decided, also where the scorer dies in the middle."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from deploy.kafka.broker import LocalBroker
from tests.changed_log import ChangedLog, champions_by_name, check_log
from tests.integration.kafka_promotions import change_under_load, promote, two_homes
from tests.integration.kafka_world import Cluster
from tests.waiting import until

from zaslon.decisions.policy import Policy
from zaslon.domain.events import Kind
from zaslon.features.plan import plan_features
from zaslon.flows.serving_history import served_at
from zaslon.models.artefact import save_model
from zaslon.models.model import Model
from zaslon.services.context import Context
from zaslon.services.home import Champion, load_champion, named_champion
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration


class Payments:
    """Sends one transaction after the other until one is decided by what is wanted."""

    def __init__(self, cluster: Cluster, world: SmallWorld) -> None:
        self._cluster = cluster
        self._lines = (
            r for r, k in zip(world.records, world.kinds, strict=True) if k == Kind.TRANSACTION_LINE
        )
        self._sent = 0

    def until_decided_by(self, model: Model, policy: Policy) -> None:
        def is_decided_so() -> bool:
            self._cluster.send("input", [next(self._lines)])
            self._sent += 1
            self._cluster.wait_for(self._sent)
            newest = json.loads(self._cluster.published()[-1])
            return bool((newest["model"], newest["policy"]) == (model.artefact_id, policy.hash))

        until(is_decided_so)


def checked(cluster: Cluster, world: SmallWorld, *champions: Champion) -> ChangedLog:
    """The log, with every decision by what served at its position and the same bytes when it is replayed."""
    engine = world.engine()
    log = check_log(
        cluster.published(), cluster.recorded(engine.catalogue), engine, champions_by_name(*champions)
    )
    assert [outcome["position"] for outcome in log.outcomes] == list(range(len(log.outcomes)))
    assert (log.wrong_versions, log.differing) == ([], [])
    return log


def assert_history_is_that_of_the_log(context: Context, published: list[bytes]) -> None:
    made = [outcome for outcome in map(json.loads, published) if outcome["outcome"] == "change"]
    with closing(context.with_log("stream").open_journal_for_reading()) as reader:
        begun, *later = list(reader.servings())[::-1]
    assert begun.position == 0 and begun.change is None and begun.seconds is not None
    found = [(s.position, s.versions.model, s.versions.policy) for s in later if s.change is not None]
    assert found == [(change["position"], change["model"], change["policy"]) for change in made]
    for serving in later:
        assert serving.seconds is not None
        served = served_at(context, serving.seconds)  # changes may be in one second: the newest of it
        assert (served.note, served.since_seconds) == (None, serving.seconds)
    assert (served.position, served.model, served.until_seconds) == (
        made[-1]["position"], made[-1]["model"], None,
    )  # fmt: skip


def test_a_standby_goes_on_with_the_newest_champion_of_the_log(
    broker: LocalBroker, small_world: SmallWorld, challenger: Model, tmp_path: Path
) -> None:
    cluster = Cluster.new(broker)
    payments = Payments(cluster, small_world)
    here, there, settings = two_homes(small_world, tmp_path)
    model, policy = load_champion(here, plan_features(here.catalogue))
    stricter = policy.with_thresholds(0.001, 0.5)
    with ExitStack() as stack:
        first = stack.enter_context(cluster.scorer(here.home, **settings))
        until(lambda: first.is_deciding)
        second = stack.enter_context(cluster.scorer(there.home, **settings))
        payments.until_decided_by(model, policy)
        for turn in range(5):
            chosen = (challenger, model)[turn % 2], (policy, stricter)[turn // 2 % 2]
            promote(here, *chosen)
            payments.until_decided_by(*chosen)
        # Models and policies are copied between homes; which of them serves is in the log.
        save_model(challenger, there.home / "models" / challenger.artefact_id)
        (there.home / "policies" / f"{stricter.hash}.toml").write_bytes(stricter.to_toml().encode())
        first.kill()
        payments.until_decided_by(*chosen)
        assert second.is_deciding
        promote(there, challenger, stricter)
        payments.until_decided_by(challenger, stricter)
    assert len(checked(cluster, small_world, (model, policy), (challenger, stricter)).changes) == 6
    assert_history_is_that_of_the_log(cluster.context("viewer", here.home), cluster.published())


def test_ten_changes_under_load_survive_a_kill(
    broker: LocalBroker, small_world: SmallWorld, challenger: Model, tmp_path: Path
) -> None:
    first = load_champion(small_world.context, plan_features(small_world.context.catalogue))
    second = challenger, first[1].with_thresholds(0.001, 0.5)
    live = change_under_load(
        Cluster.new(broker), small_world, [second, first], tmp_path,
        rate=400, changes=10, warm=1, alone=400, apart=400,
    )  # fmt: skip
    live.check()
    assert live.sent > 10 * 400


def test_a_standby_with_an_older_home_does_not_put_its_model_back(
    broker: LocalBroker, small_world: SmallWorld, challenger: Model, tmp_path: Path
) -> None:
    cluster = Cluster.new(broker)
    payments = Payments(cluster, small_world)
    here, there, settings = two_homes(small_world, tmp_path)
    _, policy = load_champion(here, plan_features(here.catalogue))
    promote(here, challenger, policy)  # before the log begins: it has no change
    save_model(challenger, there.home / "models" / challenger.artefact_id)
    with ExitStack() as stack:
        first = stack.enter_context(cluster.scorer(here.home, **settings))
        until(lambda: first.is_deciding)
        second = stack.enter_context(cluster.scorer(there.home, **settings))
        payments.until_decided_by(challenger, policy)
        first.kill()
        payments.until_decided_by(challenger, policy)
        assert second.is_deciding
    published = list(map(json.loads, cluster.published()))
    assert {(outcome["model"], outcome["policy"]) for outcome in published} == {
        (challenger.artefact_id, policy.hash)
    }
    assert named_champion(there).model == challenger.artefact_id


def test_an_older_champion_is_refused_with_a_warning(
    broker: LocalBroker, small_world: SmallWorld, challenger: Model, tmp_path: Path
) -> None:
    cluster = Cluster.new(broker)
    payments = Payments(cluster, small_world)
    context = small_world.in_home(tmp_path / "home").context
    model, policy = load_champion(context, plan_features(context.catalogue))
    backup = (context.home / "champion.json").read_bytes()
    promote(context, challenger, policy)
    with cluster.scorer(context.home) as scorer:
        payments.until_decided_by(challenger, policy)
        (context.home / "champion.json").write_bytes(backup)
        assert scorer.prints("is not above promotion 2 that decides")
        assert named_champion(context).model == challenger.artefact_id
        promote(context, model, policy)
        payments.until_decided_by(model, policy)
