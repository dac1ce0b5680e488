"""Limits of a connection: callers that are silent, slow or endless take nothing from the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from zaslon.entrypoints.api.http_server import Connection, Connections
from zaslon.settings import Settings

SETTINGS = Settings(
    api_connections_max=3,
    api_head_bytes_max=1024,
    api_head_seconds=5,
    api_body_seconds=10,
    api_idle_seconds=3,
)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_HEAD = b"GET / HTTP/1.1\r\nHost: "
HALF_BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport without a network: keeps what is written, and reads nothing."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Server:
    """Connections to an application that answers `/early` at once, `/never` never, all else after its body."""

    def __init__(self) -> None:
        self.connections = Connections(SETTINGS)
        self.requests = 0
        self._opened: list[Connection] = []
        self._loop = asyncio.get_running_loop()
        self._state = ServerState()
        self._config = uvicorn.Config(
            self._answer, interface="asgi3", log_config=None, ws="none", timeout_keep_alive=600
        )

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        if scope["path"] == "/never":
            await asyncio.Event().wait()
        while scope["path"] != "/early":
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def connect(self, *sent: bytes) -> tuple[Connection, Wire]:
        """A new connection that has sent something."""
        wire = Wire()
        connection = Connection(
            self.connections, config=self._config, server_state=self._state, app_state={}, _loop=self._loop
        )
        connection.connection_made(wire)
        self._opened.append(connection)
        for part in sent:
            if not wire.is_closed:
                connection.data_received(part)
                await turns()
        return connection, wire

    def end(self) -> None:
        """All callers hang up."""
        for connection in self._opened:
            connection.connection_lost(None)

    def sweep_after(self, seconds: float) -> None:
        """The sweep so many seconds from now."""
        self.connections.close_late(self._loop.time() + seconds)


async def turns() -> None:
    """Let the event loop run until answers are written."""
    for _ in range(50):
        await asyncio.sleep(0)


def served(scenario: Callable[[Server], Awaitable[None]]) -> None:
    async def run() -> None:
        server = Server()
        try:
            await scenario(server)
        finally:
            server.end()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("sent", "allowed_seconds"),
    [
        (b"", SETTINGS.api_head_seconds),
        (HALF_HEAD, SETTINGS.api_head_seconds),
        (HALF_BODY, SETTINGS.api_body_seconds),
        (HALF_BODY.replace(b"/", b"/early", 1), SETTINGS.api_body_seconds),
        (GET, SETTINGS.api_idle_seconds),
        (GET + b"\r\n", SETTINGS.api_idle_seconds),
        (GET + HALF_HEAD, SETTINGS.api_body_seconds),
    ],
    ids=["silent", "half a head", "half a body", "answered early", "idle", "idle with a blank line", "pipelined"],
)  # fmt: skip
def test_a_late_caller_is_closed_after_its_deadline(sent: bytes, allowed_seconds: int) -> None:
    async def scenario(server: Server) -> None:
        _, wire = await server.connect(sent)
        server.sweep_after(allowed_seconds - 1)
        assert not wire.is_closed
        server.sweep_after(allowed_seconds)
        assert wire.is_closed
        assert len(server.connections) == 0

    served(scenario)


def test_a_byte_now_and_then_does_not_extend_a_deadline() -> None:
    async def scenario(server: Server) -> None:
        connection, wire = await server.connect(HALF_HEAD)
        deadline = connection._deadline_seconds
        for _ in range(5):
            connection.data_received(b"a")
        assert connection._deadline_seconds == deadline
        server.sweep_after(SETTINGS.api_head_seconds)
        assert wire.is_closed

    served(scenario)


def test_a_caller_is_not_late_while_we_decide() -> None:
    async def scenario(server: Server) -> None:
        _, wire = await server.connect(GET.replace(b"/", b"/never", 1))
        server.sweep_after(3600)
        assert not wire.is_closed

    served(scenario)


def test_a_caller_that_does_not_read_is_late() -> None:
    async def scenario(server: Server) -> None:
        connection, wire = await server.connect(GET.replace(b"/", b"/never", 1))
        connection.pause_writing()
        server.sweep_after(SETTINGS.api_body_seconds - 1)
        assert not wire.is_closed
        server.sweep_after(SETTINGS.api_body_seconds)
        assert wire.is_closed

    served(scenario)


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET / HTTP/1.1\r\nX: " + b"a" * 600, b"a" * 600, b"a" * 600],
        [b"GET / HTTP/1.1\r\n"] + [b"X: %b\r\n" % (b"a" * 50)] * 100,
        [b"GET / HTTP/1.1\r\nX: " + b"a" * 1100 + b"\r\n\r\n"],
        [b"GET /" + b"a" * 1100 + b" HTTP/1.1\r\n\r\n"],
        [CHUNKED + b"1;", *[b"a" * 100] * 20],
        [CHUNKED + b"1\r\na\r\n0\r\n", *[b"X: %b\r\n" % (b"a" * 50)] * 100],
    ],
    ids=["one header", "many headers", "at once", "line", "chunk extension", "trailers"],
)  # fmt: skip
def test_an_endless_head_is_refused(parts: list[bytes]) -> None:
    async def scenario(server: Server) -> None:
        _, wire = await server.connect(*parts)
        assert wire.written.startswith(b"HTTP/1.1 431 ")
        head, _, body = wire.written.partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head
        assert wire.is_closed

    served(scenario)


def test_a_head_within_the_limit_may_come_with_a_large_body() -> None:
    async def scenario(server: Server) -> None:
        head = b"POST / HTTP/1.1\r\nX: " + b"a" * 900 + b"\r\nContent-Length: 50000\r\n\r\n"
        at_once = [head + b"a" * 50_000]
        in_parts = [head, *[b"a" * 5_000] * 10]
        in_chunks = [CHUNKED, *[b"1\r\na\r\n" * 1_000] * 5, b"0\r\n\r\n"]
        for parts in (at_once, in_parts, in_chunks):
            _, wire = await server.connect(*parts)
            assert wire.written.startswith(b"HTTP/1.1 200 ")
            assert not wire.is_closed

    served(scenario)


def test_a_new_connection_replaces_the_longest_idle_one() -> None:
    async def scenario(server: Server) -> None:
        _, deciding = await server.connect(GET.replace(b"/", b"/never", 1))
        _, idle = await server.connect(GET)
        _, silent = await server.connect()
        await server.connect(GET)
        assert (deciding.is_closed, idle.is_closed, silent.is_closed) == (False, True, False)
        assert len(server.connections) == SETTINGS.api_connections_max

    served(scenario)


def test_no_connection_with_a_request_under_way_is_replaced() -> None:
    async def scenario(server: Server) -> None:
        held = [await server.connect(HALF_BODY) for _ in range(SETTINGS.api_connections_max)]
        _, new = await server.connect(GET)
        assert not any(wire.is_closed for _, wire in held)
        assert new.written.startswith(b"HTTP/1.1 200 ")
        assert len(server.connections) == SETTINGS.api_connections_max + 1

    served(scenario)


def test_a_connection_answers_again_and_again() -> None:
    async def scenario(server: Server) -> None:
        connection, wire = await server.connect(*[GET, HALF_BODY, b"12345678"] * 20)
        assert wire.written.count(b"HTTP/1.1 200 ") == 40
        connection.connection_lost(None)
        assert len(server.connections) == 0

    served(scenario)


def test_only_so_many_requests_wait_on_one_connection() -> None:
    async def scenario(server: Server) -> None:
        _, wire = await server.connect(GET.replace(b"/", b"/never", 1) + GET * 1_000)
        assert wire.is_closed
        assert server.requests == 1
        _, served_in_order = await server.connect(GET * 10)
        assert served_in_order.written.count(b"HTTP/1.1 200 ") == 10

    served(scenario)
