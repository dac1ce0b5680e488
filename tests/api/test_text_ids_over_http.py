"""A service whose catalogue names transactions by texts: they come back as texts, by every route."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok
from tests.api.serving import Caller, serving, transaction
from tests.api.test_a_real_server import running
from tests.api.test_openapi import CHECKS, EXAMPLES
from tests.text_ids import BY_TEXT, world_by_text
from tests.waiting import DEADLINE_SECONDS

from zaslon.bootstrap import open_api_keys
from zaslon.client import Client, Rejection
from zaslon.entrypoints.api import schemas
from zaslon.flows.reconcile import reconcile
from zaslon.flows.replay import find_position, replay
from zaslon.services.key_management import create_key
from zaslon.settings import load_settings
from zaslon.testing import SmallWorld

NAME = "5e1f6f6a-9a2b-4f0e-8f61-2b1c7f1d9e55"
# None has a percent sign followed by hex digits: the test client decodes paths twice, a server once.
PATHS = [
    ".",
    "..",
    "../policy",
    "a/../b",
    "a//b",
    "%",
    "%2F",
    "%2f",
    "a%2Fb",
    "%25",
    "%252F",
    "%00",
    "a\\b",
    "+",
]
RAW_PATHS = [
    ".",
    "..",
    "%2e%2e",
    "%2F",
    "a//b",
    "//",
    "%",
    "%2",
    "%zz",
    "a%2fb",
    "%252F",
    "%FF",
    "..%2Fpolicy",
]
ODD_NAMES = ["5", "a b", "pay/42?x=1&y=%#", 'say "hi"', "платёж №7", "..;/x", "{}", "x" * 64, "/", "a/"]


@pytest.fixture(scope="module")
def text_world(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """The small world's champion under a catalogue whose ids are texts."""
    return world_by_text(small_world, tmp_path_factory.mktemp("text-world"))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That catalogue's file."""
    file = tmp_path_factory.mktemp("catalogue") / "catalogue.toml"
    file.write_text(BY_TEXT, "utf-8")
    return file


@pytest.fixture(scope="module")
def admin(
    text_world: SmallWorld, catalogue: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Caller]:
    with serving(text_world, tmp_path_factory.mktemp("text-service") / "home", catalogue=catalogue) as made:
        yield made("admin")


def named(name: Any, **changed: Any) -> dict[str, Any]:
    return {**transaction(**changed), "transaction_id": name}


@pytest.mark.parametrize("name", [NAME, *ODD_NAMES])
def test_a_decision_is_found_by_the_id_that_the_caller_sent(admin: Caller, name: str) -> None:
    answered = admin.post("/v1/transactions", named(name)).json()
    assert answered["transaction_id"] == name
    recorded = admin.get(f"/v1/decisions/{quote(name, safe='')}")
    assert recorded.json() == {k: v for k, v in answered.items() if k not in ("repeated", "time_used_ms")}
    page = admin.get("/v1/decisions", limit=1).json()["decisions"]
    assert page == [recorded.json()]


def test_the_same_again_is_a_repeat_and_other_content_a_conflict(admin: Caller) -> None:
    first = admin.post("/v1/transactions", named("again")).json()
    assert admin.post("/v1/transactions", named("again")).json()["position"] == first["position"]
    refused = admin.post("/v1/transactions", named("again", tx_amount=1))
    assert refused.status_code == 409
    assert refused.json()["detail"].startswith("Transaction again has the id")


def test_a_label_names_a_text_and_its_receipt_too(admin: Caller) -> None:
    admin.post("/v1/transactions", named("to be labelled"))
    (outcome,) = admin.post(
        "/v1/labels", {"transaction_id": "to be labelled", "verdict": "chargeback"}
    ).json()["outcomes"]
    assert (outcome["transaction_id"], outcome["waiting"]) == ("to be labelled", False)
    many = [{"transaction_id": name, "verdict": "confirmed_good"} for name in ("a\u200bb", "", "ok")]
    outcomes = admin.post("/v1/labels", many).json()["outcomes"]
    assert [o["outcome"] for o in outcomes] == ["rejection", "rejection", "label"]
    assert "visible characters" in outcomes[0]["detail"]
    assert outcomes[1]["detail"] == "Field 'transaction_id' is missing; expected a value."


@pytest.mark.parametrize("name", [7, 7.5, None, True, "", "x" * 65, "a\u200bb", "a\u0000b", ["a"]])
def test_a_value_that_is_not_text_is_refused_with_what_is_expected(admin: Caller, name: Any) -> None:
    refused = admin.post("/v1/transactions", named(name))
    assert refused.status_code == 422
    assert refused.json()["detail"].endswith(
        ("expected text of 1 to 64 bytes in visible characters.", "expected a value.", "or is not UTF-8.")
    )
    assert admin.post("/v1/labels", {"transaction_id": 7, "verdict": "chargeback"}).status_code == 422


@pytest.mark.parametrize("name", ["never seen", "9" * 500, "%00", "%E2%80%AE", "%FF"])
def test_what_was_not_decided_is_not_found(admin: Caller, name: str) -> None:
    answer = admin.get(f"/v1/decisions/{name}")
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("Nothing was decided about transaction ")


def test_a_replay_and_the_reconciler_know_the_texts(
    text_world: SmallWorld, catalogue: Path, tmp_path: Path
) -> None:
    with serving(text_world, tmp_path / "home", catalogue=catalogue) as callers:
        caller = callers("admin")
        context = caller.service.context
        for name in (NAME, *ODD_NAMES):
            caller.post("/v1/transactions", named(name))
        caller.post("/v1/transactions", named("refused", tx_amount="x"))
    assert replay(context, find_position(context, f"tx:{NAME}")).identical
    (tmp_path / "sent").write_text("\n".join([NAME, *ODD_NAMES, "refused", "", "lost one"]))
    found = reconcile(context, tmp_path / "sent")
    assert (found.sent, found.unanswered) == (len(ODD_NAMES) + 3, ["lost one"])


def test_the_client_takes_and_gives_texts(admin: Caller) -> None:
    with Client("http://service", admin.key, transport=admin.transport()) as client:
        for name in ODD_NAMES:
            decided = client.decide(named(f"client {name}"[:64]))
            assert client.decision(decided.transaction_id) == replace(
                decided, repeated=False, time_used_ms=None
            )
        assert client.decision("never seen") is None
        receipt = client.label({NAME: "confirmed_fraud"})[0]
        assert not isinstance(receipt, Rejection)
        assert receipt.transaction_id == NAME


@pytest.mark.slow
def test_client_and_server_agree_on_every_odd_id(
    text_world: SmallWorld, catalogue: Path, tmp_path: Path
) -> None:
    world = text_world.in_home(tmp_path / "home")
    key = create_key(open_api_keys(load_settings(home=world.context.home)), "admin", "", None, 0).secret
    names = [NAME, *ODD_NAMES, *PATHS]
    with (
        running(world.context.home, ZASLON_CATALOGUE=str(catalogue)) as server,
        Client(server.address, key, timeout_seconds=DEADLINE_SECONDS) as client,
    ):
        decided = {name: client.decide(named(name)) for name in names}
        for name in names:
            assert client.decision(name) == replace(decided[name], repeated=False, time_used_ms=None)
            assert client.decision(f"{name}/not"[-64:]) is None
        for target in RAW_PATHS:  # as no client of ours sends them
            connection = http.client.HTTPConnection(server.place, timeout=DEADLINE_SECONDS)
            connection.putrequest("GET", f"/v1/decisions/{target}")
            connection.putheader("Authorization", f"Bearer {key}")
            connection.endheaders()
            answer = connection.getresponse()
            content = json.loads(answer.read())
            assert answer.status in (200, 404)
            assert answer.status == 404 or content["transaction_id"] == unquote(target)
            connection.close()


def test_the_description_follows_the_catalogue(admin: Caller) -> None:
    description = admin.get("/openapi.json").json()
    assert description == admin.get("/openapi.json").json()
    answers = description["components"]["schemas"]
    for name in ("Decision", "DecisionAnswer", "DecisionItem", "LabelAccepted"):
        assert answers[name]["properties"]["transaction_id"]["type"] == "string", name
    (parameter,) = description["paths"]["/v1/decisions/{transaction_id}"]["get"]["parameters"]
    assert parameter["schema"]["type"] == "string"
    later = {"tx_datetime": "2019-09-20 10:15:00"}
    for path, changed in (("/v1/transactions", later), ("/v1/labels", {})):
        content = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        schema = content["oneOf"][0] if "oneOf" in content else content
        assert schema["properties"]["transaction_id"]["type"] == "string"
        assert content["example"]["transaction_id"] == schemas.EXAMPLE_TEXT
        assert admin.post(path, {**content["example"], **changed}).status_code == 200
    assert b'"integer","title":"Transaction Id"' not in orjson.dumps(description)


@pytest.fixture
def fresh(text_world: SmallWorld, catalogue: Path, tmp_path: Path) -> Iterator[Caller]:
    """A service that nobody has called: it answers on the event loop of its first call, and only there."""
    with serving(text_world, tmp_path / "home", catalogue=catalogue) as made:
        yield made("admin")


@pytest.mark.law
def test_every_answer_matches_the_schema(fresh: Caller) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", fresh.client.app)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES // 2, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy())
        def every_answer_fits(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(headers=fresh.headers, checks=CHECKS)

        every_answer_fits()
