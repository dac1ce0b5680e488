"""Transactions in, decisions out: durable, explained, the same again for the same again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from tests.api.serving import Caller, serving, transaction

from zaslon.entrypoints.api.schemas import DecisionAnswer
from zaslon.flows.reconcile import reconcile
from zaslon.flows.replay import replay
from zaslon.testing import SmallWorld


def test_a_transaction_is_answered_with_its_decision(admin: Caller) -> None:
    sent = transaction()
    answer = admin.post("/v1/transactions", sent)
    assert answer.status_code == 200
    decision = answer.json()
    assert decision["transaction_id"] == sent["transaction_id"]
    assert decision["action"] in ("allow", "review", "block")
    assert 0 <= decision["score"] <= 1
    assert decision["degraded"] is None
    assert decision["time_used_ms"] > 0
    assert decision.keys() == DecisionAnswer.model_fields.keys(), "as the service describes it"


def test_the_answer_is_what_the_log_holds(admin: Caller) -> None:
    answered = admin.post("/v1/transactions", transaction()).json()
    recorded = admin.get(f"/v1/decisions/{answered['transaction_id']}").json()
    assert recorded == {k: v for k, v in answered.items() if k not in ("repeated", "time_used_ms")}


def test_the_same_again_gives_the_same_answer(admin: Caller) -> None:
    sent = transaction()
    first = admin.post("/v1/transactions", sent).json()
    again = admin.post("/v1/transactions", dict(reversed(sent.items()))).json()
    assert (first.pop("repeated"), again.pop("repeated")) == (False, True)
    del first["time_used_ms"], again["time_used_ms"]
    assert again == first


def test_a_repeat_is_logged_as_a_duplicate(admin: Caller) -> None:
    sent = transaction()
    first = admin.post("/v1/transactions", sent).json()["position"]
    admin.post("/v1/transactions", sent)
    end = admin.post("/v1/transactions", transaction()).json()["position"]
    assert end == first + 2
    recorded = admin.service.context.open_journal_for_reading().outcome(first + 1)
    assert recorded is not None
    assert orjson.loads(recorded)["reason"] == "duplicate"
    assert orjson.loads(recorded)["transaction_id"] == sent["transaction_id"]


def test_an_answer_in_a_transaction_is_counted_and_not_taken(admin: Caller) -> None:
    def counted() -> float:
        (line,) = re.findall(
            r"^zaslon_answers_not_taken_total (.+)$", admin.get("/metrics").text, re.MULTILINE
        )
        return float(line)

    before = counted()
    sent = transaction()
    first = admin.post("/v1/transactions", sent).json()
    again = admin.post("/v1/transactions", {**sent, "tx_fraud": 1}).json()
    assert again["repeated"] and again["position"] == first["position"]
    admin.post("/v1/transactions", transaction(tx_fraud=0))
    admin.post("/v1/transactions", transaction(tx_fraud=""))
    assert counted() == before + 2
    (label,) = admin.post(
        "/v1/labels", {"transaction_id": sent["transaction_id"], "verdict": "confirmed_fraud"}
    ).json()["outcomes"]
    assert not label["waiting"]


def test_the_same_id_with_other_content_is_refused_and_recorded(admin: Caller) -> None:
    sent = transaction()
    admin.post("/v1/transactions", sent)
    refused = admin.post("/v1/transactions", {**sent, "tx_amount": 1})
    assert refused.status_code == 409
    assert refused.json()["type"] == "urn:zaslon:problem:conflict"
    recorded = admin.service.context.open_journal_for_reading().outcome(refused.json()["position"])
    assert recorded is not None
    assert orjson.loads(recorded)["reason"] == "conflicting_duplicate"


def test_a_batch_gives_one_outcome_each_in_order(admin: Caller) -> None:
    sent = [transaction() for _ in range(5)]
    items = [*sent, sent[0], {**sent[1], "tx_amount": 3}, {}, 7]
    outcomes = admin.post("/v1/transactions/batch", items).json()["outcomes"]
    assert [o.get("transaction_id") for o in outcomes[:6]] == [t["transaction_id"] for t in [*sent, sent[0]]]
    assert [o["repeated"] for o in outcomes] == [False] * 5 + [True] + [False] * 3
    assert outcomes[5]["position"] == outcomes[0]["position"]
    assert [o["reason"] for o in outcomes[6:]] == [
        "conflicting_duplicate", "missing_field:transaction_id", "not_json",
    ]  # fmt: skip


def test_a_label_between_two_transactions_changes_the_second(small_world: SmallWorld, tmp_path: Path) -> None:
    def score_after(home: Path, verdict: str) -> float:
        with serving(small_world, home) as callers:
            caller = callers("admin")
            first, second = transaction(), transaction(tx_datetime="2019-09-20 10:16:00", customer_id=8)
            caller.post("/v1/transactions", first)
            labelled = caller.post(
                "/v1/labels", {"transaction_id": first["transaction_id"], "verdict": verdict}
            )
            assert labelled.json()["outcomes"][0]["waiting"] is False
            score: float = caller.post("/v1/transactions", second).json()["score"]
            return score

    good = score_after(tmp_path / "good", "confirmed_good")
    assert score_after(tmp_path / "fraud", "confirmed_fraud") > good
    assert score_after(tmp_path / "chargeback", "chargeback") > good


def test_over_restarts_repeats_are_known_and_decisions_replayed(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    sent = [transaction(tx_amount=40 + i) for i in range(20)]
    with serving(small_world, tmp_path / "home") as callers:
        first = [callers("scorer").post("/v1/transactions", t).json() for t in sent]
    with serving(small_world, tmp_path / "home") as callers:
        caller = callers("scorer")
        again = [caller.post("/v1/transactions", t).json() for t in sent]
        refused = caller.post("/v1/transactions", {**sent[0], "tx_amount": 1})
        context = caller.service.context
    assert all(answer["repeated"] for answer in again)
    assert [a["position"] for a in again] == [f["position"] for f in first]
    assert refused.status_code == 409
    for position in (0, 19, 20, 40):
        assert replay(context, position).identical
    found = reconcile(context)
    assert (found.is_whole, found.decisions, found.records) == (True, 20, 41)


def test_an_id_may_be_used_again_when_it_is_no_longer_remembered(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    sent = transaction()
    later = {**sent, "tx_datetime": "2020-03-01 00:00:00"}  # 45 days are remembered
    with serving(small_world, tmp_path / "home") as callers:
        caller = callers("scorer")
        first = caller.post("/v1/transactions", sent).json()
        assert (
            caller.post("/v1/transactions", {**later, "tx_datetime": "2019-09-21 10:15:00"}).status_code
            == 409
        )
        second = caller.post("/v1/transactions", later).json()
        repeat = caller.post("/v1/transactions", later).json()
        too_late = caller.post("/v1/transactions", sent).json()
        newest = caller.get(f"/v1/decisions/{sent['transaction_id']}").json()
        context = caller.service.context
    assert second["position"] > first["position"]
    assert (repeat["position"], repeat["repeated"]) == (second["position"], True)
    assert newest["position"] == second["position"]
    assert too_late["reason"] == "too_late"
    assert reconcile(context).is_whole


def test_decisions_are_listed_by_pages_newest_first(admin: Caller) -> None:
    positions = [admin.post("/v1/transactions", transaction()).json()["position"] for _ in range(7)]
    seen: list[int] = []
    before: int | None = positions[-1] + 1
    while before is not None and before > positions[0]:
        page = admin.get("/v1/decisions", limit=3, before=before).json()
        seen += [d["position"] for d in page["decisions"]]
        before = page["next"]
    assert seen[:7] == positions[::-1]


def test_decisions_are_filtered(admin: Caller) -> None:
    admin.post("/v1/transactions", transaction(tx_datetime="2019-09-22 00:00:00"))
    wanted = {"time_from": "2019-09-21 00:00:00", "time_before": "2019-09-23 00:00:00"}
    found = admin.get("/v1/decisions", **wanted).json()["decisions"]
    assert [d["event_time"] for d in found] == ["2019-09-22 00:00:00"]
    assert admin.get("/v1/decisions", **wanted, degraded=True).json()["decisions"] == []
    assert admin.get("/v1/decisions", **wanted, score_min=1).json()["decisions"] == []
    assert admin.get("/v1/decisions", **wanted, rule="none").json()["decisions"] == []
    assert admin.get("/v1/decisions", **wanted, action=found[0]["action"]).json()["decisions"] == found


def test_decisions_are_found_by_customer_and_by_terminal(admin: Caller) -> None:
    mine = [admin.post("/v1/transactions", transaction(customer_id=4_961)).json() for _ in range(3)]
    admin.post("/v1/transactions", transaction(terminal_id=4_961))
    answers = admin.post("/v1/transactions", transaction(customer_id=4_961, terminal_id=1_113)).json()
    wanted = {"entity": "customer", "entity_value": "4961"}
    page = admin.get("/v1/decisions", **wanted, limit=2).json()
    rest = admin.get("/v1/decisions", **wanted, limit=9, before=page["next"]).json()
    found = [d["position"] for d in page["decisions"] + rest["decisions"]]
    assert found == [answers["position"], *(d["position"] for d in reversed(mine))]
    assert rest["next"] is None
    (only,) = admin.get("/v1/decisions", entity="terminal", entity_value=1_113).json()["decisions"]
    assert only["transaction_id"] == answers["transaction_id"]
    assert admin.get("/v1/decisions", **wanted, action="block", score_min=1).json()["decisions"] == []
    assert admin.get("/v1/decisions", **wanted, time_before="2019-01-01 00:00:00").json()["decisions"] == []


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"entity": "card", "entity_value": "7"}, "no entity 'card'"),
        ({"entity": "customer", "entity_value": "x"}, "No customer is called so"),
        ({"entity": "customer"}, "given together"),
        ({"entity_value": "7"}, "given together"),
    ],
)
def test_an_entity_that_cannot_be_found_is_refused(
    admin: Caller, wanted: dict[str, str], sentence: str
) -> None:
    refused = admin.get("/v1/decisions", **wanted)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:zaslon:problem:invalid")
    assert sentence in refused.text


def test_a_look_up_by_entity_needs_the_role_of_an_analyst(
    callers: Callable[[str | None], Caller],
) -> None:
    wanted = {"entity": "customer", "entity_value": "7"}
    assert callers("scorer").get("/v1/decisions", **wanted).status_code == 403
    assert callers("analyst").get("/v1/decisions", **wanted).status_code == 200


def test_what_serves_is_reported(admin: Caller) -> None:
    decision = admin.post("/v1/transactions", transaction()).json()
    assert admin.get("/v1/model").json()["model"] == decision["model"]
    policy = admin.get("/v1/policy").json()
    assert policy["policy"] == decision["policy"]
    assert policy["content"]["thresholds"].keys() == {"review", "block"}


def test_probes_and_metrics_report_the_service_state(
    admin: Caller, callers: Callable[[str | None], Caller]
) -> None:
    stranger = callers(None)
    assert stranger.get("/healthz").json() == {"status": "alive"}
    assert stranger.get("/readyz").json() == {"status": "ready"}
    assert stranger.get("/metrics").status_code == 401
    admin.post("/v1/transactions", transaction(transaction_id=123_456_789))
    text = admin.get("/metrics").text
    assert "zaslon_ready 1.0" in text
    assert 'zaslon_outcomes_total{detail="' in text
    assert "123456789" not in text
