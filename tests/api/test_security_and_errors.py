"""Who may do what, what is refused and with which answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.api.serving import Caller, serving, transaction
from tests.file_modes import nothing_masked as nothing_masked  # noqa: PLC0414  a fixture
from tests.file_modes import open_to_others

from zaslon.domain.errors import ZaslonError
from zaslon.entrypoints.api.rates import Rates
from zaslon.entrypoints.api.server import _check_address
from zaslon.settings import load_settings
from zaslon.testing import SmallWorld

Callers = Callable[[str | None], Caller]
ROUTES = {
    ("POST", "/v1/transactions"): "scorer",
    ("POST", "/v1/transactions/batch"): "scorer",
    ("GET", "/v1/decisions/1"): "scorer",
    ("GET", "/v1/decisions"): "analyst",
    ("POST", "/v1/labels"): "analyst",
    ("GET", "/v1/model"): "analyst",
    ("GET", "/v1/policy"): "analyst",
}


def status_of(caller: Caller, method: str, path: str) -> int:
    answer = caller.get(path) if method == "GET" else caller.post(path, {})
    status: int = answer.status_code
    return status


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_asks_for_a_key_and_for_its_role(callers: Callers, method: str, path: str) -> None:
    assert status_of(callers(None), method, path) == 401
    wanted = 403 if ROUTES[method, path] == "analyst" else {404, 422, 200}
    found = status_of(callers("scorer"), method, path)
    assert found in (wanted if isinstance(wanted, set) else {wanted})
    assert status_of(callers("admin"), method, path) in (200, 404, 422)


def test_addresses_of_other_machines_need_tls() -> None:
    with pytest.raises(ZaslonError, match="not a local address"):
        _check_address(load_settings(api_host="0.0.0.0"))
    with pytest.raises(ZaslonError, match="needs both"):
        _check_address(load_settings(api_tls_key="key.pem"))
    with pytest.raises(ZaslonError, match="is not a file"):
        _check_address(load_settings(api_tls_key="no.pem", api_tls_certificate="no.pem"))
    _check_address(load_settings(api_host="0.0.0.0", api_plain_http=True))
    _check_address(load_settings(api_host="::1"))


LABEL = b'{"transaction_id":1,"verdict":"chargeback"}'
LABEL_TWICE = LABEL[:-1] + b',"transaction_id":2}'
AMOUNT_TWICE = json.dumps(transaction())[:-1].encode() + b',"tx_amount":1}'
BODIES: list[tuple[bytes, dict[str, str], int, str, str]] = [
    (b"{", {}, 422, "rejected", "The record is not a JSON object"),
    (b"[1]", {}, 422, "rejected", "The record is not a JSON object"),
    (b"\xff", {}, 422, "rejected", "is not UTF-8"),
    (b"", {}, 422, "rejected", "The record is empty"),
    (b'{"a":[[[[[[[[[1]]]]]]]]]}', {}, 400, "too_deep", "more than 8 levels"),
    (b"{}", {"Content-Type": "text/plain"}, 415, "not_json_type", "expected application/json"),
    (b'{"a":"' + b"x" * 2_200_000 + b'"}', {}, 413, "too_large", "more than 2097152 bytes"),
    (b"{}", {}, 422, "rejected", "Field 'transaction_id' is missing; expected a value."),
]


@pytest.mark.parametrize(("body", "headers", "status", "code", "words"), BODIES)
def test_an_unusable_body_gets_a_clear_error(
    admin: Caller, body: bytes, headers: dict[str, str], status: int, code: str, words: str
) -> None:
    answer = admin.post("/v1/transactions", body, **headers)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status)
    assert problem["type"] == f"urn:zaslon:problem:{code}"
    assert words in problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_a_rejection_names_field_problem_and_expectation(admin: Caller) -> None:
    problem = admin.post("/v1/transactions", transaction(tx_amount="much")).json()
    assert problem["reason"] == "not_a_number:tx_amount"
    assert problem["errors"] == [
        {"field": "tx_amount", "problem": "is 'much'", "expected": "a plain decimal such as 12.34"}
    ]


def test_a_rejection_names_every_wrong_field_in_order(admin: Caller) -> None:
    several = transaction(tx_amount="7; expected 8", tx_datetime="soon", customer_id=None)
    refused = admin.post("/v1/transactions", several).json()
    assert refused["reason"] == "missing_field:customer_id"
    assert refused["errors"] == [
        {"field": "customer_id", "problem": "is missing", "expected": "a value"},
        {"field": "tx_amount", "problem": "is '7; expected 8'", "expected": "a plain decimal such as 12.34"},
        {"field": "tx_datetime", "problem": "is 'soon'", "expected": "YYYY-MM-DD HH:MM:SS, in UTC"},
    ]
    (in_batch,) = admin.post("/v1/transactions/batch", [several]).json()["outcomes"]
    without_reason = [{k: v for k, v in p.items() if k != "reason"} for p in in_batch["problems"]]
    assert without_reason == refused["errors"]
    assert [p["reason"] for p in in_batch["problems"]] == ["missing_field", "not_a_number", "not_a_time"]


NONSENSE: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/v1/transactions/batch", {}, 422, "The body is not a JSON array"),
    ("POST", "/v1/transactions/batch", [], 422, "0 elements; expected 1 to 1000"),
    ("POST", "/v1/transactions/batch", [{}] * 1001, 422, "1001 elements"),
    ("POST", "/v1/labels", [], 422, "0 elements"),
    ("POST", "/v1/labels", {"transaction_id": "x", "verdict": "chargeback"}, 422, "transaction_id"),
    ("POST", "/v1/labels", {"transaction_id": -1, "verdict": "chargeback"}, 422, "0 or more"),
    ("POST", "/v1/labels", {"transaction_id": 1, "verdict": "bad"}, 422, "confirmed_fraud or confirmed_good"),
    ("POST", "/v1/labels", {"transaction_id": 1}, 422, "'is_fraud' is missing"),
    ("POST", "/v1/labels", LABEL_TWICE, 422, "The record names 'transaction_id' twice."),
    ("POST", "/v1/labels", b"nonsense", 422, "not a JSON object"),
    ("POST", "/v1/transactions", AMOUNT_TWICE, 422, "The record names 'tx_amount' twice."),
    ("GET", "/v1/decisions/x", None, 422, "Field 'transaction_id'"),
    ("GET", "/v1/decisions/1_0", None, 422, "written in digits only"),
    ("GET", "/v1/decisions/1.0", None, 422, "written in digits only"),
    ("GET", "/v1/decisions/%201", None, 422, "written in digits only"),
    ("GET", "/v1/decisions/%D9%A1", None, 422, "written in digits only"),
    ("GET", "/v1/decisions/1%2F1", None, 404, "not a resource of this service"),
    ("GET", "/v1/decisions/%2E%2E", None, 422, "written in digits only"),
    ("GET", "/v1/decisions/99999999999999999999", None, 404, "Nothing was decided"),
    ("GET", "/v1/decisions?limit=0", None, 422, "Field 'limit'"),
    ("GET", "/v1/decisions?colour=red", None, 422, "Field 'colour'"),
    ("GET", "/nothing", None, 404, "'/nothing' is not a resource"),
    ("PUT", "/v1/transactions", None, 405, "PUT is not known"),
]


@pytest.mark.parametrize(("method", "path", "content", "status", "words"), NONSENSE)
def test_nonsense_gets_a_clear_error(
    admin: Caller, method: str, path: str, content: Any, status: int, words: str
) -> None:
    answer = (
        admin.post(path, content)
        if method == "POST"
        else admin.client.request(method, path, headers=admin.headers)
    )
    assert answer.status_code == status
    assert words in answer.json()["detail"]


def test_a_wrong_label_does_not_stop_the_others(admin: Caller) -> None:
    answer = admin.post("/v1/labels", b"[" + LABEL_TWICE + b"," + LABEL + b",17]")
    assert answer.status_code == 200
    outcomes = answer.json()["outcomes"]
    assert [outcome["outcome"] for outcome in outcomes] == ["rejection", "label", "rejection"]
    assert [outcome["position"] for outcome in outcomes] == list(
        range(outcomes[0]["position"], outcomes[0]["position"] + 3)
    )


def test_an_internal_error_reveals_no_details(small_world: SmallWorld, tmp_path: Path) -> None:
    with serving(small_world, tmp_path / "home") as callers:
        admin = callers("admin")
        del admin.service.rates  # as if we had forgotten it
        answers = [admin.post("/v1/transactions", transaction()), admin.get("/v1/decisions/1")]
    for answer in answers:
        assert answer.status_code == 500
        assert "rates" not in answer.text
        assert answer.json()["title"] == "Something went wrong here"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_requests_without_an_id_are_given_ids_of_their_own(admin: Caller) -> None:
    given = [admin.get("/healthz").headers["x-request-id"] for _ in range(3)]
    assert len(set(given)) == 3
    assert {len(identifier) for identifier in given} == {16}


def test_answers_carry_safe_headers_and_the_callers_request_id(admin: Caller) -> None:
    answer = admin.client.get("/healthz", headers={"X-Request-Id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert admin.client.get("/healthz", headers={"X-Request-Id": "a b"}).headers["x-request-id"] != "a b"


def test_log_lines_are_json_with_pseudonyms_and_without_keys(
    small_world: SmallWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(small_world, tmp_path / "home", api_log_requests=True) as callers:
        admin = callers("admin")
        decided = admin.post("/v1/transactions", transaction(transaction_id=987654321))
        answer = admin.get("/v1/decisions/987654321")
    first, line = [json.loads(text) for text in capfd.readouterr().err.splitlines() if "request_id" in text]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["route"], line["status"]) == ("/v1/decisions/{transaction_id}", 200)
    assert first["request_id"] == decided.headers["x-request-id"]
    assert first["transaction"] == line["transaction"]
    assert len(line["transaction"]) == 16
    assert "987654321" not in json.dumps([first, line])
    assert admin.headers["Authorization"].split("_", 2)[2] not in json.dumps(line)


def test_a_rate_limited_key_gets_retry_after(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(small_world, tmp_path / "home", api_rate_per_second=1, api_rate_burst=3) as callers:
        scorer = callers("scorer")
        take = scorer.service.rates.take
        monkeypatch.setattr(scorer.service.rates, "take", lambda key, records, _: take(key, records, 0.0))
        statuses = [scorer.post("/v1/transactions", transaction()).status_code for _ in range(4)]
        refused = scorer.post("/v1/transactions/batch", [transaction(), transaction()])
        assert callers("scorer").post("/v1/transactions", transaction()).status_code == 200
    assert statuses == [200, 200, 200, 429]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


def test_a_bucket_fills_steadily_and_never_over() -> None:
    rates = Rates(per_second=10, burst=20)
    assert rates.take("key", 20, 0.0) == 0
    assert rates.take("key", 5, 0.0) == 0.5
    assert rates.take("key", 5, 0.5) == 0
    assert rates.take("other", 20, 0.5) == 0
    assert rates.take("key", 21, 100.0) > 0
    assert rates.take("key", 20, 100.0) == 0


@pytest.mark.usefixtures("nothing_masked")
def test_what_a_service_keeps_is_private(small_world: SmallWorld, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(small_world, home, snapshot_every_records=1) as callers:
        admin = callers("admin")
        sent = transaction()
        assert admin.post("/v1/transactions", sent).status_code == 200
        assert admin.post("/v1/transactions", {**sent, "tx_amount": "much"}).status_code == 422
        label = {"transaction_id": sent["transaction_id"], "is_fraud": True}
        assert admin.post("/v1/labels", label).status_code == 200
        assert (home / "log" / "journal.db-wal").exists() and open_to_others(home) == []
    assert list(home.glob("log/snapshots/*/*")) and open_to_others(home) == []
