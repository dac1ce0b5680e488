"""Which outcome belongs to which record that was sent: exactly, by offset and log position.

The broker's acknowledgement gives the offset of a record. Topic `order` gives the log position of that
offset. The outcome carries the position. So nothing has to be guessed from contents, even if others send
to the same topics. The three may arrive in any order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from zaslon.adapters.cluster.kafka.order import Order
from zaslon.domain.recorded import Recorded

Record = TypeVar("Record")


class Matching(Generic[Record]):
    """Brings records and outcomes together. Remembers only what a record in flight may need.

    `send` and `withdraw` may be called from any thread, everything else from one only.

    Args:
        found: called with each record and its outcome.
        lost: called with each record whose offset was skipped, which only damaged topics explain.
    """

    def __init__(self, found: Callable[[Record, Recorded], None], lost: Callable[[Record], None]) -> None:
        self._found, self._lost = found, lost
        self._lock = threading.Lock()
        self._numbers = 0
        self._in_flight: dict[int, None] = {}  # sent and not acknowledged, oldest first
        self._unapplied: dict[tuple[str, int], deque[tuple[int, Record]]] = {}  # by offset
        # Orders that arrived while records were in flight, with the number of the last of those.
        self._applied: deque[tuple[Order, int]] = deque()
        self._positioned: dict[int, Record] = {}
        self._outcomes: dict[int, Recorded] = {}
        self._begin = self._end = 0  # positions from `_begin` on may still be asked for

    def send(self) -> int:
        """A number for a record that is sent right after this call."""
        with self._lock:
            self._numbers += 1
            self._in_flight[self._numbers] = None
            return self._numbers

    def withdraw(self, number: int) -> None:
        """The record was not sent after all."""
        with self._lock:
            self._in_flight.pop(number, None)

    def refused(self, number: int) -> None:
        """The broker has not taken the record."""
        self.withdraw(number)
        self._forget()

    @property
    def end(self) -> int:
        """Next position of the log, as far as it was read."""
        return self._end

    def acknowledged(self, number: int, record: Record, topic: str, partition: int, offset: int) -> None:
        """The record is in the log. Acknowledgements of a partition come in the order of offsets."""
        for order, _ in self._applied:
            position = order.position_of(topic, partition, offset)
            if position is not None:
                self._locate(record, position)
                break
        else:
            self._unapplied.setdefault((topic, partition), deque()).append((offset, record))
        self.refused(number)

    def applied(self, order: Order) -> None:
        """A micro-batch was recorded."""
        for r in order.ranges:
            waiting = self._unapplied.get((r.topic, r.partition), deque())
            while waiting and waiting[0][0] < r.end:
                offset, record = waiting.popleft()
                position = order.position_of(r.topic, r.partition, offset)
                if position is None:
                    self._lost(record)
                else:
                    self._locate(record, position)
        with self._lock:
            if self._in_flight:
                self._applied.append((order, self._numbers))
        self._end = order.position + len(order)
        self._forget()

    def outcome(self, outcome: Recorded) -> None:
        """An outcome was recorded."""
        position = outcome.position
        record = self._positioned.pop(position, None)
        if record is not None:
            self._found(record, outcome)
        elif position >= self._begin and (self._in_flight or any(self._unapplied.values())):
            self._outcomes[position] = outcome

    def _locate(self, record: Record, position: int) -> None:
        outcome = self._outcomes.pop(position, None)
        if outcome is None:
            self._positioned[position] = record
        else:
            self._found(record, outcome)

    def _forget(self) -> None:
        """Drop what no record can need any more."""
        with self._lock:
            oldest = next(iter(self._in_flight), self._numbers + 1)
        while self._applied and self._applied[0][1] < oldest:
            self._applied.popleft()
        begin = self._applied[0][0].position if self._applied else self._end
        if begin > self._begin:
            self._begin = begin
            self._outcomes = {p: o for p, o in self._outcomes.items() if p >= begin}
