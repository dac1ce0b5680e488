"""Around every request: its id, its line in the log, its place in the metrics, safe headers."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import secrets
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zaslon.entrypoints.api.problems import Problem
from zaslon.entrypoints.api.service import Service
from zaslon.entrypoints.json_log import log_line, write_lines

_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_TLS_HEADER = (b"strict-transport-security", b"max-age=31536000")
_PROBES = ("/healthz", "/readyz", "/metrics")


class RequestMiddleware:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        has_tls = service.settings.api_tls_certificate is not None
        self._headers = [*_HEADERS, *([_TLS_HEADER] if has_tls else [])]
        self._own_ids = itertools.count(secrets.randbits(63))
        self._lines = _Lines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        clock = self._service.clock
        begin = clock.monotonic_seconds()
        request_id = _given_id(scope) or f"{next(self._own_ids):016x}"
        scope["zaslon.request_id"], scope["zaslon.begin_seconds"] = request_id, begin
        scope["zaslon.service"] = self._service
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [*self._headers, (b"x-request-id", request_id.encode())]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        answer = self._app if self._has_room(scope) else self._refusal(request_id)
        try:
            await answer(scope, receive, send_with_headers)
        finally:
            self._note(scope, status, clock.monotonic_seconds() - begin)

    def _has_room(self, scope: Scope) -> bool:
        """Whether so many connections may be open; who probes is answered also when there are too many."""
        most = self._service.settings.api_connections_max
        return self._service.open_connections() <= most or scope["path"] in _PROBES

    def _refusal(self, request_id: str) -> ASGIApp:
        most = self._service.settings.api_connections_max
        headers = {"Retry-After": "1", "Connection": "close"}
        detail = f"More than {most} connections are open."
        return Problem("busy", detail, headers=headers).response(request_id)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """Count the request and write its line."""
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if route != "none" else "none"  # never a client's text as a label
        self._service.metrics.request(method, route, status, seconds)
        if not self._service.settings.api_log_requests or route in _PROBES:
            return
        line: dict[str, Any] = {
            "message": "request", "request_id": scope["zaslon.request_id"], "method": method,
            "route": route, "status": status, "ms": round(seconds * 1000, 3),
            "key": scope.get("zaslon.key"),
        }  # fmt: skip
        identifier = scope.get("path_params", {}).get("transaction_id", scope.get("zaslon.transaction"))
        if identifier is not None:
            line["transaction"] = pseudonym(identifier, self._service.context.key)
        self._lines.write(log_line(self._service.clock.now_seconds(), "info", line))


def _given_id(scope: Scope) -> str | None:
    """The caller's id where there is one that can be written in a log."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(value):
            given: str = value.decode()
            return given
    return None


def pseudonym(identifier: object, key: bytes) -> str:
    """Sixteen hex digits in place of an identifier in the log: keyed BLAKE2b."""
    return hashlib.blake2b(str(identifier).encode(), digest_size=8, key=key[:64]).hexdigest()


class _Lines:
    """Lines of requests, written together at the end of a turn of the event loop: its answers go in groups."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []

    def write(self, line: bytes) -> None:
        """Take a line."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(line)

    def _flush(self) -> None:
        lines, self._waiting = self._waiting, []
        write_lines(b"".join(lines))
