"""What the routes share: the decider behind the door, keys, limits, metrics, and its records."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from zaslon.decisions.policy import Policy
from zaslon.domain.errors import BusyError, ZaslonError
from zaslon.domain.events import Kind
from zaslon.entrypoints.api.metrics import Metrics
from zaslon.entrypoints.api.problems import Problem
from zaslon.entrypoints.api.rates import Rates
from zaslon.flows.context import Context
from zaslon.flows.keys import KeyRing
from zaslon.models.model import Model
from zaslon.ports import Answer, Answered, Clock, Decider, Journal
from zaslon.settings import Settings

T = TypeVar("T")
_READERS = 2


class Bridge:
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
            if future.done():  # nobody waits any more
                continue
            if isinstance(answers, ZaslonError):
                future.set_exception(answers)
            else:
                future.set_result(answers)


class Reading:
    """The journal for those who only look: a few threads, each with its own connection."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="reading")
        self._own = threading.local()

    async def ask(self, question: Callable[[Journal], T]) -> T:
        """The answer of a function over the journal, found beside the event loop.

        Raises:
            Problem: the journal cannot be read, or is not there yet.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, question)
        except ZaslonError as error:
            raise Problem("busy", "The log cannot be read.", headers={"Retry-After": "1"}) from error

    def _ask(self, question: Callable[[Journal], T]) -> T:
        if not hasattr(self._own, "journal"):
            self._own.journal = self._context.open_journal_for_reading()
        journal: Journal = self._own.journal
        return question(journal)

    def close(self) -> None:
        """Let the threads end; their connections close with them."""
        self._pool.shutdown()


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
    rates: Rates = field(init=False)
    reading: Reading = field(init=False)
    _bridge: Bridge | None = None

    def __post_init__(self) -> None:
        """The parts that only serve this one."""
        self.rates = Rates(self.settings.api_rate_per_second, self.settings.api_rate_burst)
        self.reading = Reading(self.context)

    async def decide(self, records: Sequence[bytes], kind: Kind, begin_seconds: float) -> list[Answer]:
        """Outcomes of records, durable, within the time budget from `begin_seconds` on.

        Raises:
            Problem: the service is busy, or it took too long.
        """
        loop = asyncio.get_running_loop()
        if self._bridge is None:
            self._bridge = Bridge(loop)
        future: asyncio.Future[list[Answer]] = loop.create_future()
        deadline = begin_seconds + self.settings.api_budget_ms / 1000
        try:
            self.decider.submit(records, kind, deadline, self._bridge.answered(future))
            remaining = deadline - self.clock.monotonic_seconds()
            return await asyncio.wait_for(future, remaining)
        except TimeoutError:
            raise self._not_in_time() from None
        except BusyError as error:
            raise Problem("busy", str(error), headers={"Retry-After": "1"}) from error
        except ZaslonError as error:  # says where the log is, which is nobody's business outside
            raise Problem("busy", "The log cannot be written.", headers={"Retry-After": "1"}) from error

    def _not_in_time(self) -> Problem:
        return Problem(
            "not_in_time",
            f"Nothing was durable within {self.settings.api_budget_ms} ms. Act on the fallback; the same "
            "request again gives the decision that is recorded.",
            headers={"Retry-After": "1"}, fallback_action=self.policy.fallback.code,
        )  # fmt: skip
