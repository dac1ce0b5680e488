"""Original bytes leave the logs of a home when they have had their time, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pytest

from zaslon.domain.answers import Answer
from zaslon.domain.errors import ZaslonError
from zaslon.domain.events import Kind
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.flows.reconcile import reconcile
from zaslon.flows.replay import replay
from zaslon.flows.score import label
from zaslon.flows.serve import DecisionWorker
from zaslon.ports import Call
from zaslon.services.context import Context
from zaslon.services.retention import forget_old_originals
from zaslon.testing import SmallWorld

NOW = 1_600_000_000
SECRET = "Ivanova, card 4000"


@dataclass
class SetClock:
    """A clock that stops until it is set."""

    seconds: float = NOW

    def now_seconds(self) -> float:
        return self.seconds

    def monotonic_seconds(self) -> float:
        return self.seconds


def with_retention(world: SmallWorld, days: int, clock: SetClock) -> Context:
    context = world.context
    return replace(
        context, options=replace(context.options, original_retention_days=days),
        adapters=replace(context.adapters, clock=clock),
    )  # fmt: skip


def record(number: int) -> bytes:
    return orjson.dumps(
        {"transaction_id": number, "tx_datetime": "2019-10-01 10:00:00", "customer_id": 7, "terminal_id": 5,
         "tx_amount": 20 + number, "note": SECRET}
    )  # fmt: skip


class Calls:
    """Groups of calls with something to be done before each; answers are kept."""

    def __init__(
        self, clock: SetClock, groups: Sequence[Sequence[bytes]], between: Callable[[], None]
    ) -> None:
        self.clock, self.groups, self.between = clock, list(groups), between
        self.answers: list[list[Answer] | ZaslonError] = []

    def take(self, records_max: int, wait_seconds: float) -> Sequence[Call] | None:
        del records_max, wait_seconds
        if not self.groups:
            return None
        self.between()
        records, now = self.groups.pop(0), self.clock.monotonic_seconds()
        return [Call(0, records, Kind.TRANSACTION_JSON, now + 1_000, now)] if records else []

    def answer(self, answers: Sequence[tuple[int, list[Answer] | ZaslonError]]) -> None:
        self.answers += [given for _, given in answers]

    def ready(self, is_ready: bool) -> None:
        assert is_ready

    def notify(self, topic: str, content: object) -> None:
        """Ignored."""


def bytes_of(log: Path) -> bytes:
    return b"".join(path.read_bytes() for path in log.glob("journal.db*"))


def test_a_service_forgets_original_bytes_between_two_groups(small_world: SmallWorld, tmp_path: Path) -> None:
    world, clock = small_world.in_home(tmp_path), SetClock()
    context = with_retention(world, 2, clock)
    seen: list[bool] = []

    def between() -> None:
        seen.append(SECRET.encode() in bytes_of(tmp_path / "log"))
        clock.seconds += SECONDS_PER_DAY

    bad = b'{"transaction_id":3,"tx_amount":"%s"}' % SECRET.encode()
    calls = Calls(clock, [[record(1), bad], [], [], [], [record(1)]], between)
    DecisionWorker(context, 10, clock, calls).run()
    assert seen == [False, True, True, True, False]
    first, *_, last = calls.answers
    assert isinstance(first, list)
    assert isinstance(last, list)
    assert last[0] == replace(first[0], repeated=True), "the repeat is known without its bytes"
    with closing(context.open_journal()) as journal:
        rejection = orjson.loads(journal.outcome(1) or b"")
        (typed, _) = journal.read(0)
    assert (rejection["reason"], rejection["raw"]) == ("missing_field:tx_datetime", None)
    assert typed.originals is None
    assert all(replay(context, position).identical for position in range(3))
    assert reconcile(context).is_whole


def test_a_label_keeps_its_bytes_as_long_as_a_transaction(small_world: SmallWorld, tmp_path: Path) -> None:
    world, clock = small_world.in_home(tmp_path), SetClock()
    context = with_retention(world, 2, clock)
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"transaction_id":1,"is_fraud":true}')
    DecisionWorker(context, 10, clock, Calls(clock, [[record(1)]], lambda: None)).run()
    label(context, labels, None)
    with closing(context.open_journal()) as journal:
        assert [batch.originals is None for batch in journal.read(0)] == [False, False]
        clock.seconds += 3 * SECONDS_PER_DAY
        forget_old_originals(context, journal)
        assert [batch.originals is None for batch in journal.read(0)] == [True, True]


def test_ids_of_rejections_without_bytes_are_not_checkable(small_world: SmallWorld, tmp_path: Path) -> None:
    world, clock = small_world.in_home(tmp_path / "home"), SetClock()
    context, sent = with_retention(world, 2, clock), tmp_path / "ids.txt"
    bad = b'{"transaction_id":3,"tx_amount":"%s"}' % SECRET.encode()
    DecisionWorker(context, 10, clock, Calls(clock, [[record(1), bad]], lambda: None)).run()
    sent.write_text("1\n3\n")
    before = reconcile(context, sent)
    assert (before.is_whole, before.not_checkable) == (True, [])
    clock.seconds += 3 * SECONDS_PER_DAY
    with closing(context.open_journal()) as journal:
        forget_old_originals(context, journal)
    after = reconcile(context, sent)
    assert (after.is_whole, after.unanswered, after.not_checkable) == (True, [], [3])
    sent.write_text("1\n3\n4\n")
    more = reconcile(context, sent)
    assert (more.is_whole, more.unanswered, more.not_checkable) == (False, [3, 4], [])


def test_without_a_setting_nothing_is_removed(small_world: SmallWorld, tmp_path: Path) -> None:
    world, clock = small_world.in_home(tmp_path), SetClock()
    calls = Calls(clock, [[record(1)], []], lambda: setattr(clock, "seconds", 2 * NOW))
    DecisionWorker(with_retention(world, 0, clock), 10, clock, calls).run()
    assert SECRET.encode() in bytes_of(tmp_path / "log")


def test_logs_put_aside_lose_their_original_bytes_too(small_world: SmallWorld, tmp_path: Path) -> None:
    world, clock = small_world.in_home(tmp_path), SetClock()
    context = with_retention(world, 2, clock)
    DecisionWorker(context, 10, clock, Calls(clock, [[record(1)]], lambda: None)).run()
    (tmp_path / "log").rename(tmp_path / "log-1")
    clock.seconds += 3 * SECONDS_PER_DAY
    with closing(context.open_journal()) as journal:
        forget_old_originals(context, journal)
    assert SECRET.encode() not in bytes_of(tmp_path / "log-1")
    assert replay(context.with_log("log-1"), 0).identical


def test_a_log_that_cannot_be_opened_is_named_and_stops_nothing(
    small_world: SmallWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = with_retention(small_world.in_home(tmp_path), 2, SetClock())
    (tmp_path / "log-1").mkdir()
    (tmp_path / "log-1" / "journal.db").write_bytes(b"no journal" * 1_000)
    messages: list[str] = []
    progress = type("Collector", (), {"warn": lambda self, sentence: messages.append(sentence)})()
    with closing(context.open_journal()) as journal:
        forget_old_originals(replace(context, progress=progress), journal)
    (sentence,) = messages
    assert sentence.startswith("The original bytes in log 'log-1' were not removed: Journal '")
