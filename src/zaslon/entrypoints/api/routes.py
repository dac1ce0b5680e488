"""The routes: transactions and labels in, decisions out."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request
from pydantic import BeforeValidator
from starlette.responses import Response

from zaslon.domain.api_keys import ApiKey
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import InputError
from zaslon.domain.events import ID_BYTES_MAX, Kind, TransactionId
from zaslon.domain.time import parse_duration_seconds
from zaslon.entrypoints.api import schemas
from zaslon.entrypoints.api.ingress import (
    Analyst,
    Scorer,
    check_rate,
    read_json,
    service_of,
    split_array,
)
from zaslon.entrypoints.api.problems import Problem, rejected
from zaslon.entrypoints.api.service import Service
from zaslon.services.decision_pages import DecisionFilter, decisions_page
from zaslon.services.entity_decisions import entity_key

_JSON = "application/json"
_BLANKS = b" \t\r\n"


class JsonAnswer(Response):
    """What was asked for, as the bytes of its JSON. Its head needs nothing worked out."""

    def __init__(self, content: bytes) -> None:
        self.status_code, self.background, self.body = 200, None, content
        self.raw_headers = [(b"content-length", b"%d" % len(content)), (b"content-type", b"application/json")]


def _begin(request: Request) -> float:
    begin: float = request.scope["zaslon.begin_seconds"]
    return begin


def _time_used_ms(service: Service, request: Request) -> float:
    return (service.clock.monotonic_seconds() - _begin(request)) * 1000


def transactions_router(catalogue: Catalogue, records_max: int) -> APIRouter:
    """Routes that decide, described by the catalogue's fields and the most records of a call."""
    router = APIRouter(tags=["transactions"])
    schema = schemas.transaction_schema(catalogue)

    @router.post(
        "/v1/transactions", summary="Decide one transaction", operation_id="decide",
        response_model=schemas.DecisionAnswer,
        responses=schemas.problem_responses(400, 409, 413, 415), openapi_extra=_body(schema),
    )  # fmt: skip
    async def decide(request: Request, key: Scorer) -> Response:
        """The decision is durable before it is answered. The same again gives the same answer."""
        service = service_of(request)
        body = await read_json(request)
        check_rate(service, key, 1)
        (answer,) = await service.decide([body], Kind.TRANSACTION_JSON, _begin(request))
        request.scope["zaslon.transaction"] = answer.transaction_id
        if answer.rejection is not None:
            raise rejected(answer.rejection)
        return JsonAnswer(answer.to_json(_time_used_ms(service, request)))

    @router.post(
        "/v1/transactions/batch", summary="Decide many transactions", operation_id="decide_batch",
        response_model=schemas.BatchAnswer, responses=schemas.problem_responses(400, 413, 415),
        openapi_extra=_body(
            {**_array(schema, records_max), "example": [schema["example"]]}
        ),
    )  # fmt: skip
    async def decide_batch(request: Request, key: Scorer) -> Response:
        """One outcome each, in order, all durable; rejections with their reasons."""
        service = service_of(request)
        body = await read_json(request)
        records = split_array(body, service.settings.api_batch_records_max)
        check_rate(service, key, len(records))
        answers = await service.decide(records, Kind.TRANSACTION_JSON, _begin(request))
        return _outcomes([answer.to_json() for answer in answers], service, request)

    return router


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {_JSON: {"schema": schema}}}}


def _array(item: dict[str, Any], records_max: int) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1, "maxItems": records_max}


def _outcomes(outcomes: list[bytes], service: Service, request: Request) -> Response:
    used = round(_time_used_ms(service, request), 3)
    return JsonAnswer(orjson.dumps({"outcomes": list(map(orjson.Fragment, outcomes)), "time_used_ms": used}))


def labels_router(catalogue: Catalogue, records_max: int) -> APIRouter:
    """The route that takes verdicts, at most so many in one call."""
    router = APIRouter(tags=["labels"])
    schema = schemas.label_schema(catalogue)
    router.add_api_route(
        "/v1/labels", label, methods=["POST"], summary="Send verdicts on transactions",
        operation_id="label", response_model=schemas.LabelsAnswer,
        responses=schemas.problem_responses(400, 413, 415),
        openapi_extra=_body(
            {"oneOf": [schema, _array(schema, records_max)], "example": schemas.label_example(catalogue)}
        ),
    )  # fmt: skip
    return router


async def label(request: Request, key: Analyst) -> Response:
    """One label, or an array of them: an outcome each; a label counts from the next transaction on."""
    service = service_of(request)
    body = await read_json(request)
    is_array = body.lstrip(_BLANKS).startswith(b"[")  # by JSON's grammar; admission parses what is in it
    records = split_array(body, service.settings.api_batch_records_max) if is_array else [body]
    check_rate(service, key, len(records))
    answers = await service.decide(records, Kind.LABEL_JSON, _begin(request))
    if not is_array and answers[0].rejection is not None:
        raise rejected(answers[0].rejection)
    return _outcomes([answer.outcome for answer in answers], service, request)


def decisions_router(catalogue: Catalogue) -> APIRouter:
    """Routes that look up what was decided."""
    router = APIRouter(tags=["decisions"])
    # A text may have a slash in it, and a server knows it only decoded.
    by_text = catalogue.has_text_ids
    router.add_api_route(
        "/v1/decisions/{transaction_id:path}" if by_text else "/v1/decisions/{transaction_id}",
        decision_by_text if by_text else decision, methods=["GET"], summary="A decision as recorded",
        operation_id="decision", response_model=schemas.Decision, responses=schemas.problem_responses(404),
    )  # fmt: skip
    router.add_api_route(
        "/v1/decisions", decisions, methods=["GET"], summary="Decisions, newest first",
        operation_id="decisions", response_model=schemas.DecisionsPage, responses=schemas.problem_responses(),
    )  # fmt: skip
    return router


def _only_digits(text: str) -> str:
    """What int() reads as a number but is not a usual one, such as `1_0` for 10, names no transaction."""
    if re.fullmatch("-?[0-9]+", text) is None:
        raise ValueError("a number is written in digits only")
    return text


Number = Annotated[int, Path(), BeforeValidator(_only_digits)]


async def decision(request: Request, key: Scorer, transaction_id: Number) -> Response:
    """The bytes in the log."""
    return await _recorded(request, key, transaction_id)


async def decision_by_text(
    request: Request, key: Scorer, transaction_id: Annotated[str, Path(min_length=1)]
) -> Response:
    """The bytes in the log; in the path, the id is percent-encoded."""
    return await _recorded(request, key, transaction_id)


async def _recorded(request: Request, key: ApiKey, transaction_id: TransactionId) -> Response:
    service = service_of(request)
    check_rate(service, key, 1)
    found = await service.reading.ask(lambda outcomes: outcomes.newest_decision(transaction_id))
    if found is None:
        raise _no_decision(transaction_id, service)
    return JsonAnswer(found[1])


def _no_decision(transaction_id: TransactionId, service: Service) -> Problem:
    kept = service.settings.api_kept_records
    where = f" in the newest {kept} records" if service.settings.api_decider == "kafka" else ""
    named = str(transaction_id)[: 30 if isinstance(transaction_id, int) else ID_BYTES_MAX]
    return Problem("not_found", f"Nothing was decided about transaction {named}{where}.")


async def decisions(request: Request, key: Analyst, wanted: Annotated[DecisionFilter, Query()]) -> Response:
    """Pages by log position. A page may hold fewer than `limit`; continue while `next` is given."""
    service = service_of(request)
    check_rate(service, key, 1)
    settings = service.settings
    page_of = partial(
        decisions_page, wanted=wanted, limit_max=settings.api_page_max, scan_max=settings.api_scan_records_max,
        late_within_seconds=parse_duration_seconds(service.context.catalogue.retention.late_within),
    )  # fmt: skip
    if wanted.entity is None or wanted.entity_value is None:
        page = await service.reading.ask(page_of)
    else:
        entity, key_of_entity = _wanted_entity(service, wanted.entity, wanted.entity_value)
        page = await service.reading.ask_by_entity(
            lambda outcomes, found: page_of(outcomes, page=partial(found.page, entity, key_of_entity))
        )
    content = {"decisions": list(map(orjson.Fragment, page.decisions)), "next": page.following}
    return JsonAnswer(orjson.dumps(content))


def _wanted_entity(service: Service, entity: str, value: str) -> tuple[str, int]:
    """The entity's name in the catalogue, and the key by which the log knows the one that is wanted."""
    if service.settings.api_decider == "kafka":
        detail = (
            "In front of the stream decisions are not found by entity; ask for them with `zaslon decisions`."
        )
        raise Problem("invalid", detail)
    try:
        return entity_key(service.context, entity, value)
    except InputError as error:
        raise Problem("invalid", str(error)) from error


serving_router = APIRouter(tags=["serving"])


@serving_router.get(
    "/v1/model", summary="The model that serves", operation_id="model",
    response_model=schemas.ModelShown, responses=schemas.problem_responses(404),
)  # fmt: skip
async def model(request: Request, _key: Analyst) -> Response:
    """Its version, what it was trained on and how it did."""
    service = service_of(request)
    served, _ = await service.serving()
    content = {
        "model": served.artefact_id, "catalogue": service.context.catalogue.hash,
        "features": served.names,
        "facts": orjson.Fragment(orjson.dumps(served.facts_noted(), option=orjson.OPT_SORT_KEYS)),
    }  # fmt: skip
    return JsonAnswer(orjson.dumps(content))


@serving_router.get(
    "/v1/policy", summary="The policy that serves", operation_id="policy",
    response_model=schemas.PolicyShown, responses=schemas.problem_responses(404),
)  # fmt: skip
async def policy(request: Request, _key: Analyst) -> Response:
    """Its version, thresholds, limits and rules."""
    _, served = await service_of(request).serving()
    content = {"policy": served.hash, "content": served.text.model_dump(mode="python")}
    return JsonAnswer(orjson.dumps(content))
