"""Calls for a decision worker that runs in the test's own thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from zaslon.bootstrap import build_clock
from zaslon.domain.answers import Answer
from zaslon.domain.errors import ZaslonError
from zaslon.domain.events import Kind
from zaslon.ports import Call


@dataclass
class GivenCalls:
    """Groups of calls, one after the other, and what was answered.

    `before` is called with the number of each group, from 0, before the worker gets it.
    """

    groups: deque[list[Call]]
    before: Callable[[int], None] = lambda _: None
    answers: dict[int, list[Answer] | ZaslonError] = field(default_factory=dict)
    notices: list[tuple[str, Any]] = field(default_factory=list)
    readiness: list[bool] = field(default_factory=list)
    taken: int = 0

    def take(self, records_max: int, wait_seconds: float) -> Sequence[Call] | None:
        del records_max, wait_seconds
        self.before(self.taken)
        self.taken += 1
        return self.groups.popleft() if self.groups else None

    def answer(self, answers: Sequence[tuple[int, list[Answer] | ZaslonError]]) -> None:
        self.answers |= dict(answers)

    def ready(self, is_ready: bool) -> None:
        self.readiness.append(is_ready)

    def notify(self, topic: str, content: object) -> None:
        self.notices.append((topic, content))

    def outcomes(self, number: int) -> list[dict[str, Any]]:
        """What a call was answered."""
        answers = self.answers[number]
        assert not isinstance(answers, ZaslonError), answers
        return [orjson.loads(answer.outcome) for answer in answers]


def call(number: int, records: Sequence[bytes], kind: Kind = Kind.TRANSACTION_JSON) -> Call:
    now = build_clock().monotonic_seconds()
    return Call(number, records, kind, now + 60, now)


def transaction(number: int, amount: float) -> bytes:
    return orjson.dumps(
        {"transaction_id": number, "tx_datetime": "2019-10-01 10:00:00", "customer_id": number % 7,
         "terminal_id": 5, "tx_amount": amount}
    )  # fmt: skip
