"""Poison records: one that breaks our own code gets the outcome `engine_error`, and the others are decided.

An engine that failed in the middle of a batch is of no use: part of the batch may be applied. So it is
discarded, and a new one is recovered from snapshot and log. It decides the batch in halves, each recorded
for itself, until one record is left that breaks it. That one is recorded as rejected, and so never
applied: a replay does the same. Service, files, stream and training differ in how they recover and record.
Admission has no state and finds such records by itself.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zaslon.admission import columns_as_original
from zaslon.domain.events import LogBatch
from zaslon.domain.outcomes import Outcome
from zaslon.domain.rejections import Reason
from zaslon.engine import Engine
from zaslon.intake.ordinary import problem_of_fault
from zaslon.ports import Journal, SnapshotStore
from zaslon.ports.streams import SupersededError
from zaslon.services.changes import begin_serving, champion_of_home
from zaslon.services.context import Context
from zaslon.services.home import Champion, recover_engine
from zaslon.services.warm_up import run_once
from zaslon.system.isolation import is_fault_of_ours

Record = Callable[[LogBatch, Sequence[Outcome]], None]
Work = Callable[[Engine, LogBatch], None]


class PoisonGuard:
    """Lets an engine work on batches, and replaces it when it fails.

    Args:
        engine: works; `engine` is always the one in use.
        recover: a new engine in the state after the last recorded batch.
        warn: given a sentence about every record that breaks our code.
        check: works on ordinary records beside the state of an engine; raises where even they break it.
    """

    def __init__(
        self, engine: Engine, recover: Callable[[], Engine], warn: Callable[[str], None],
        check: Callable[[Engine], None] = run_once,
    ) -> None:  # fmt: skip
        self.engine, self._recover, self._warn, self._check = engine, recover, warn, check
        self.recoveries = 0

    def newest_seconds(self) -> int:
        """Newest event time that the engine in use has accepted; 0 before the first."""
        return self.engine.history.watermark_seconds

    def rows_by_day(self) -> NDArray[np.int64]:
        """int64[DAYS_MAX], how many transactions of each day the engine in use remembers."""
        return self.engine.history.rows_by_day()

    def decide(self, batch: LogBatch, record: Record) -> None:
        """Decide a batch that continues the log and record it: as a whole, or in parts.

        Args:
            batch: what admission made of the next records.
            record: makes a batch and its outcomes durable.

        Raises:
            Exception: one that is not our fault, that ordinary transactions raise too, or that
                `record` raises after the batch was recorded.
        """
        self.attempt(batch, lambda engine, part: record(part, engine.process(part).outcomes))

    def attempt(self, batch: LogBatch, work: Work) -> None:
        """Let the engine work on a batch: as a whole, or in parts that follow each other.

        Args:
            batch: the next records.
            work: applies a part and records it.

        Raises:
            Exception: as `decide`.
        """
        error = self._error_of(work, batch)
        if error is None:
            self._warn_of_engine_errors(batch)
            return
        del self.engine  # its state may be gigabytes
        self.engine = self._recover()
        self.recoveries += 1
        if self.engine.position > batch.first_position:  # it is in the log: no record is to blame
            raise error
        if len(batch) > 1:
            for begin, end in ((0, len(batch) // 2), (len(batch) // 2, len(batch))):
                self.attempt(batch.part(begin, end), work)
            return
        rejected = self._as_engine_error(batch, error)
        work(self.engine, rejected)
        self._warn_of_engine_errors(rejected)

    def _error_of(self, work: Work, batch: LogBatch) -> Exception | None:
        """How the work failed, if a record may be to blame for it."""
        try:
            work(self.engine, batch)
        except Exception as error:
            if not is_fault_of_ours(error) or isinstance(error, SupersededError):
                raise
            traceback.clear_frames(error.__traceback__)  # they refer to the engine
            return error
        return None

    def _as_engine_error(self, batch: LogBatch, error: Exception) -> LogBatch:
        """A batch of one record, on which an engine failed, with the record rejected; its bytes are kept.

        Of a file's row, which has no bytes here, the typed columns are kept as JSON.

        Raises:
            Exception: `error`, where ordinary records break the engine too: no record is to blame.
        """
        try:
            self._check(self.engine)
        except Exception:  # noqa: BLE001  the first error is more useful
            raise error from None
        kept = batch
        if batch.originals is None:
            kept = replace(batch, originals=columns_as_original(batch.transactions, batch.labels))
        return kept.rejecting([0], problem_of_fault(error))

    def _warn_of_engine_errors(self, batch: LogBatch) -> None:
        for index, problems in zip(batch.rejected.index.tolist(), batch.rejected.problems, strict=True):
            if problems[0].reason == Reason.ENGINE_ERROR:
                self._warn(
                    f"Position {batch.first_position + index} is an engine_error. {problems[0].detail}"
                )


def guarded_engine(context: Context, journal: Journal, snapshots: SnapshotStore) -> PoisonGuard:
    """The engine as it was after the journal's last record, and recovered so whenever it fails.

    Whatever is written into the home meanwhile, it goes on with the champion that it began with.
    """
    serving = champion_of_home(context)
    engine = recover_engine(context, journal, snapshots, serving.champion)
    begin_serving(context, engine, journal, serving)
    return guarded(engine, context, journal, snapshots, serving.champion)


def guarded(
    engine: Engine, context: Context, journal: Journal, snapshots: SnapshotStore, champion: Champion
) -> PoisonGuard:
    """The same for an engine that is in this state already."""

    def recover() -> Engine:
        return recover_engine(context, journal, snapshots, champion, lambda engine: engine.save(snapshots))

    return PoisonGuard(engine, recover, context.progress.warn)
