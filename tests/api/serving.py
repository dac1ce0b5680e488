"""Services with everything real: engine, journal, keys, HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from starlette.testclient import TestClient

from zaslon.bootstrap import build_context, open_api_keys
from zaslon.entrypoints.api.app import build_app
from zaslon.entrypoints.api.server import build_service
from zaslon.entrypoints.api.service import Service
from zaslon.services.api_keys import create_key
from zaslon.settings import load_settings
from zaslon.testing import SmallWorld

QUIET = {"api_log_requests": False, "api_budget_ms": 60_000}
_numbers = itertools.count(1)


class Caller:
    """A client with a key of some role."""

    def __init__(self, service: Service, client: TestClient, role: str | None) -> None:
        self.service, self.client = service, client
        self.headers: dict[str, str] = {}
        if role is not None:
            made = create_key(open_api_keys(service.context.home), role, f"test {role}", None, 0)
            self.headers["Authorization"] = f"Bearer {made.secret}"
            service.keys._looked_seconds = -1.0  # it looks at its file once a second

    def get(self, path: str, **parameters: Any) -> Any:
        return self.client.get(path, headers=self.headers, params=parameters)

    def post(self, path: str, content: Any, **headers: str) -> Any:
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        given = {"Content-Type": "application/json", **self.headers, **headers}
        return self.client.post(path, content=body, headers=given)


@contextmanager
def serving(world: SmallWorld, home: Path, **settings: Any) -> Iterator[Callable[[str | None], Caller]]:
    """A ready service over a copy of the small world; gives callers by role."""
    world.in_home(home)
    chosen = load_settings(home=home, **{**QUIET, **settings})
    service = build_service(chosen, build_context(chosen))
    service.decider.start()
    with TestClient(build_app(service), raise_server_exceptions=False) as client:
        yield lambda role: Caller(service, client, role)


def transaction(**changed: Any) -> dict[str, Any]:
    """A transaction with an id that no other test uses."""
    return {
        "transaction_id": 9_000_000 + next(_numbers), "tx_datetime": "2019-09-20 10:15:00",
        "customer_id": 7, "terminal_id": 5, "tx_amount": 49.9, **changed,
    }  # fmt: skip
