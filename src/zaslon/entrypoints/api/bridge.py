"""Between the event loop and the decider's thread: both take what there is together.

Whatever is asked in one turn of the loop goes over at its end, and a group's answers come back with
one wake-up. So each of the two runs on while it has something to do. They share the interpreter's
lock: to hand it over for every call would cost as much as to decide.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from zaslon.domain.errors import ZaslonError
from zaslon.domain.events import Kind
from zaslon.ports import Answer, Answered, Decider

T = TypeVar("T")


@dataclass
class Asked:
    """One call under way. `stands_in_log` says so as the decider does, once it has the call."""

    records: Sequence[bytes]
    kind: Kind
    deadline_seconds: float
    future: asyncio.Future[list[Answer]]
    stands_in_log: Callable[[], bool] = lambda: False


class Bridge:
    """For calls of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, decider: Decider) -> None:
        self._loop, self._decider = loop, decider
        self._asked: list[Asked] = []
        self._arrived: deque[tuple[asyncio.Future[list[Answer]], list[Answer] | ZaslonError]] = deque()
        self._is_called = False

    def ask(self, records: Sequence[bytes], kind: Kind, deadline_seconds: float) -> Asked:
        """Have records decided; the future brings the answers, or why there are none."""
        if not self._asked:
            self._loop.call_soon(self._hand_over)
        asked = Asked(records, kind, deadline_seconds, self._loop.create_future())
        self._asked.append(asked)
        return asked

    def _hand_over(self) -> None:
        all_asked, self._asked = self._asked, []
        for asked in all_asked:
            if asked.future.done():  # nobody waits any more
                continue
            try:
                asked.stands_in_log = self._decider.submit(
                    asked.records, asked.kind, asked.deadline_seconds, self._answered(asked.future)
                )
            except Exception as error:  # noqa: BLE001  raised where it is awaited; the others go over
                asked.future.set_exception(error)

    def _answered(self, future: asyncio.Future[list[Answer]]) -> Answered:
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
            if future.done():
                continue
            if isinstance(answers, ZaslonError):
                future.set_exception(answers)
            else:
                future.set_result(answers)


async def within(future: asyncio.Future[T], seconds: float, loop: asyncio.AbstractEventLoop) -> T:
    """The future's result, or TimeoutError after so long: `wait_for` for what is no task, at a fifth."""

    def expire() -> None:
        if not future.done():
            future.set_exception(TimeoutError())

    timer = loop.call_later(seconds, expire)
    try:
        return await future
    finally:
        timer.cancel()
