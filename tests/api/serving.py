"""Services with everything real: engine, journal, keys, HTTP."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from starlette.testclient import TestClient

from zaslon import bootstrap
from zaslon.bootstrap import build_context, open_api_keys
from zaslon.entrypoints import decision_worker
from zaslon.entrypoints.api.app import build_app
from zaslon.entrypoints.api.server import build_service
from zaslon.entrypoints.api.service import Service
from zaslon.services.key_management import create_key
from zaslon.services.logs import exclusive
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
            made = create_key(
                open_api_keys(load_settings(home=service.context.home)), role, f"test {role}", None, 0
            )
            self.headers["Authorization"] = f"Bearer {made.secret}"
            service.keys.refresh()  # it does so once a second

    @property
    def key(self) -> str:
        """The secret by which the caller is known."""
        return self.headers["Authorization"].removeprefix("Bearer ")

    def transport(self) -> httpx2.MockTransport:
        """For a `Client` or `AsyncClient` of ours: its requests reach this service without a socket."""

        def passed_on(request: httpx2.Request) -> httpx2.Response:
            answer = self.client.request(
                request.method, request.url.raw_path.decode(), content=request.content,
                headers=dict(request.headers),
            )  # fmt: skip
            return httpx2.Response(answer.status_code, content=answer.content)

        return httpx2.MockTransport(passed_on)

    def get(self, path: str, **parameters: Any) -> Any:
        return self.client.get(path, headers=self.headers, params=parameters)

    def post(self, path: str, content: Any, **headers: str) -> Any:
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        given = {"Content-Type": "application/json", **self.headers, **headers}
        return self.client.post(path, content=body, headers=given)


class WorkerThread:
    """The decision worker at its end of the channel, in a thread of this process: it starts at once."""

    pid = os.getpid()

    def __init__(self, end: socket.socket) -> None:
        self._end = end.dup()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._end:
            decision_worker.main(self._end)

    def wait(self) -> None:
        self._thread.join()


@contextmanager
def serving(
    world: SmallWorld, home: Path, *, in_process: bool = False, **settings: Any
) -> Iterator[Callable[[str | None], Caller]]:
    """A ready service over a copy of the small world, or over its own home as it is; gives callers by role.

    Args:
        in_process: the decision worker has a process of its own, as outside of tests.
    """
    if home != world.context.home:
        world.in_home(home)
    chosen = load_settings(home=home, **{**QUIET, **settings})
    context = build_context(chosen)
    with exclusive(context):  # as the command does: nobody else may write into its log
        with pytest.MonkeyPatch.context() as patch:
            if not in_process:
                patch.setattr(bootstrap, "_start_worker", WorkerThread)
                # It is for a process that does nothing else.
                patch.setattr("zaslon.flows.serve.freeze_garbage_collector", lambda: None)
            service = build_service(chosen, context)
            service.decider.start()
        with TestClient(build_app(service), raise_server_exceptions=False) as client:
            yield lambda role: Caller(service, client, role)


def transaction(**changed: Any) -> dict[str, Any]:
    """A transaction with an id that no other test uses."""
    return {
        "transaction_id": 9_000_000 + next(_numbers), "tx_datetime": "2019-09-20 10:15:00",
        "customer_id": 7, "terminal_id": 5, "tx_amount": 49.9, **changed,
    }  # fmt: skip
