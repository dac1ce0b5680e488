"""The decision service in front of the stream: every decision passes the log once, through any ingress."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import KafkaError, Message
from deploy.kafka.broker import LocalBroker
from starlette.testclient import TestClient
from tests.api.serving import QUIET, Caller, transaction
from tests.changed_log import champions_by_name, check_log
from tests.integration.kafka_promotions import promote, two_homes
from tests.integration.kafka_world import Cluster, Scorer
from tests.waiting import DEADLINE_SECONDS, until

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.adapters.cluster.kafka.connection import Watch
from zaslon.adapters.cluster.kafka.gateway import KafkaGateway
from zaslon.adapters.cluster.kafka.messages import as_rejection
from zaslon.adapters.embedded.decision_store import SqliteDecisions
from zaslon.bootstrap import build_context
from zaslon.domain.errors import ServerError
from zaslon.domain.events import Kind, RecordBatch, TransactionId
from zaslon.domain.outcomes import Decision
from zaslon.entrypoints.api.app import build_app
from zaslon.entrypoints.api.server import build_service
from zaslon.features.plan import plan_features
from zaslon.models.artefact import save_model
from zaslon.models.model import Model
from zaslon.services.home import keep_policy, load_champion
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration
NOW = 1_790_000_000  # 2026: everything that is sent has happened


@contextmanager
def gateway(cluster: Cluster, home: Path, **more: Any) -> Iterator[Caller]:
    """A ready service in front of the cluster's stream."""
    settings = cluster.settings("gateway", home, **{"api_decider": "kafka", **QUIET, **more})
    service = build_service(settings, build_context(settings))
    service.decider.start()
    with TestClient(build_app(service), raise_server_exceptions=False) as client:
        yield Caller(service, client, "admin")


@contextmanager
def scoring(cluster: Cluster, home: Path) -> Iterator[Scorer]:
    """A process that decides the stream."""
    with cluster.scorer(home) as scorer:
        assert scorer.prints("Deciding from position"), scorer.printed
        yield scorer


@pytest.fixture(scope="module")
def cluster(broker: LocalBroker) -> Cluster:
    return Cluster.new(broker)


@pytest.fixture(scope="module")
def module_home(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world.in_home(tmp_path_factory.mktemp("gateway") / "home").context.home


@pytest.fixture(scope="module")
def caller(cluster: Cluster, module_home: Path) -> Iterator[Caller]:
    """A gateway with a scorer behind it."""
    with scoring(cluster, module_home), gateway(cluster, module_home) as made:
        yield made


def test_the_gateway_decides_as_the_embedded_engine_does(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    cluster = Cluster.new(broker)
    with scoring(cluster, home), gateway(cluster, home) as caller:
        single = [caller.post("/v1/transactions", transaction(tx_amount=10 + i)) for i in range(20)]
        many = [transaction(customer_id=i % 5, tx_amount=9_000 + i) for i in range(100)]
        batch = caller.post("/v1/transactions/batch", many).json()["outcomes"]
        one = single[0].json()["transaction_id"]
        looked_up = caller.get(f"/v1/decisions/{one}").content
    assert {answer.status_code for answer in single} == {200}
    answered = [*(answer.json() for answer in single), *batch]
    published = cluster.published()
    assert published == cluster.embedded(small_world.engine())
    assert len(published) == 120
    for answer in answered:
        answer.pop("time_used_ms", None)
        assert answer.pop("repeated") is False
        assert answer == orjson.loads(published[answer["position"]])
    assert looked_up == published[answered[0]["position"]]


def test_a_label_between_two_transactions_changes_the_second(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    """Both happened long before the broker's clock had the label."""
    cluster = Cluster.new(broker)
    first, second = transaction(), transaction(tx_datetime="2019-09-20 10:16:00")
    verdict = {"transaction_id": first["transaction_id"], "verdict": "confirmed_fraud"}
    with scoring(cluster, home), gateway(cluster, home) as caller:
        assert caller.post("/v1/transactions", first).status_code == 200
        (receipt,) = caller.post("/v1/labels", verdict).json()["outcomes"]
        decided = caller.post("/v1/transactions", second).json()
    assert (receipt["outcome"], receipt["is_fraud"], receipt["waiting"]) == ("label", True, False)
    without = small_world.engine()
    unlabelled = RecordBatch.of(
        [orjson.dumps(first), orjson.dumps(second)], [Kind.TRANSACTION_JSON] * 2, [NOW] * 2
    )
    (_, unaware) = without.process(small_world.admit(unlabelled)).outcomes
    assert isinstance(unaware, Decision)
    assert decided["score"] != unaware.score
    assert cluster.published() == cluster.embedded(small_world.engine())


def test_a_repeat_is_answered_with_the_recorded_decision(caller: Caller, cluster: Cluster) -> None:
    sent = transaction()
    first = caller.post("/v1/transactions", sent).json()
    again = caller.post("/v1/transactions", dict(reversed(sent.items()))).json()
    assert (first.pop("repeated"), again.pop("repeated")) == (False, True)
    del first["time_used_ms"], again["time_used_ms"]
    assert again == first
    assert as_rejection(cluster.read("rejections")[-1]).code == "duplicate"


def test_an_invalid_record_sent_twice_at_once_is_not_a_repeat(caller: Caller) -> None:
    wrong = transaction(tx_amount="much")
    outcomes = caller.post("/v1/transactions/batch", [wrong, wrong]).json()["outcomes"]
    assert [(o["reason"], o["repeated"]) for o in outcomes] == [("not_a_number:tx_amount", False)] * 2


def test_a_repeat_of_a_reused_id_gets_the_newest_decision(broker: LocalBroker, home: Path) -> None:
    cluster = Cluster.new(broker)
    old = transaction(tx_datetime="2019-06-01 10:00:00")
    between = transaction(tx_datetime="2019-09-20 10:00:00")
    new = {**old, "tx_datetime": "2019-09-21 10:00:00"}
    with scoring(cluster, home), gateway(cluster, home) as caller:
        answers = [caller.post("/v1/transactions", sent).json() for sent in (old, between, new, new)]
    assert [answer["position"] for answer in answers] == [0, 1, 2, 2]
    assert [answer["repeated"] for answer in answers] == [False, False, False, True]
    assert [answer["event_time"][:10] for answer in answers] == [
        "2019-06-01", "2019-09-20", "2019-09-21", "2019-09-21",
    ]  # fmt: skip


def test_a_repeat_gets_the_newest_decision_of_its_id(
    broker: LocalBroker, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the newest decision is in a partition that was not read yet."""
    cluster = Cluster.new(broker)
    old = transaction(tx_datetime="2019-06-01 10:00:00")
    between = transaction(tx_datetime="2019-09-20 10:00:00")
    new = {**old, "tx_datetime": "2019-09-21 10:00:00"}
    keep = SqliteDecisions.keep

    def keep_all_but_the_newest(
        store: SqliteDecisions, decisions: Sequence[tuple[int, TransactionId, bytes]], checkpoint: bytes
    ) -> None:
        keep(store, [found for found in decisions if found[0] != 2], checkpoint)

    monkeypatch.setattr(SqliteDecisions, "keep", keep_all_but_the_newest)
    with scoring(cluster, home), gateway(cluster, home) as caller:
        for sent in (old, between, new):
            assert caller.post("/v1/transactions", sent).status_code == 200
        answer = caller.post("/v1/transactions", new)
    assert (answer.status_code, answer.json()["reason"]) == (409, "duplicate")


def test_the_same_content_twice_in_a_call_is_two_records(caller: Caller, cluster: Cluster) -> None:
    sent, before = transaction(), len(cluster.read("input"))
    outcomes = caller.post("/v1/transactions/batch", [sent, sent]).json()["outcomes"]
    assert [outcome.pop("repeated") for outcome in outcomes] == [False, True]
    assert outcomes[0] == outcomes[1]
    assert len(cluster.read("input")) == before + 2, "every ingress logs what came in one call"


def test_the_same_id_with_other_content_is_refused_and_recorded(caller: Caller, cluster: Cluster) -> None:
    sent = transaction()
    assert caller.post("/v1/transactions", sent).status_code == 200
    refused = caller.post("/v1/transactions", {**sent, "tx_amount": 1.5})
    assert refused.status_code == 409
    problem = refused.json()
    assert problem["type"] == "urn:zaslon:problem:conflict"
    recorded = as_rejection(cluster.read("rejections")[-1])
    assert (recorded.code, recorded.position) == ("conflicting_duplicate", problem["position"])


def test_two_senders_of_the_same_id_get_their_own_outcomes(caller: Caller, cluster: Cluster) -> None:
    sent = transaction()
    cluster.send("input", [orjson.dumps({**sent, "tx_amount": 1.5})])  # first, with the same id
    answer = caller.post("/v1/transactions", sent)
    assert (answer.status_code, answer.json()["reason"]) == (409, "conflicting_duplicate")


def test_a_rejection_is_a_problem_with_the_recorded_reason(caller: Caller, cluster: Cluster) -> None:
    answer = caller.post("/v1/transactions", transaction(tx_amount="much"))
    problem = answer.json()
    assert (answer.status_code, problem["reason"]) == (422, "not_a_number:tx_amount")
    assert problem["errors"][0]["field"] == "tx_amount"
    recorded = as_rejection(cluster.read("rejections")[-1])
    assert (recorded.code, recorded.detail) == (problem["reason"], problem["detail"])


def test_transaction_markers_are_not_counted_as_records(caller: Caller, cluster: Cluster) -> None:
    """With messages of another sender's transactions between ours."""
    other = cluster.connection("admin").producer(Watch("broker"), transactional_id="zaslon-others")
    other.init_transactions(DEADLINE_SECONDS)
    amounts = iter(range(100, 200))
    for ends in (other.commit_transaction, other.abort_transaction) * 3:
        other.begin_transaction()
        other.produce(cluster.topic("input"), orjson.dumps(transaction(tx_amount=next(amounts))))
        other.flush(DEADLINE_SECONDS)
        ours = [transaction(tx_amount=next(amounts)) for _ in range(3)]
        ends(DEADLINE_SECONDS)
        outcomes = caller.post("/v1/transactions/batch", ours).json()["outcomes"]
        assert [o["transaction_id"] for o in outcomes] == [one["transaction_id"] for one in ours]
    assert any(r.gaps for order in cluster.orders() for r in order.ranges)


def test_the_versions_shown_are_those_that_decide_the_stream(caller: Caller, small_world: SmallWorld) -> None:
    assert caller.post("/v1/transactions", transaction()).status_code == 200
    versions = small_world.engine().versions
    assert caller.get("/v1/model").json()["model"] == versions.model
    assert caller.get("/v1/policy").json()["policy"] == versions.policy


def test_a_promotion_reaches_the_gateway_and_its_calls(
    broker: LocalBroker, small_world: SmallWorld, challenger: Model, tmp_path: Path
) -> None:
    """Also where the gateway has a home of its own, and where it starts after the change."""
    cluster = Cluster.new(broker)
    here, there, settings = two_homes(small_world, tmp_path)
    third = small_world.in_home(tmp_path / "third").context
    model, policy = load_champion(here, plan_features(here.catalogue))
    stricter = policy.with_thresholds(0.001, 0.5)
    for context in (there, third):  # the log names both, and a service shows what its home has of them
        save_model(challenger, context.home / "models" / challenger.artefact_id)
        keep_policy(context, stricter)
    own = {"pseudonym_key": small_world.context.key.decode()}

    def served(caller: Caller) -> set[tuple[str, str]]:
        """By the newest decision, and as shown."""
        decided = caller.post("/v1/transactions", transaction()).json()
        shown = caller.get("/v1/model").json()["model"], caller.get("/v1/policy").json()["policy"]
        return {(decided["model"], decided["policy"]), shown}

    with cluster.scorer(here.home, **settings) as scorer, gateway(cluster, there.home, **own) as caller:
        assert scorer.prints("Deciding")
        assert served(caller) == {(model.artefact_id, policy.hash)}
        promote(here, challenger, stricter)
        until(lambda: served(caller) == {(challenger.artefact_id, stricter.hash)})
        with gateway(cluster, third.home, **own) as later:
            assert served(later) == {(challenger.artefact_id, stricter.hash)}
    first, second = (model, policy), (challenger, stricter)
    engine = small_world.engine()
    log = check_log(
        cluster.published(), cluster.recorded(engine.catalogue), engine, champions_by_name(first, second)
    )
    assert (len(log.changes), log.wrong_versions, log.differing) == (1, [], [])


def test_a_record_that_is_too_large_for_the_log_is_not_sent(caller: Caller) -> None:
    answer = caller.post("/v1/transactions", transaction(note="x" * 1_100_000))
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:zaslon:problem:too_large")


def test_metrics_report_the_time_of_log_and_scorer(caller: Caller) -> None:
    assert caller.post("/v1/transactions", transaction()).status_code == 200
    text = caller.get("/metrics").text
    for name in ("zaslon_logged_seconds_count", "zaslon_decided_seconds_count"):
        assert float(text.split(f"\n{name} ")[1].split()[0]) > 0
    assert re.search(r'zaslon_outcomes_total\{detail="\w+",outcome="decision"\} [1-9]', text)


def test_without_a_scorer_a_call_ends_at_its_deadline(broker: LocalBroker, home: Path) -> None:
    cluster, sent = Cluster.new(broker), transaction()
    path = f"/v1/decisions/{sent['transaction_id']}"
    with gateway(cluster, home, api_budget_ms=400) as caller:
        late = [caller.post("/v1/transactions", sent)]
        while len(late) < 2 or not late[-1].json()["in_log"]:  # all wait for the same record
            late.append(caller.post("/v1/transactions", sent))
        for answer in late:
            problem = answer.json()
            assert (answer.status_code, problem["type"]) == (503, "urn:zaslon:problem:not_in_time")
            assert problem["fallback_action"] == "review"
            assert answer.headers["retry-after"] == "1"
        assert "/v1/decisions/" in problem["detail"]
        assert caller.get(path).status_code == 404
        assert [m.value() for m in cluster.read("input")] == [orjson.dumps(sent)]
        with scoring(cluster, home):
            until(lambda: caller.get(path).status_code == 200)
    assert [caller_sees(cluster, home, path)] == cluster.published()


def caller_sees(cluster: Cluster, home: Path, path: str) -> bytes:
    """What another gateway, just started, answers."""
    with gateway(cluster, home) as caller:
        content: bytes = caller.get(path).content
        return content


@pytest.mark.parametrize(
    ("error", "in_log"),
    [(None, True), (KafkaError(error_codes.MESSAGE_TIMED_OUT), None)],
    ids=["taken", "late"],
)
def test_a_record_at_an_unknown_offset_is_uncertain(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, error: KafkaError | None, in_log: bool | None
) -> None:
    """The acknowledgement of a retry whose first attempt was taken has no offset; of a late one nothing is known."""
    gateway, sent = caller.service.decider, transaction()
    assert isinstance(gateway, KafkaGateway)
    delivered = gateway._delivered

    def without_offset(record: Any, _: KafkaError | None, message: Message) -> None:
        delivered(record, error, Message(topic=message.topic(), partition=message.partition()))

    monkeypatch.setattr(gateway, "_delivered", without_offset)
    answer = caller.post("/v1/transactions", sent)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (503, "urn:zaslon:problem:not_in_time")
    assert (problem["in_log"], problem["fallback_action"]) == (in_log, "review")
    monkeypatch.undo()
    again = caller.post("/v1/transactions", sent).json()
    assert (again["transaction_id"], again["repeated"]) == (sent["transaction_id"], True)
    assert gateway.waiting_records == 0


def test_rejections_are_answered_from_every_partition(broker: LocalBroker, home: Path) -> None:
    cluster = Cluster.new(broker)
    cluster.grow(rejections=3)
    with scoring(cluster, home), gateway(cluster, home) as caller:
        answers = [caller.post("/v1/transactions", transaction(tx_amount="much")) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {422}


def test_a_full_queue_is_refused_at_once(broker: LocalBroker, home: Path) -> None:
    cluster = Cluster.new(broker)
    with gateway(cluster, home, api_budget_ms=300, api_queue_records_max=3) as caller:
        caller.post("/v1/transactions/batch", [transaction() for _ in range(3)])
        answer = caller.post("/v1/transactions", transaction())
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:zaslon:problem:busy")
    assert len(cluster.read("input")) == 3


def test_a_gateway_started_later_knows_the_newest_decisions_only(broker: LocalBroker, home: Path) -> None:
    cluster = Cluster.new(broker)
    sent = [transaction() for _ in range(300)]
    cluster.send("input", [orjson.dumps(one) for one in sent])
    cluster.stream_until(home, 300)
    (home / "gateway").mkdir()
    (home / "gateway" / "decisions.db").write_bytes(b"this is not a store of decisions, or damaged" * 99)
    with gateway(cluster, home, api_kept_records=100) as caller:
        newest, oldest = (caller.get(f"/v1/decisions/{sent[i]['transaction_id']}") for i in (-1, 0))
        page = caller.get("/v1/decisions", limit=200).json()["decisions"]
    assert newest.content == cluster.published()[-1]
    assert oldest.status_code == 404
    assert "newest 100 records" in oldest.json()["detail"]
    assert 90 <= len(page) <= 100
    assert [d["position"] for d in page] == sorted((d["position"] for d in page), reverse=True)


def test_the_service_is_not_ready_without_a_broker_and_recovers(broker: LocalBroker, home: Path) -> None:
    cluster = Cluster.new(broker)
    with scoring(cluster, home), gateway(cluster, home, api_budget_ms=2_000) as caller:
        until(lambda: caller.post("/v1/transactions", transaction()).status_code == 200)
        broker.kill()
        sent = transaction()
        refused = caller.post("/v1/transactions", sent)
        until(lambda: caller.get("/readyz").status_code == 503)
        assert refused.status_code == 503
        assert not refused.json().get("in_log")
        assert "unreachable" in caller.get("/readyz").json()["detail"]
        assert caller.get("/healthz").status_code == 200
        broker.start()
        until(lambda: caller.get("/readyz").status_code == 200)
        until(lambda: caller.post("/v1/transactions", sent).status_code == 200)
    decided = [orjson.loads(outcome) for outcome in cluster.published()]
    ids = [d["transaction_id"] for d in decided if d["outcome"] == "decision"]
    assert ids.count(sent["transaction_id"]) == 1


def test_a_broker_that_refuses_the_service_is_one_clear_error(cluster: Cluster, module_home: Path) -> None:
    settings = cluster.settings(
        "gateway", module_home, api_decider="kafka", kafka_password="wrong", kafka_password_file=None
    )
    service = build_service(settings, build_context(settings))
    with pytest.raises(ServerError, match="refuses the user or the password"):
        service.decider.start()
    assert not service.decider.is_ready
    until(lambda: not service.decider.is_alive)
