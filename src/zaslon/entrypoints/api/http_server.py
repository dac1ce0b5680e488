"""uvicorn, and what is asked of it beyond its public interface: here and nowhere else (docs/decisions/0022)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from zaslon.domain.errors import ServerError, ZaslonError
from zaslon.entrypoints.api.app import build_app
from zaslon.entrypoints.api.service import Service
from zaslon.entrypoints.json_log import write_log
from zaslon.intake.examples import read_examples
from zaslon.services.warm_up import freeze_garbage_collector
from zaslon.settings import Settings

_LOOK_SECONDS = 1.0  # between two looks whether the decider lives
_LAST_ANSWERS_SECONDS = 10  # for those in progress when the service is stopped
_TICKS_A_SWEEP = 10  # uvicorn ticks ten times a second
_PIPELINED_MAX = 16  # requests of one connection that wait for an answer before them
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 30\r\nconnection: close\r\n\r\n"
    b"The request head is too large."
)


class HttpServer(uvicorn.Server):
    """Listens at once, so that probes see it start; logs when it is ready.

    Attributes:
        failure: what ended it, other than a signal.
    """

    def __init__(self, service: Service) -> None:
        self._connections = Connections(service.settings)
        super().__init__(_config(service, self._connections))
        self._service = service
        self.failure: ZaslonError | None = None
        service.is_settled = False
        service.open_connections = self._connections.__len__

    async def startup(self, sockets: Any = None) -> None:
        """Listen, and beside it wait for the decider."""
        await super().startup(sockets)
        self._waiting = asyncio.create_task(self._wait_until_ready())

    async def on_tick(self, counter: int) -> bool:
        """Once a second, close the connections whose callers are late."""
        if counter % _TICKS_A_SWEEP == 0:
            self._connections.close_late(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

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


def _config(service: Service, connections: Connections) -> uvicorn.Config:
    settings = service.settings
    # It is called like the class that uvicorn expects.
    protocol = cast(type[asyncio.Protocol], partial(Connection, connections))
    return uvicorn.Config(
        build_app(service), host=settings.api_host, port=settings.api_port, log_config=None,
        access_log=False, proxy_headers=False, server_header=False, date_header=False, lifespan="on",
        http=protocol, ws="none", timeout_keep_alive=settings.api_idle_seconds, timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
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


class Connections:
    """The open connections: at most so many, and none for a caller that sends nothing or half a request.

    Each step of a request has a deadline. One sweep looks at all connections: a timer for every step
    would cost more than the rest of the step.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # those without a request under way, longest first

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> None:
        """Take a new one; where there are too many, in place of the one that has been idle longest."""
        if len(self._open) >= self.settings.api_connections_max and self._idle:
            self._abort(next(iter(self._idle)))
        self._open.add(connection)
        self._idle[connection] = None

    def remove(self, connection: Connection) -> None:
        """It is closed."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def busy(self, connection: Connection) -> None:
        """It has a request under way."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """All its requests are answered."""
        if connection in self._open:
            self._idle[connection] = None

    def close_late(self, now_seconds: float) -> None:
        """Close those whose callers are late, by the time of the event loop."""
        for connection in [c for c in self._open if c.is_late(now_seconds)]:
            self._abort(connection)

    def _abort(self, connection: Connection) -> None:
        self.remove(connection)
        connection.transport.abort()  # to close it would wait until its caller has read everything


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP within limits of time and bytes, over a gathered transport.

    uvicorn writes head and body of an answer apart, each with a system call. It also waits without limit for
    the rest of a request, and keeps whatever headers come.
    """

    def __init__(self, connections: Connections, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._connections, self._settings = connections, connections.settings
        self._deadline_seconds = 0.0
        self._is_in_request = False  # a request has begun and has not been read to its end
        self._unanswered = 0  # requests that were read to their end; -1 for one answered before
        self._unparsed_bytes = 0  # since the last step of a request, headers included

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Serve a new connection."""
        super().connection_made(cast(asyncio.Transport, Gathered(transport, self.loop)))
        self._expect_within(self._settings.api_head_seconds)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._connections.remove(self)
        super().connection_lost(exc)

    def is_late(self, now_seconds: float) -> bool:
        """Whether its caller, and not the service, has let a deadline pass."""
        is_callers_turn = self._unanswered <= 0 or self.flow.write_paused
        return is_callers_turn and now_seconds >= self._deadline_seconds

    def data_received(self, data: bytes) -> None:
        """Parse what has come. A head, or what is between parts of a body, must end at some point."""
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._unparsed_bytes > self._settings.api_head_bytes_max and not self.transport.is_closing():
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, and close the connection."""
        if self._unparsed_bytes <= self._settings.api_head_bytes_max:
            super().send_400_response(msg)
            return
        self.transport.write(_HEAD_TOO_LARGE)
        self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_request = True
        self._expect_within(self._settings.api_head_seconds)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Serve a request; its body may come later. What is raised here makes uvicorn refuse the request."""
        bytes_max = self._settings.api_head_bytes_max
        if self._unparsed_bytes > bytes_max and self._head_bytes() > bytes_max:
            raise ValueError("The request head is too large.")
        if len(self.pipeline) >= _PIPELINED_MAX:
            raise ValueError("Too many requests wait for an answer before them.")
        self._unparsed_bytes = 0
        self._expect_within(self._settings.api_body_seconds)
        self._connections.busy(self)
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """A chunk of a body begins."""
        self._unparsed_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A part of a body has come."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request was read to its end."""
        self._unparsed_bytes, self._is_in_request = 0, False
        self._unanswered += 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request was answered, perhaps before its body has come."""
        self._unanswered -= 1
        settings = self._settings
        self._expect_within(settings.api_body_seconds if self._is_in_request else settings.api_idle_seconds)
        if not self.pipeline:
            self._connections.idle(self)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The caller does not read its answers: it has as long for that as for a body."""
        self._expect_within(self._settings.api_body_seconds)
        super().pause_writing()

    def _expect_within(self, seconds: float) -> None:
        self._deadline_seconds = self.loop.time() + seconds

    def _head_bytes(self) -> int:
        """Bytes of the head that was read; a header has a colon, a space and a line's end besides."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
