"""What the routes share: the decider behind the gateway, keys, limits, metrics, and its records."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from zaslon.decisions.policy import Policy
from zaslon.domain.answers import Answer
from zaslon.domain.errors import (
    ArtefactError,
    BrokenCallError,
    BusyError,
    PolicyError,
    TooLargeError,
    UncertainError,
    ZaslonError,
)
from zaslon.domain.events import Kind
from zaslon.domain.outcomes import Action
from zaslon.entrypoints.api.problems import Problem
from zaslon.entrypoints.api.rates import Rates
from zaslon.entrypoints.api.service_metrics import Metrics
from zaslon.features.plan import plan_features
from zaslon.models.model import Model
from zaslon.ports import Answered, Clock, Decider, Outcomes
from zaslon.services.context import Context
from zaslon.services.entity_decisions import EntityDecisions
from zaslon.services.home import load_kept_policy, load_versions
from zaslon.services.key_management import KeyRing
from zaslon.settings import Settings

T = TypeVar("T")
_READERS = 2
_CATCH_UP_SECONDS = 1.0  # that one look-up by entity reads the log on for; the next one goes on from there


class EventLoopBridge:
    """Brings answers from the decider's thread to the event loop: one wake-up for a whole group."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrived: deque[tuple[asyncio.Future[list[Answer]], list[Answer] | ZaslonError]] = deque()
        self._is_called = False

    def answered(self, future: asyncio.Future[list[Answer]]) -> Answered:
        """What to give to the decider for a future of the loop."""

        def take(answers: list[Answer] | ZaslonError) -> None:
            self._arrived.append((future, answers))
            if not self._is_called:
                self._is_called = True
                self._loop.call_soon_threadsafe(self._deliver)

        return take

    def _deliver(self) -> None:
        self._is_called = False  # before the last look: what comes later calls again
        while self._arrived:
            future, answers = self._arrived.popleft()
            if future.done():  # no caller waits any more
                continue
            if isinstance(answers, ZaslonError):
                future.set_exception(answers)
            else:
                future.set_result(answers)


class Reading:
    """What was decided, for those who only look: a few threads, each with its own connection."""

    def __init__(self, decider: Decider, open_by_entity: Callable[[], EntityDecisions]) -> None:
        self._decider, self._open_by_entity = decider, open_by_entity
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="reading")
        self._own = threading.local()

    async def ask(self, question: Callable[[Outcomes], T]) -> T:
        """The answer of a function over recorded outcomes, found beside the event loop.

        Raises:
            Problem: they cannot be read, or are not there yet.
        """
        return await self._in_pool(lambda: self._ask(question))

    async def ask_by_entity(self, question: Callable[[Outcomes, EntityDecisions], T]) -> T:
        """The same of a function that also looks up by entity: the log is read into the index first.

        Raises:
            Problem: as `ask`, or the index is far behind the log.
        """
        return await self._in_pool(lambda: self._ask_by_entity(question))

    async def _in_pool(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except BusyError as error:
            raise Problem("busy", str(error), headers={"Retry-After": "1"}) from error
        except ZaslonError as error:
            raise Problem("busy", "The log cannot be read.", headers={"Retry-After": "1"}) from error

    def _ask_by_entity(self, question: Callable[[Outcomes, EntityDecisions], T]) -> T:
        if not hasattr(self._own, "by_entity"):
            self._own.by_entity = self._open_by_entity()
        by_entity: EntityDecisions = self._own.by_entity
        end = time.monotonic() + _CATCH_UP_SECONDS
        by_entity.catch_up(lambda: time.monotonic() > end)
        return self._ask(lambda outcomes: question(outcomes, by_entity))

    def _ask(self, question: Callable[[Outcomes], T]) -> T:
        if not hasattr(self._own, "outcomes"):
            self._own.outcomes = self._decider.open_outcomes()
        outcomes: Outcomes = self._own.outcomes
        return question(outcomes)

    def close(self) -> None:
        """Let the threads end; their connections close with them."""
        self._pool.shutdown()


async def _within(future: asyncio.Future[T], seconds: float, loop: asyncio.AbstractEventLoop) -> T:
    """The future's result, or TimeoutError after so long: `wait_for` for what is not a task, at a fifth of the cost."""

    def expire() -> None:
        if not future.done():
            future.set_exception(TimeoutError())

    timer = loop.call_later(seconds, expire)
    try:
        return await future
    finally:
        timer.cancel()


@dataclass
class Service:
    """Everything that routes need. Made once, by `serve`."""

    settings: Settings
    context: Context
    decider: Decider
    keys: KeyRing
    clock: Clock
    metrics: Metrics
    model: Model
    policy: Policy
    open_connections: Callable[[], int] = lambda: 0
    is_settled: bool = True  # False while the process still does what would slow the first calls
    rates: Rates = field(init=False)
    reading: Reading = field(init=False)
    _bridge: EventLoopBridge | None = None

    def __post_init__(self) -> None:
        """The parts that only serve this one."""
        self.rates = Rates(self.settings.api_rate_per_second, self.settings.api_rate_burst)
        self.reading = Reading(self.decider, lambda: EntityDecisions(self.context))
        self._plan = plan_features(self.context.catalogue)

    async def decide(self, records: Sequence[bytes], kind: Kind, begin_seconds: float) -> list[Answer]:
        """Outcomes of records, durable, within the time budget from `begin_seconds` on.

        Raises:
            Problem: the service is busy, it took too long, or the call broke our own code.
        """
        loop = asyncio.get_running_loop()
        if self._bridge is None:
            self._bridge = EventLoopBridge(loop)
        future: asyncio.Future[list[Answer]] = loop.create_future()
        deadline = begin_seconds + self.settings.api_budget_ms / 1000
        is_in_log: Callable[[], bool] | None = None
        try:
            is_in_log = self.decider.submit(records, kind, deadline, self._bridge.answered(future))
            return await _within(future, deadline - self.clock.monotonic_seconds(), loop)
        except (TimeoutError, UncertainError):
            raise self._not_in_time(in_log=is_in_log is not None and is_in_log()) from None
        except BusyError as error:
            raise Problem("busy", str(error), headers={"Retry-After": "1"}) from error
        except TooLargeError as error:
            raise Problem("too_large", str(error)) from error
        except BrokenCallError as error:
            raise Problem("internal", str(error)) from error
        except ZaslonError as error:  # names the log's path, which clients must not see
            raise Problem("busy", "The log cannot be written.", headers={"Retry-After": "1"}) from error

    async def serving(self) -> tuple[Model, Policy]:
        """The model and the policy that decide now.

        Raises:
            Problem: the stream is decided by others than this home has.
        """
        versions = self.decider.serving
        if versions is None or (versions.model, versions.policy) == (
            self.model.artefact_id, self.policy.hash,
        ):  # fmt: skip
            return self.model, self.policy
        try:
            self.model, self.policy = await asyncio.to_thread(
                load_versions, self.context, self._plan, versions.model, versions.policy
            )
        except ArtefactError as error:
            raise Problem(
                "not_found",
                f"Model {versions.model} and policy {versions.policy} decide the stream; this service's "
                "home does not have both.",
            ) from error
        return self.model, self.policy

    def _not_in_time(self, *, in_log: bool) -> Problem:
        detail = (
            "It is in the log, but its decision did not arrive in time. Act on the fallback; it will be decided "
            "once, and GET /v1/decisions/{transaction_id} or the same request again gives the decision."
            if in_log
            else "It is not known to be in the log. Act on the fallback; it may still be decided, and "
            "the same request again gives the decision that is recorded."
        )
        return Problem(
            "not_in_time", detail, headers={"Retry-After": "1"},
            fallback_action=self._fallback().code, in_log=in_log or None,
        )  # fmt: skip

    def _fallback(self) -> Action:
        """Of the policy that decides now; of the one known before, as long as this home does not have it."""
        versions = self.decider.serving
        if versions is not None and versions.policy != self.policy.hash:
            with suppress(ArtefactError, PolicyError):
                self.policy = load_kept_policy(self.context, self._plan, versions.policy)
        return self.policy.fallback
