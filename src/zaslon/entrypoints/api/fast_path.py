"""The fast path to the routes that decide: FastAPI describes them, but does not run in between.

Routing, dependencies and exit stacks take three times as long as all the rest that is done for a
transaction outside the engine (benchmarks/serve_speed.py).
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from zaslon.domain.api_keys import Role
from zaslon.entrypoints.api.ingress import authorised
from zaslon.entrypoints.api.problems import Problem, internal_error, request_id


class FastPath:
    """ASGI middleware; what has no fast path is passed to the application.

    Args:
        app: the application.
        router: routes of fixed paths whose functions take a request and the key of a scorer.
    """

    def __init__(self, app: ASGIApp, router: APIRouter) -> None:
        self._app = app
        self._routes = {
            (method, route.path): route
            for route in router.routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive)
        try:
            response = await route.endpoint(request, authorised(request, Role.SCORER))
        except Problem as problem:
            response = problem.response(request_id(request))
        except Exception:
            await internal_error(request)(scope, receive, send)
            raise
        await response(scope, receive, send)
