"""uvicorn, and what is asked of it beyond its public interface: here and nowhere else (docs/decisions/0022)."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from zaslon.domain.errors import ServerError, ZaslonError
from zaslon.entrypoints.api.app import build_app
from zaslon.entrypoints.api.service import Service
from zaslon.entrypoints.json_log import write_log
from zaslon.intake.examples import read_examples
from zaslon.services.warm_up import freeze_garbage_collector

_LOOK_SECONDS = 1.0  # between two looks whether the decider lives
_LAST_ANSWERS_SECONDS = 10  # for those in progress when the service is stopped


class HttpServer(uvicorn.Server):
    """Listens at once, so that probes see it start; logs when it is ready.

    Attributes:
        failure: what ended it, other than a signal.
    """

    def __init__(self, service: Service) -> None:
        super().__init__(_config(service))
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
            await asyncio.to_thread(read_examples)
            await asyncio.to_thread(self._service.decider.start)
        except ZaslonError as error:
            self.failure, self.should_exit = error, True
            return
        freeze_garbage_collector()
        self._service.is_settled = True
        write_log(
            self._service.clock.now_seconds(), "info", {"message": "ready", "addresses": self.addresses()}
        )
        await self._watch()

    async def _watch(self) -> None:
        """End when nothing is decided any more: the supervisor of this process starts a new one."""
        while self._service.decider.is_alive:
            await asyncio.sleep(_LOOK_SECONDS)
        if not self.should_exit:
            self.failure = ServerError("The service has stopped deciding.", hint="Start it again.")
            self.should_exit = True

    def addresses(self) -> list[str]:
        """Where it listens, as host:port."""
        listening = [s.getsockname() for server in self.servers for s in server.sockets]
        return [f"{host}:{port}" for host, port, *_ in listening]


def _config(service: Service) -> uvicorn.Config:
    settings = service.settings
    return uvicorn.Config(
        build_app(service), host=settings.api_host, port=settings.api_port, log_config=None,
        access_log=False, proxy_headers=False, server_header=False, date_header=False, lifespan="on",
        http=SingleWrite, timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
        ssl_certfile=settings.api_tls_certificate, ssl_keyfile=settings.api_tls_key,
    )  # fmt: skip


class Gathered:
    """A transport that writes at once what is written within one turn of the event loop.

    Everything else is the transport's own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Take a part; it is written when the turn ends."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Close after what was taken is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class SingleWrite(HttpToolsProtocol):
    """uvicorn's HTTP over a gathered transport: it writes head and body separately, each with a system call."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Serve a new connection."""
        super().connection_made(cast(asyncio.Transport, Gathered(transport, self.loop)))
