"""How much a recovery replays: crashes, failures and stops never let the tail of the log grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from tests.recovery.given_calls import GivenCalls, call, transaction

from zaslon.bootstrap import build_clock
from zaslon.domain.events import LogBatch
from zaslon.flows.serve import DecisionWorker
from zaslon.flows.stream import _Scorer
from zaslon.ports.streams import Stream
from zaslon.services.context import Context
from zaslon.services.decision_loop import decide_records
from zaslon.services.poison import guarded_engine
from zaslon.services.snapshot_writer import SnapshotResult, SnapshotWriter, ignore_snapshot
from zaslon.testing import SmallWorld

EVERY_RECORDS, LIFE_RECORDS = 100, 60


class CrashError(Exception):
    """The process ends here."""


@pytest.fixture
def world(small_world: SmallWorld, tmp_path: Path) -> SmallWorld:
    world = small_world.in_home(tmp_path / "home")
    options = replace(world.context.options, snapshot_every_records=EVERY_RECORDS)
    return replace(world, context=replace(world.context, options=options))


def crash(_: object = None) -> None:
    raise CrashError


def tail_records(context: Context) -> int:
    """What the next start has to replay."""
    with closing(context.open_journal()) as journal:
        found = context.open_snapshots(journal).newest()
        return journal.next_position - (found[0] if found else 0)


def serve(context: Context, life: int, before: Callable[[int], None]) -> None:
    """One life of a decision worker, with one group of calls."""
    records = [transaction(LIFE_RECORDS * life + number, 5.0) for number in range(LIFE_RECORDS)]
    calls = GivenCalls(deque([[call(0, records)]]), before)
    DecisionWorker(context, 1_000, build_clock(), calls).run()


@pytest.mark.slow
def test_crashes_of_a_service_do_not_lengthen_its_replay(world: SmallWorld) -> None:
    tails = []
    for life in range(5):
        with pytest.raises(CrashError):
            serve(world.context, life, lambda group: crash() if group else None)
        tails.append(tail_records(world.context))
    assert max(tails) < EVERY_RECORDS + LIFE_RECORDS, tails


def test_a_service_saves_a_long_tail_before_it_decides(world: SmallWorld) -> None:
    options = replace(world.context.options, snapshot_every_records=LIFE_RECORDS)
    with pytest.raises(CrashError):
        serve(world.context, 0, lambda group: crash() if group else None)
    with pytest.raises(CrashError):
        serve(replace(world.context, options=options), 1, crash)
    assert tail_records(world.context) == 0


def test_a_stop_after_a_crash_leaves_nothing_to_replay(world: SmallWorld) -> None:
    with pytest.raises(CrashError):
        serve(world.context, 0, lambda group: crash() if group else None)
    assert tail_records(world.context) == LIFE_RECORDS
    DecisionWorker(world.context, 1_000, build_clock(), GivenCalls(deque())).run()
    assert tail_records(world.context) == 0


def test_crashes_of_a_command_do_not_lengthen_its_replay(world: SmallWorld) -> None:
    context, tails = world.context, []

    def batches(life: int) -> Iterator[LogBatch]:
        yield world.batch(0, LIFE_RECORDS * (life + 1))
        crash()

    for life in range(5):
        with closing(context.open_journal()) as journal:
            snapshots = context.open_snapshots(journal)
            guard = guarded_engine(context, journal, snapshots)
            with pytest.raises(CrashError):
                decide_records(
                    guard, journal, snapshots, batches(life), "file",
                    snapshot_every_records=EVERY_RECORDS, progress=context.progress,
                )  # fmt: skip
        tails.append(tail_records(context))
    assert max(tails) < EVERY_RECORDS, tails


class RecordedStream:
    """The part of a stream that a scorer recovers from."""

    def __init__(self, batch: LogBatch) -> None:
        self._batch = batch
        self.checkpoint = b'{"position":%d}' % len(batch)

    def recorded_since(self, *_: object) -> Iterator[LogBatch]:
        yield self._batch


@pytest.mark.parametrize("records", [1_000, 1_001])
def test_a_stream_saves_a_recovery_that_replayed_much(world: SmallWorld, records: int) -> None:
    stream = cast("Stream", RecordedStream(world.batch(0, records)))
    adapters = replace(world.context.adapters, open_stream=lambda _: stream)
    context = replace(world.context, adapters=adapters)
    scorer = _Scorer(context, lambda: False, print, lambda _: None, ignore_snapshot)
    saves: list[SnapshotResult] = []
    scorer.snapshot_writer = SnapshotWriter(scorer.snapshots, 10**6, print, saves.append)
    assert scorer._recover().position == records
    scorer.close()
    assert [saved.position for saved in saves] == [1_001] * (records == 1_001)
