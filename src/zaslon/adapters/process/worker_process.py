"""The port `Decider` on the decision worker's process, and that process's side of it.

    service: submit ─► channel ─► take : worker
    service: answered ◄─ channel ◄─ answer : worker

The decision worker's process lives as long as the service: when the channel is closed, it ends as if killed, and
the log is as after any crash. See docs/decisions/0015-the-decision-worker-is-a-separate-process.md.
"""

from __future__ import annotations

import itertools
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from zaslon.adapters.process.channel import Channel, Message, packed
from zaslon.domain import errors
from zaslon.domain.answers import Answer
from zaslon.domain.errors import BusyError, ServerError, UncertainError, ZaslonError
from zaslon.domain.events import Kind, TransactionId
from zaslon.domain.outcomes import Versions
from zaslon.domain.recorded import read_rejection
from zaslon.ports import Answered, Call, Clock, Outcomes

_SETTINGS, _CALL, _CLOSE = "settings", "call", "close"  # to the decision worker
_ANSWERS, _READY, _FAILED = "answers", "ready", "failed"  # from it; other messages go to `notify`


class Process(Protocol):
    """The decision worker's process, as it was started."""

    @property
    def pid(self) -> int:
        """Its number."""

    def wait(self) -> object:
        """Wait for its end."""


Start = Callable[[socket.socket], Process]


class WorkerProcess:
    """`zaslon.ports.Decider` whose engine and journal are in a separate process.

    Args:
        start: starts the decision worker's process at the other end of a channel.
        settings: as text; the first thing that the decision worker is sent.
        records_max: records without outcome.
        bytes_max: their bytes; a call that waits alone may have more.
        clock: the monotonic one counts for both processes.
        open_outcomes: opens the journal for a thread that only looks.
        notify: called with every other message's topic and content, on the receiving thread.
    """

    def __init__(
        self, start: Start, settings: str, records_max: int, bytes_max: int, clock: Clock,
        open_outcomes: Callable[[], Outcomes], notify: Callable[[str, Any], None],
    ) -> None:  # fmt: skip
        self._records_max, self._bytes_max = records_max, bytes_max
        self._clock, self._open_outcomes = clock, open_outcomes
        self._notify = notify
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[Answered, int, int]] = {}  # with the call's records and bytes
        self._waiting_records = self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._is_open = True
        self._is_ready, self._is_alive = False, True
        self._begun = threading.Event()
        self._failure: ZaslonError | None = None
        self._serving: Versions | None = None
        here, there = socket.socketpair()
        with there:
            self._process = start(there)
        self._channel = Channel(here)
        self._rests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._rests_left = 0
        self._sender = threading.Thread(target=self._send_rests, name="worker-sender", daemon=True)
        self._receiver = threading.Thread(target=self._receive, name="worker-receiver", daemon=True)
        self._sender.start()
        self._receiver.start()
        self._send(packed(Message(_SETTINGS, settings)))

    def start(self) -> None:
        """Wait until the state is recovered and everything is warm.

        Raises:
            ZaslonError: why it cannot serve.
        """
        self._begun.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def pid(self) -> int:
        """The decision worker's process."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether records are decided now."""
        return self._is_ready and self._is_open and self._is_alive

    @property
    def obstacle(self) -> str:
        """Why nothing is decided now."""
        return "The service is starting, recovering or stopping."

    @property
    def serving(self) -> Versions | None:
        """What decides since the last change; None before the first."""
        return self._serving

    def serves(self, versions: Versions) -> None:
        """Note that these versions decide from now on."""
        self._serving = versions

    def open_outcomes(self) -> Outcomes:
        """The journal, for a thread that only looks.

        Raises:
            BusyError: it has not been opened yet by the decision worker.
        """
        if not self._begun.is_set():
            raise BusyError(self.obstacle)
        return self._open_outcomes()

    @property
    def is_alive(self) -> bool:
        """Whether the decision worker's process runs; when it does not, only a new service helps."""
        return self._is_alive

    @property
    def waiting_records(self) -> int:
        """Records without outcome."""
        return self._waiting_records

    def submit(
        self, records: Sequence[bytes], kind: Kind, deadline_seconds: float, answered: Answered
    ) -> Callable[[], bool]:
        """Take the records of one call (see the port); they are in the log when they are answered."""
        with self._lock:
            if not self.is_ready:
                raise BusyError("The service is not ready.", hint="Try again in a moment.")
            size, number = sum(map(len, records)), next(self._numbers)
            terms = [number, kind, deadline_seconds, self._clock.monotonic_seconds()]
            message = packed(Message(_CALL, terms, records))  # a call that breaks it is none that waits
            if self._waiting_records + len(records) > self._records_max or (
                self._waiting and self._waiting_bytes + size > self._bytes_max
            ):
                raise BusyError("The service's queue is full.", hint="Try again in a moment.")
            self._waiting_records += len(records)
            self._waiting_bytes += size
            self._waiting[number] = answered, len(records), size
            self._send(message)
        return _never

    def close(self) -> None:
        """Decide what was taken, save the state, stop."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._send(packed(Message(_CLOSE)))
        self._receiver.join()
        self._process.wait()
        self._rests.put(None)
        self._sender.join()
        self._channel.close()

    def _send(self, rest: bytes) -> None:
        """Send a message without waiting; what the channel does not take now, another thread sends. Under the lock."""
        try:
            if not self._rests_left:
                rest = self._channel.send_at_once(rest)
        except OSError:  # it has ended: the receiving thread answers all who wait
            return
        if rest:
            self._rests_left += 1
            self._rests.put(rest)

    def _send_rests(self) -> None:
        while (rest := self._rests.get()) is not None:
            try:
                self._channel.send_rest(rest)
            except OSError:
                return
            with self._lock:
                self._rests_left -= 1

    def _receive(self) -> None:
        """Receive messages until the decision worker has ended."""
        try:
            with suppress(EOFError):
                while True:
                    for message in self._channel.receive():
                        self._take(message)
        finally:  # also after a bug: no caller may wait for answers that are not received
            self._end()

    def _take(self, message: Message) -> None:
        if message.topic == _ANSWERS:
            given = _unpacked_answers(message)
            with self._lock:
                found = [(*self._waiting.pop(number), answers) for number, answers in given]
                self._waiting_records -= sum(records for _, records, _, _ in found)
                self._waiting_bytes -= sum(size for _, _, size, _ in found)
            for answered, _, _, answers in found:
                answered(answers)
        elif message.topic == _READY:
            self._is_ready = message.content
            self._begun.set()
        elif message.topic == _FAILED:
            self._failure = _error_of(message.content)
        else:
            self._notify(message.topic, message.content)

    def _end(self) -> None:
        """The decision worker has ended, or will, because its channel is closed: no caller waits for it any more."""
        self._channel.shut_down()
        with self._lock:
            self._is_alive = False
            waiting, self._waiting = self._waiting, {}
            self._waiting_records = self._waiting_bytes = 0
        if not self._begun.is_set() and self._failure is None:
            self._failure = ServerError(
                "The process that decides ended before it was ready.", hint="See its log messages."
            )
        self._begun.set()
        for answered, *_ in waiting.values():
            answered(UncertainError("The process that decides has ended."))


def _never() -> bool:
    return False


class WorkerCalls:
    """`zaslon.ports.Calls` at the decision worker's end of the channel. Used by one thread, but for `notify`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: deque[Call] = deque()
        self._is_last = False
        self._lock = threading.Lock()
        self.settings = ""
        while not self.settings:
            self._add(channel.receive())

    def take(self, records_max: int, wait_seconds: float) -> Sequence[Call] | None:
        """The calls of the next group (see the port).

        Raises:
            EOFError: the service has ended.
        """
        if not self._is_last:
            self._add(self._channel.receive(0 if self._waiting else wait_seconds))
        if self._is_last and not self._waiting:
            return None
        group: list[Call] = []
        records = 0
        while self._waiting and records < records_max:
            group.append(self._waiting.popleft())
            records += len(group[-1].records)
        return group

    def answer(self, answers: Sequence[tuple[int, list[Answer] | ZaslonError]]) -> None:
        """Answer calls by number."""
        self._send(_packed_answers(answers))

    def ready(self, is_ready: bool) -> None:
        """Report whether calls are decided from now on."""
        self._send(Message(_READY, is_ready))

    def notify(self, topic: str, content: object) -> None:
        """Send the service a message that answers no call; from any thread."""
        self._send(Message(topic, content))

    def fail(self, error: ZaslonError) -> None:
        """Report why nothing can be decided at all."""
        self._send(Message(_FAILED, _error_terms(error)))

    def _send(self, message: Message) -> None:
        with self._lock:
            self._channel.send(message)

    def _add(self, messages: Sequence[Message]) -> None:
        for topic, content, blobs in messages:
            if topic == _CALL:
                number, kind, *seconds = content
                self._waiting.append(Call(number, blobs, Kind(kind), *seconds))
            elif topic == _SETTINGS:
                self.settings = content
            else:
                self._is_last = True


def _packed_answers(answers: Sequence[tuple[int, list[Answer] | ZaslonError]]) -> Message:
    terms: list[object] = []
    blobs: list[bytes] = []
    for number, given in answers:
        if isinstance(given, ZaslonError):
            terms.append([number, _error_terms(given)])
        else:
            terms.append([number, [_answer_terms(answer) for answer in given]])
            blobs += [answer.outcome for answer in given]
    return Message(_ANSWERS, terms, blobs)


def _answer_terms(answer: Answer) -> tuple[object, bool, bool]:
    """What is sent of an answer beside the bytes of its outcome, which hold a rejection whole."""
    return answer.transaction_id, answer.rejection is not None, answer.repeated


def _unpacked_answers(message: Message) -> list[tuple[int, list[Answer] | ZaslonError]]:
    blobs = iter(message.blobs)
    return [
        (
            number,
            _error_of(terms)
            if isinstance(terms, dict)
            else [_answer_of(next(blobs), *answer_terms) for answer_terms in terms],
        )
        for number, terms in message.content
    ]


def _answer_of(
    outcome: bytes, transaction_id: TransactionId | None, is_rejection: bool, repeated: bool
) -> Answer:
    rejection = read_rejection(outcome) if is_rejection else None
    return Answer(outcome, transaction_id, rejection, repeated)


def _error_terms(error: ZaslonError) -> dict[str, str | None]:
    kind = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return {"kind": kind, "message": error.message, "hint": error.hint}


def _error_of(terms: dict[str, Any]) -> ZaslonError:
    error: ZaslonError = getattr(errors, terms["kind"])(terms["message"], hint=terms["hint"])
    return error
