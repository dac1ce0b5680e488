"""Snapshots of a state that keeps changing, and what becomes of those that fail."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.waiting import DEADLINE_SECONDS, until

from zaslon.adapters.embedded.snapshots import FileSnapshots
from zaslon.admission import admit
from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.events import Kind, RecordBatch
from zaslon.engine import Engine, restore_engine
from zaslon.entrypoints.api.service_metrics import Metrics
from zaslon.entrypoints.stream_metrics import StreamMetrics
from zaslon.services.snapshot_writer import SnapshotResult, SnapshotWriter

CATALOGUE = load_catalogue(None)
LINE = b"%d,2020-01-01 10:00:00,5,7,20.00,0,0,0,0"


class SlowSnapshots(FileSnapshots):
    """Writes only when it may."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.may_write = threading.Event()

    def save(self, position: int, content: Mapping[str, NDArray[np.generic]]) -> None:
        assert self.may_write.wait(DEADLINE_SECONDS)
        super().save(position, content)


class World:
    """An engine whose state is saved, and what the writer reported."""

    def __init__(self, store: FileSnapshots, every_records: int = 10) -> None:
        self.engine = Engine(CATALOGUE, key=b"key")
        self.printed: list[str] = []
        self.saves: list[SnapshotResult] = []
        self.snapshot_writer = SnapshotWriter(store, every_records, self.printed.append, self.saves.append)

    def apply(self, records: int) -> None:
        first = self.engine.position
        lines = [LINE % (first + i) for i in range(records)]
        kinds = [Kind.TRANSACTION_LINE] * records
        batch = RecordBatch.of(lines, kinds, [1_600_000_000] * records, first)
        self.engine.replay(admit(batch, CATALOGUE, b"key"))


def copied(engine: Engine) -> dict[str, NDArray[Any]]:
    return {name: array.copy() for name, array in engine.state().items()}


def test_a_snapshot_holds_the_moment_of_its_copy(tmp_path: Path) -> None:
    store = SlowSnapshots(tmp_path)
    world = World(store)
    world.apply(10)
    expected = copied(world.engine)
    world.snapshot_writer.save(world.engine, place=b"here")
    world.apply(25)
    store.may_write.set()
    world.snapshot_writer.close()
    found = FileSnapshots(tmp_path).newest()
    assert found is not None
    position, content, _ = found
    assert (position, content.pop("place").tobytes()) == (10, b"here")
    assert content.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(content[name], array)
    assert [(s.position, s.is_kept) for s in world.saves] == [(10, True)]


def test_one_snapshot_is_written_at_a_time(tmp_path: Path) -> None:
    store = SlowSnapshots(tmp_path)
    world = World(store)
    world.apply(9)
    assert not world.snapshot_writer.is_due(world.engine)
    world.apply(1)
    assert world.snapshot_writer.is_due(world.engine)
    world.snapshot_writer.save(world.engine)
    world.apply(10)
    assert not world.snapshot_writer.is_due(world.engine)
    store.may_write.set()
    until(lambda: world.snapshot_writer.is_due(world.engine))
    world.snapshot_writer.save(world.engine)
    world.snapshot_writer.close()
    assert [s.position for s in world.saves] == [10, 20]


@pytest.mark.parametrize("place", ["directory", "file"])
def test_the_next_one_may_be_due_when_the_last_one_is_reported(tmp_path: Path, place: str) -> None:
    if place == "file":
        (tmp_path / place).write_text("a file where the directory should be")
    world = World(FileSnapshots(tmp_path / place))
    due: list[bool] = []

    later = Engine(CATALOGUE, key=b"key")
    later.position = 10

    def report(_: object) -> None:
        due.append(world.snapshot_writer.is_due(later))

    world.snapshot_writer = SnapshotWriter(FileSnapshots(tmp_path / place), 10, report, report)
    world.apply(10)
    world.snapshot_writer.save(world.engine)
    world.snapshot_writer.close()
    assert due == ([True] if place == "directory" else [True, True])


def test_a_restored_state_is_due_by_the_snapshot_it_came_from(tmp_path: Path) -> None:
    store = FileSnapshots(tmp_path)
    world = World(store)
    world.apply(4)
    world.engine.save(store)
    found = store.newest()
    assert found is not None
    position, content, _ = found
    world.engine = restore_engine(CATALOGUE, position, content, key=b"key")
    world.apply(9)
    world.snapshot_writer.close()
    world.snapshot_writer = SnapshotWriter(store, 10, world.printed.append, world.saves.append)
    assert not world.snapshot_writer.is_due(world.engine)
    world.apply(1)
    assert world.snapshot_writer.is_due(world.engine)
    world.snapshot_writer.save_last(world.engine)
    world.snapshot_writer.close()
    assert [s.position for s in world.saves] == [14]


def test_a_failed_snapshot_is_reported_and_the_next_kept(tmp_path: Path) -> None:
    place = tmp_path / "snapshots"
    place.write_text("a file where the directory should be")
    world = World(FileSnapshots(place))
    world.apply(10)
    world.snapshot_writer.save(world.engine)
    until(lambda: world.saves)
    assert not world.snapshot_writer.is_due(world.engine), "a store that fails is not asked at every batch"
    place.unlink()
    world.snapshot_writer.save_last(world.engine)
    world.snapshot_writer.close()
    assert [(s.position, s.is_kept) for s in world.saves] == [(10, False), (10, True)]
    (sentence,) = world.printed
    assert sentence.startswith("The snapshot at position 10 could not be kept: Snapshot '")


def test_the_last_state_is_saved_unless_it_is_kept_already(tmp_path: Path) -> None:
    world = World(FileSnapshots(tmp_path))
    world.snapshot_writer.save_last(world.engine)
    world.apply(4)
    world.snapshot_writer.save_last(world.engine, place=b"end")
    world.snapshot_writer.save_last(world.engine, place=b"end")
    world.snapshot_writer.close()
    assert [s.position for s in world.saves] == [4]


@pytest.mark.parametrize(("metrics", "name"), [(Metrics(), "zaslon"), (StreamMetrics(), "zaslon_stream")])
def test_copy_and_write_are_timed(metrics: Metrics | StreamMetrics, name: str) -> None:
    metrics.snapshots.observe(SnapshotResult(7, True, 0.25, 4.0))
    metrics.snapshots.observe(SnapshotResult(9, False, 0.5, 60.0))
    seconds = {
        stage: metrics.registry.get_sample_value(f"{name}_snapshot_seconds_sum", {"stage": stage})
        for stage in ("copy", "write")
    }
    assert seconds == {"copy": 0.75, "write": 64.0}
    assert metrics.registry.get_sample_value(f"{name}_snapshot_position") == 7


def test_a_bug_stops_the_deciding_thread(tmp_path: Path) -> None:
    class Mistaken(FileSnapshots):
        def save(self, position: int, content: Mapping[str, NDArray[np.generic]]) -> None:
            raise KeyError("no such array")

    world = World(Mistaken(tmp_path))
    world.apply(10)
    world.snapshot_writer.save(world.engine)
    with pytest.raises(KeyError):
        world.snapshot_writer.close()
