"""Run in a process of its own: a real server, its first calls, and what they made it load or compile.

    python -m tests.api.first_calls HOME KEY

Prints one JSON object: status codes, modules that were imported and functions that were compiled, or
loaded from the cache of compiled code, between readiness and the answer of the last call.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from typing import Any

from numba.core.dispatcher import Dispatcher
from tests.api.serving import WorkerThread
from tests.waiting import until

from zaslon import bootstrap
from zaslon.bootstrap import build_context
from zaslon.entrypoints.api.http_server import HttpServer
from zaslon.entrypoints.api.server import build_service
from zaslon.settings import load_settings

TRANSACTION = {
    "transaction_id": 9_500_000, "tx_datetime": "2019-09-20 10:15:00",
    "customer_id": 7, "terminal_id": 5, "tx_amount": 49.9,
}  # fmt: skip


def ask(port: int, key: str, method: str, path: str, content: Any = None) -> int:
    """The status of one call, by a client that imports nothing."""
    body = b"" if content is None else json.dumps(content).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body)
        with connection.makefile("rb") as answer:
            return int(answer.read().split(b" ", 2)[1])


def compiled_functions() -> set[str]:
    """Functions of ours whose machine code is there, with the types that it is for."""
    found = [
        value
        for name, module in list(sys.modules.items())
        if name.startswith("zaslon")
        for value in vars(module).values()
        if isinstance(value, Dispatcher)
    ]
    return {
        f"{one.py_func.__module__}.{one.py_func.__name__} {types}" for one in found for types in one.overloads
    }


def calls(port: int, key: str) -> list[int]:
    """One call of every kind that a payment system makes."""
    odd = [{**TRANSACTION, "transaction_id": 9_500_010 + i, "tx_amount": 90_000} for i in range(50)]
    return [
        ask(port, key, "POST", "/v1/transactions", TRANSACTION),
        ask(port, key, "POST", "/v1/transactions", TRANSACTION),
        ask(port, key, "POST", "/v1/transactions", {**TRANSACTION, "tx_amount": 1}),
        ask(port, key, "POST", "/v1/transactions", {}),
        ask(port, key, "POST", "/v1/transactions/batch", odd),
        ask(port, key, "POST", "/v1/labels", {"transaction_id": 9_500_000, "verdict": "chargeback"}),
        ask(port, key, "POST", "/v1/transactions", {**TRANSACTION, "transaction_id": 9_500_001}),
        ask(port, key, "GET", "/v1/decisions/9500000"),
    ]


def main(home: str, key: str) -> None:
    """Serve, call, stop, report."""
    settings = load_settings(home=home, api_port=0, api_budget_ms=60_000)
    report: dict[str, Any] = {}
    setattr(bootstrap, "_start_worker", WorkerThread)  # noqa: B010  the checker knows only the process
    service = build_service(settings, build_context(settings))
    server = HttpServer(service)

    def call() -> None:
        until(lambda: server.started and server.servers)
        port = server.servers[0].sockets[0].getsockname()[1]
        until(lambda: ask(port, key, "GET", "/readyz") == 200)
        modules, functions = set(sys.modules), compiled_functions()
        report["statuses"] = calls(port, key)
        report["imported"] = sorted(set(sys.modules) - modules)
        report["compiled"] = sorted(compiled_functions() - functions)
        report["compiled_before"] = len(functions)
        server.should_exit = True

    thread = threading.Thread(target=call)
    thread.start()
    server.run()
    thread.join()
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
