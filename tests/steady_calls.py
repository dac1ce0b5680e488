"""Clients that send one transaction after the other to a service, whatever happens to other servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from tests.payments import payments
from tests.waiting import DEADLINE_SECONDS

_CLIENTS = 4


class SteadyCalls:
    """What the clients were answered.

    Attributes:
        answers: of every call.
        failures: why calls were not answered.
    """

    def __init__(self, address: str, key: str) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._records = payments()
        self._answered, self._is_over = threading.Condition(), False
        self.answers: list[dict[str, Any]] = []
        self.failures: list[str] = []

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Send until the block ends."""
        clients = [threading.Thread(target=self._send, daemon=True) for _ in range(_CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._is_over = True
            for client in clients:
                client.join()

    def wait_for(self, calls: int) -> None:
        """Until so many more were answered."""
        with self._answered:
            wanted = len(self.answers) + calls
            is_done = self._answered.wait_for(
                lambda: len(self.answers) >= wanted or bool(self.failures), DEADLINE_SECONDS
            )
        assert is_done, "the service answers no more"
        assert not self.failures, self.failures[:3]

    def _send(self) -> None:
        with httpx2.Client(headers=self._headers, timeout=DEADLINE_SECONDS) as http:
            while not self._is_over:
                with self._answered:
                    record = next(self._records)
                try:
                    given = http.post(f"{self._address}/v1/transactions", content=record)
                    answer, failure = given.json(), "" if given.status_code == 200 else given.text
                except httpx2.HTTPError as error:
                    answer, failure = {}, repr(error)
                with self._answered:
                    if failure:
                        self.failures.append(failure)
                    else:
                        self.answers.append(answer)
                    self._answered.notify_all()
