"""Calls of the decision service, tried again where that is safe.

Every call may be repeated: a transaction's id is its key, and the same label again changes nothing. So broken connections, time-outs, 429 and 503 are tried again;
what the service refused is not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx2
import orjson

from zaslon.client.refusals import RefusedError, UnavailableError
from zaslon.client.responses import (
    Decision,
    LabelAccepted,
    Rejection,
    read_decision,
    read_label,
    read_outcome,
)

Id = TypeVar("Id", int, str)
Verdict = Literal["confirmed_fraud", "confirmed_good", "chargeback"]
_AGAIN = (429, 503)
_WAIT_SECONDS_MAX = 5.0


@dataclass(frozen=True)
class _Call:
    """One request, whichever way it is sent."""

    method: str
    path: str
    content: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """For httpx2's `request`."""
        given = {name: value for name, value in self.parameters.items() if value is not None}
        if self.content is None:
            return {"method": self.method, "url": self.path, "params": given}
        headers = {"Content-Type": "application/json"}
        return {
            "method": self.method, "url": self.path, "params": given, "headers": headers,
            "content": orjson.dumps(self.content),
        }  # fmt: skip


def _decide(transaction: Mapping[str, Any]) -> _Call:
    return _Call("POST", "/v1/transactions", dict(transaction))


def _decide_many(transactions: Sequence[Mapping[str, Any]]) -> _Call:
    return _Call("POST", "/v1/transactions/batch", [dict(given) for given in transactions])


def _decision(transaction_id: int | str) -> _Call:
    # A path loses segments that are `.` or `..` on its way, and this would be another question.
    name = quote(str(transaction_id), safe="").replace(".", "%2E")
    return _Call("GET", f"/v1/decisions/{name}")


def _label(verdicts: Mapping[Id, Verdict]) -> _Call:
    content = [{"transaction_id": i, "verdict": verdict} for i, verdict in verdicts.items()]
    return _Call("POST", "/v1/labels", content)


class _Attempts:
    """Whether a call is tried again, and after how long."""

    def __init__(self, retries: int) -> None:
        self._left = retries
        self._wait_seconds = 0.05

    def read(self, response: httpx2.Response) -> Any:
        """The answer's content, or the seconds to wait as `_Again`."""
        content = _content(response)
        if response.is_success:
            return content
        if response.status_code not in _AGAIN:
            raise RefusedError(response.status_code, content if isinstance(content, dict) else {})
        problem = content if isinstance(content, dict) else {}
        after = response.headers.get("retry-after", "")
        return self.again(
            str(problem.get("detail", "The service is not available.")),
            float(after) if after.isdecimal() else None,
            problem.get("fallback_action"),
        )

    def again(self, why: str, after_seconds: float | None = None, fallback: str | None = None) -> _Again:
        """The wait before the next attempt.

        Raises:
            UnavailableError: there is none left.
        """
        if self._left == 0:
            raise UnavailableError(why, fallback)
        self._left -= 1
        wait, self._wait_seconds = self._wait_seconds, self._wait_seconds * 2
        return _Again(min(wait if after_seconds is None else after_seconds, _WAIT_SECONDS_MAX))


@dataclass(frozen=True)
class _Again:
    wait_seconds: float


def _content(response: httpx2.Response) -> Any:
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None


def _options(address: str, key: str, timeout_seconds: float) -> dict[str, Any]:
    return {
        "base_url": address, "headers": {"Authorization": f"Bearer {key}"}, "timeout": timeout_seconds,
    }  # fmt: skip


class Client:
    """The service, called synchronously. Use it in a `with` block; it keeps its connections.

    Args:
        address: for example `https://fraud.bank.example:8080`.
        key: made by `zaslon keys create`.
        timeout_seconds: for one attempt.
        retries: further attempts where the first brought no answer.
        transport: of httpx2, for proxies, own certificates, or an application in the process.
        wait: how to wait between attempts.

    Example:
        >>> with Client("http://localhost:8080", "zaslon_…") as client:  # doctest: +SKIP
        ...     client.decide({"transaction_id": 1, ...}).action
        'allow'
    """

    def __init__(
        self, address: str, key: str, *, timeout_seconds: float = 2.0, retries: int = 3,
        transport: httpx2.BaseTransport | None = None, wait: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._http = httpx2.Client(**_options(address, key, timeout_seconds), transport=transport)
        self._retries, self._wait = retries, wait

    def decide(self, transaction: Mapping[str, Any]) -> Decision:
        """Decide one transaction; its id makes the call safe to repeat.

        Raises:
            RefusedError: it is rejected, or its id is taken by other content.
            UnavailableError: there was no answer.
        """
        return read_decision(self._ask(_decide(transaction)))

    def decide_many(self, transactions: Sequence[Mapping[str, Any]]) -> list[Decision | Rejection]:
        """One outcome per transaction, in order; at most as many as the service takes in one call."""
        return [read_outcome(content) for content in self._ask(_decide_many(transactions))["outcomes"]]

    def decision(self, transaction_id: int | str) -> Decision | None:
        """The recorded decision about a transaction, or None."""
        try:
            return read_decision(self._ask(_decision(transaction_id)))
        except RefusedError as error:
            if error.code == "not_found":
                return None
            raise

    def decisions(self, **wanted: Any) -> Iterator[Decision]:
        """All decisions that are wanted, newest first, page by page. Filters as in the guide."""
        before = wanted.pop("before", None)
        while True:
            page = self._ask(_Call("GET", "/v1/decisions", None, {**wanted, "before": before}))
            yield from map(read_decision, page["decisions"])
            before = page["next"]
            if before is None:
                return

    def label(self, verdicts: Mapping[Id, Verdict]) -> list[LabelAccepted | Rejection]:
        """Send verdicts by transaction id; each counts from the next transaction on."""
        return [read_label(content) for content in self._ask(_label(verdicts))["outcomes"]]

    def model(self) -> dict[str, Any]:
        """What scores now."""
        return dict(self._ask(_Call("GET", "/v1/model")))

    def policy(self) -> dict[str, Any]:
        """What decides now."""
        return dict(self._ask(_Call("GET", "/v1/policy")))

    def _ask(self, call: _Call) -> Any:
        attempts = _Attempts(self._retries)
        while True:
            try:
                found = attempts.read(self._http.request(**call.arguments()))
            except httpx2.TransportError as error:
                found = attempts.again(f"The service cannot be reached: {error!r}.")
            if not isinstance(found, _Again):
                return found
            self._wait(found.wait_seconds)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio; arguments, answers and errors as for `Client`."""

    def __init__(
        self, address: str, key: str, *, timeout_seconds: float = 2.0, retries: int = 3,
        transport: httpx2.AsyncBaseTransport | None = None,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self._http = httpx2.AsyncClient(**_options(address, key, timeout_seconds), transport=transport)
        self._retries, self._wait = retries, wait

    async def decide(self, transaction: Mapping[str, Any]) -> Decision:
        """Decide one transaction."""
        return read_decision(await self._ask(_decide(transaction)))

    async def decide_many(self, transactions: Sequence[Mapping[str, Any]]) -> list[Decision | Rejection]:
        """One outcome per transaction, in order."""
        answer = await self._ask(_decide_many(transactions))
        return [read_outcome(content) for content in answer["outcomes"]]

    async def decision(self, transaction_id: int | str) -> Decision | None:
        """The recorded decision about a transaction, or None."""
        try:
            return read_decision(await self._ask(_decision(transaction_id)))
        except RefusedError as error:
            if error.code == "not_found":
                return None
            raise

    async def decisions(self, **wanted: Any) -> AsyncIterator[Decision]:
        """All decisions that are wanted, newest first, page by page."""
        before = wanted.pop("before", None)
        while True:
            page = await self._ask(_Call("GET", "/v1/decisions", None, {**wanted, "before": before}))
            for content in page["decisions"]:
                yield read_decision(content)
            before = page["next"]
            if before is None:
                return

    async def label(self, verdicts: Mapping[Id, Verdict]) -> list[LabelAccepted | Rejection]:
        """Send verdicts by transaction id."""
        return [read_label(content) for content in (await self._ask(_label(verdicts)))["outcomes"]]

    async def model(self) -> dict[str, Any]:
        """What scores now."""
        return dict(await self._ask(_Call("GET", "/v1/model")))

    async def policy(self) -> dict[str, Any]:
        """What decides now."""
        return dict(await self._ask(_Call("GET", "/v1/policy")))

    async def _ask(self, call: _Call) -> Any:
        attempts = _Attempts(self._retries)
        while True:
            try:
                found = attempts.read(await self._http.request(**call.arguments()))
            except httpx2.TransportError as error:
                found = attempts.again(f"The service cannot be reached: {error!r}.")
            if not isinstance(found, _Again):
                return found
            await self._wait(found.wait_seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
