"""Which outcome belongs to which record that was sent: exactly, by offset and log position.

The broker's acknowledgement says at which offset a record stands. Topic `order` says at which log
position that offset was folded. The outcome carries the position. So nothing has to be guessed from
contents, whoever else sends to the same topics. The three may be heard of in any order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from zaslon.adapters.cluster.kafka.order import Order

Record = TypeVar("Record")


class Matching(Generic[Record]):
    """Brings records and outcomes together. Remembers only what a record under way may need.

    `send` and `withdraw` may be called from any thread, all else from one only.

    Args:
        found: told of each record with its outcome.
        lost: told of each record whose offset was passed over, which only damaged topics explain.
    """

    def __init__(self, found: Callable[[Record, bytes], None], lost: Callable[[Record], None]) -> None:
        self._found, self._lost = found, lost
        self._lock = threading.Lock()
        self._numbers = 0
        self._under_way: dict[int, None] = {}  # sent and not acknowledged, oldest first
        self._unfolded: dict[tuple[str, int], deque[tuple[int, Record]]] = {}  # by offset
        # What was folded while records were under way, with the number of the last of them.
        self._folded: deque[tuple[Order, int]] = deque()
        self._positioned: dict[int, Record] = {}
        self._outcomes: dict[int, bytes] = {}
        self._begin = self._end = 0  # of what may still be asked for; of what was folded

    def send(self) -> int:
        """A number for a record that is sent right after this call."""
        with self._lock:
            self._numbers += 1
            self._under_way[self._numbers] = None
            return self._numbers

    def withdraw(self, number: int) -> None:
        """The record was not sent after all."""
        with self._lock:
            self._under_way.pop(number, None)

    def refused(self, number: int) -> None:
        """The broker has not taken the record."""
        self.withdraw(number)
        self._forget()

    @property
    def end(self) -> int:
        """Next position of the log, as far as it was seen."""
        return self._end

    def acknowledged(self, number: int, record: Record, topic: str, partition: int, offset: int) -> None:
        """The record stands in the log. Acknowledgements of a partition come in the order of offsets."""
        for order, _ in self._folded:
            position = order.position_of(topic, partition, offset)
            if position is not None:
                self._place(record, position)
                break
        else:
            self._unfolded.setdefault((topic, partition), deque()).append((offset, record))
        self.refused(number)

    def applied(self, order: Order) -> None:
        """A micro-batch was recorded."""
        for r in order.ranges:
            waiting = self._unfolded.get((r.topic, r.partition), deque())
            while waiting and waiting[0][0] < r.end:
                offset, record = waiting.popleft()
                position = order.position_of(r.topic, r.partition, offset)
                if position is None:
                    self._lost(record)
                else:
                    self._place(record, position)
        with self._lock:
            if self._under_way:
                self._folded.append((order, self._numbers))
        self._end = order.position + len(order)
        self._forget()

    def outcome(self, position: int, outcome: bytes) -> None:
        """An outcome was recorded."""
        record = self._positioned.pop(position, None)
        if record is not None:
            self._found(record, outcome)
        elif position >= self._begin and (self._under_way or any(self._unfolded.values())):
            self._outcomes[position] = outcome

    def _place(self, record: Record, position: int) -> None:
        outcome = self._outcomes.pop(position, None)
        if outcome is None:
            self._positioned[position] = record
        else:
            self._found(record, outcome)

    def _forget(self) -> None:
        """Drop what no record can ask for any more."""
        with self._lock:
            oldest = next(iter(self._under_way), self._numbers + 1)
        while self._folded and self._folded[0][1] < oldest:
            self._folded.popleft()
        begin = self._folded[0][0].position if self._folded else self._end
        if begin > self._begin:
            self._begin = begin
            self._outcomes = {p: o for p, o in self._outcomes.items() if p >= begin}
