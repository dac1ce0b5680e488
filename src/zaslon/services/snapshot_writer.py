"""SnapshotWriter: snapshots of a state that keeps changing, written in the background.

For one snapshot:
    1. the deciding thread sees that it is due and that none is being written
    2. the deciding thread makes sure that the log holds every record that the state has applied
    3. the deciding thread copies the state: the only pause
    4. another thread writes the copy
When 4 fails, that is reported and deciding continues: the log is the truth, and the next start replays more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from zaslon.domain.errors import ZaslonError
from zaslon.engine import Engine
from zaslon.ports import SnapshotStore


@dataclass(frozen=True)
class SnapshotResult:
    """What became of one snapshot: whether it is kept, and what it cost.

    Attributes:
        copy_seconds: for which deciding paused; 0 for the last state of a process, which is not copied.
        write_seconds: until it was kept or had failed, beside the decisions.
    """

    position: int
    is_kept: bool
    copy_seconds: float
    write_seconds: float


OnSnapshot = Callable[[SnapshotResult], None]


def ignore_snapshot(saved: SnapshotResult) -> None:
    """For those who do not count snapshots."""


class SnapshotWriter:
    """Saves the state of an engine whenever `every_records` follow its newest snapshot. Used by one thread.

    At most one snapshot is written at a time; one that falls due meanwhile is saved as soon as it is done.

    Args:
        notify: called with the reason why a snapshot could not be kept, on the writing thread.
        watch: called with every snapshot, on the writing thread.
    """

    def __init__(
        self, snapshots: SnapshotStore, every_records: int, notify: Callable[[str], None], watch: OnSnapshot
    ) -> None:
        self._snapshots, self._every_records = snapshots, every_records
        self._notify, self._watch = notify, watch
        self._has_failed = False  # the newest one
        self._thread = ThreadPoolExecutor(1, "snapshot")
        self._pending: Future[None] | None = None
        self._is_writing = False

    def is_due(self, engine: Engine) -> bool:
        """Whether the state should be saved now."""
        return engine.records_since_snapshot >= self._every_records and not self._is_writing

    def save(self, engine: Engine, **beside: bytes) -> None:
        """Copy the state, with what must be kept `beside` it, and write it while the engine continues.

        The log must hold every record that the engine has applied.
        """
        begin = time.perf_counter()
        state = {name: array.copy() for name, array in engine.state(**beside).items()}
        self._start(engine, state, time.perf_counter() - begin)

    def save_last(self, engine: Engine, **beside: bytes) -> None:
        """As `save`, of an engine that is used no more: without a copy, and only if its state is not kept."""
        self.wait()
        if engine.records_since_snapshot or self._has_failed:
            self._start(engine, engine.state(**beside), 0.0)

    def wait(self) -> None:
        """Wait for the snapshot that is being written."""
        if self._pending is not None:
            self._pending.result()  # raises what is a bug
            self._pending = None

    def close(self) -> None:
        """Wait for the snapshot that is being written, and end the thread."""
        self.wait()
        self._thread.shutdown()

    def _start(self, engine: Engine, state: dict[str, NDArray[Any]], copy_seconds: float) -> None:
        self.wait()
        engine.saved_position = engine.position  # a store that fails is not asked again at every batch
        self._is_writing = True
        self._pending = self._thread.submit(self._write, engine.position, state, copy_seconds)

    def _write(self, position: int, state: dict[str, NDArray[Any]], copy_seconds: float) -> None:
        begin = time.perf_counter()
        failure = self._save(position, state)
        if failure is not None:
            self._notify(f"The snapshot at position {position} could not be kept: {failure}")
        self._watch(SnapshotResult(position, failure is None, copy_seconds, time.perf_counter() - begin))

    def _save(self, position: int, state: dict[str, NDArray[Any]]) -> ZaslonError | None:
        """Save a state; why it could not be kept.

        The next snapshot may fall due as soon as this returns; observers may rely on that.
        """
        try:
            self._snapshots.save(position, state)
        except ZaslonError as error:
            self._has_failed = True
            return error
        finally:
            self._is_writing = False
        self._has_failed = False
        return None
