"""The application: routes, errors and request middleware put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from zaslon import __version__
from zaslon.domain.api_keys import Role
from zaslon.entrypoints.api import schemas
from zaslon.entrypoints.api.fast_path import FastPath
from zaslon.entrypoints.api.ingress import authorised, service_of
from zaslon.entrypoints.api.middleware import RequestMiddleware
from zaslon.entrypoints.api.problems import Problem, answer_with_problems
from zaslon.entrypoints.api.routes import (
    decisions_router,
    labels_router,
    serving_router,
    transactions_router,
)
from zaslon.entrypoints.api.service import Service

_SUMMARY = "One transaction in, one decision out: durable, explained, answered in milliseconds."
probes_router = APIRouter(tags=["probes"])


def build_app(service: Service) -> ASGIApp:
    """The service as an ASGI application; its end closes the decider."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.decider.close()
        service.reading.close()

    app = FastAPI(
        title="Zaslon", version=__version__, summary=_SUMMARY, lifespan=life,
        docs_url=None, redoc_url=None,  # they would load scripts from other hosts
    )  # fmt: skip
    catalogue, records_max = service.context.catalogue, service.settings.api_batch_records_max
    transactions = transactions_router(catalogue, records_max)
    for router in (
        transactions, decisions_router(catalogue), labels_router(catalogue, records_max), serving_router,
        probes_router,
    ):  # fmt: skip
        app.include_router(router)
    if catalogue.has_text_ids:
        describe = app.openapi
        app.openapi = lambda: schemas.describe_text_ids(describe())  # type: ignore[method-assign]
    answer_with_problems(app)
    return RequestMiddleware(FastPath(app, transactions), service)


@probes_router.get("/healthz", summary="Whether the process lives", response_model=schemas.Health,
                   responses={503: schemas.problem_responses()[503]})  # fmt: skip
async def healthz(request: Request) -> Response:
    """503 when only a new process helps."""
    if not service_of(request).decider.is_alive:
        raise Problem("busy", "The service has stopped deciding; start it again.")
    return JSONResponse({"status": "alive"})


@probes_router.get("/readyz", summary="Whether decisions are made now", response_model=schemas.Health,
                   responses={503: schemas.problem_responses()[503]})  # fmt: skip
async def readyz(request: Request) -> Response:
    """503 while starting, recovering or stopping."""
    service = service_of(request)
    if not service.decider.is_ready or not service.is_settled:
        raise Problem("busy", service.decider.obstacle)
    return JSONResponse({"status": "ready"})


@probes_router.get("/metrics", summary="Metrics for Prometheus", response_class=Response,
                   responses={200: {"content": {"text/plain": {}}}, 401: schemas.problem_responses()[401]})  # fmt: skip
async def metrics(request: Request) -> Response:
    """With any key, or without one if `api_open_metrics` is set."""
    service = service_of(request)
    if not service.settings.api_open_metrics:
        authorised(request, Role.SCORER)
    service.metrics.waiting_records.set(service.decider.waiting_records)
    service.metrics.ready.set(service.decider.is_ready)
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")
