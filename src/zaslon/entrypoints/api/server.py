"""Start the service: recover, warm up, listen; stop without losing what was taken."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from dataclasses import replace
from typing import Any

import uvicorn

from zaslon.bootstrap import build_clock, build_context, build_decider, open_api_keys
from zaslon.domain.errors import ServerError, ZaslonError
from zaslon.entrypoints.api.app import build_app
from zaslon.entrypoints.api.protocol import OneWrite
from zaslon.entrypoints.api.service import Service
from zaslon.entrypoints.api.service_metrics import Metrics
from zaslon.entrypoints.json_log import LogProgress, log_as_json, write_log
from zaslon.features.plan import plan_features
from zaslon.services.api_keys import KeyRing
from zaslon.services.context import Context
from zaslon.services.home import load_champion
from zaslon.services.logs import exclusive
from zaslon.services.warm_up import freeze_garbage_collector
from zaslon.settings import Settings

_SWITCH_SECONDS = 0.0005  # the event loop waits at most so long for a thread that brings answers
_LOOK_SECONDS = 1.0  # between two looks whether the decider lives


def build_service(settings: Settings, context: Context) -> Service:
    """All parts; the decider is recovering and warming up when this returns."""
    clock, metrics = build_clock(), Metrics()
    model, policy = load_champion(context, plan_features(context.catalogue))
    decider = build_decider(
        settings, context, begun=metrics.watch_worker, grouped=metrics.group, saved=metrics.snapshot,
        passed=metrics.passed, say=context.progress.warn,
    )  # fmt: skip
    keys = KeyRing(open_api_keys(context.home), clock.now_seconds)
    return Service(settings, context, decider, keys, clock, metrics, model, policy)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then decide what was taken and save the state.

    Raises:
        ZaslonError: a setting, the home or the keys do not allow it.
    """
    _check_address(settings)
    # First: a home that is not there stays so.
    if len(KeyRing(open_api_keys(settings.home), build_clock().now_seconds)) == 0:
        raise ZaslonError(
            f"No valid key opens the service of '{settings.home}'.",
            hint="Make one: `zaslon keys create --role scorer`.",
        )
    context = replace(build_context(settings), progress=LogProgress())
    with exclusive(context):
        _serve(settings, build_service(settings, context))


def _serve(settings: Settings, service: Service) -> None:
    sys.setswitchinterval(_SWITCH_SECONDS)
    log_as_json()
    server = _Server(_uvicorn_config(settings, service), service)
    server.run()
    if server.failure is not None:
        raise server.failure


def _uvicorn_config(settings: Settings, service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(service), host=settings.api_host, port=settings.api_port, log_config=None,
        access_log=False, proxy_headers=False, server_header=False, date_header=False, lifespan="on",
        http=OneWrite, timeout_graceful_shutdown=10,
        ssl_certfile=settings.api_tls_certificate, ssl_keyfile=settings.api_tls_key,
    )  # fmt: skip


class _Server(uvicorn.Server):
    """Listens at once, so that probes see it start; says when it is ready."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self.failure: ZaslonError | None = None
        service.is_settled = False
        service.open_connections = lambda: len(self.server_state.connections)

    async def startup(self, sockets: Any = None) -> None:
        """Listen, and beside it wait for the decider."""
        await super().startup(sockets)
        self._waiting = asyncio.create_task(self._wait_until_ready())

    async def _wait_until_ready(self) -> None:
        try:
            await asyncio.to_thread(self._service.decider.start)
        except ZaslonError as error:
            self.failure, self.should_exit = error, True
            return
        freeze_garbage_collector()
        self._service.is_settled = True
        listening = [s.getsockname() for server in self.servers for s in server.sockets]
        write_log(
            self._service.clock.now_seconds(), "info",
            {"message": "ready", "addresses": [f"{host}:{port}" for host, port, *_ in listening]},
        )  # fmt: skip
        await self._watch()

    async def _watch(self) -> None:
        """End when nothing is decided any more: whoever started this process starts a new one."""
        while self._service.decider.is_alive:
            await asyncio.sleep(_LOOK_SECONDS)
        if not self.should_exit:
            self.failure = ServerError("The service has stopped deciding.", hint="Start it again.")
            self.should_exit = True


def _check_address(settings: Settings) -> None:
    has_tls = settings.api_tls_certificate is not None
    if has_tls != (settings.api_tls_key is not None):
        raise ZaslonError("TLS needs both `api_tls_certificate` and `api_tls_key`.")
    for path in (settings.api_tls_certificate, settings.api_tls_key):
        if path is not None and not path.is_file():
            raise ZaslonError(f"'{path}' is no file.", hint="Name the certificate and its key, PEM.")
    if not has_tls and not settings.api_plain_http and not _is_local(settings.api_host):
        raise ZaslonError(
            f"'{settings.api_host}' is no local address, and there is no TLS.",
            hint="Give a certificate, or set `api_plain_http` if a proxy in front has one.",
        )


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
