"""Poison records: one that breaks our own code gets the outcome `engine_error`, and the others go on.

An engine that failed in the middle of a batch is of no use: part of the batch may be applied. So it is
discarded, and a new one is recovered from snapshot and log. It decides the batch in halves, each recorded
for itself, until the record that breaks it stands alone. That one is recorded as rejected, and so never
applied: a replay does the same. Admission has no state and finds such records by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import orjson

from zaslon.domain.events import LogBatch, Originals, public_ids
from zaslon.domain.outcomes import Outcome
from zaslon.domain.rejections import Reason
from zaslon.engine import Engine
from zaslon.intake.ordinary import problem_of_fault
from zaslon.ports import Journal, SnapshotStore, SupersededError
from zaslon.services.context import Context
from zaslon.services.home import recover_engine
from zaslon.services.warm_up import run_once
from zaslon.system.isolation import is_fault_of_ours

Record = Callable[[LogBatch, Sequence[Outcome]], None]


class PoisonGuard:
    """Decides batches with an engine that is replaced when it fails.

    Args:
        engine: decides; `engine` is always the one in use.
        recover: a new engine in the state after the last recorded batch.
        warn: told in a sentence of every record that breaks our code.
    """

    def __init__(self, engine: Engine, recover: Callable[[], Engine], warn: Callable[[str], None]) -> None:
        self.engine, self._recover, self._warn = engine, recover, warn
        self.recoveries = 0

    def newest_seconds(self) -> int:
        """Newest event time that the engine in use has accepted; 0 before the first."""
        return self.engine.history.watermark_seconds

    def decide(self, batch: LogBatch, record: Record) -> None:
        """Decide a batch that continues the log and record it: as a whole, or in parts.

        Args:
            batch: what admission made of the next records.
            record: makes a batch and its outcomes durable; when it fails it has recorded nothing.

        Raises:
            Exception: what is no fault of ours, or one that ordinary transactions meet too.
        """
        try:
            record(batch, self.engine.process(batch).outcomes)
        except Exception as error:
            if not is_poison(error):
                raise
            self._isolate(batch, record, error)
        else:
            self._tell(batch)

    def _isolate(self, batch: LogBatch, record: Record, error: Exception) -> None:
        self.engine = self._recover()
        self.recoveries += 1
        if len(batch) > 1:
            for begin, end in ((0, len(batch) // 2), (len(batch) // 2, len(batch))):
                self.decide(batch.part(begin, end), record)
            return
        rejected = as_engine_error(self.engine, batch, error)
        record(rejected, self.engine.process(rejected).outcomes)
        self._tell(rejected)

    def _tell(self, batch: LogBatch) -> None:
        for index, problems in zip(batch.rejected.index.tolist(), batch.rejected.problems, strict=True):
            if problems[0].reason == Reason.ENGINE_ERROR:
                self._warn(
                    f"Position {batch.first_position + index} is an engine_error. {problems[0].detail}"
                )


def guarded_engine(context: Context, journal: Journal, snapshots: SnapshotStore) -> PoisonGuard:
    """The engine as it was after the journal's last record, and recovered so whenever it fails."""

    def recover() -> Engine:
        return recover_engine(context, journal, snapshots)

    return PoisonGuard(recover(), recover, context.progress.warn)


def is_poison(error: Exception) -> bool:
    """Whether a record may be to blame for an error while a batch was decided."""
    return is_fault_of_ours(error) and not isinstance(error, SupersededError)


def as_engine_error(engine: Engine, batch: LogBatch, error: Exception) -> LogBatch:
    """A batch of one record, on which an engine failed, with the record rejected; its bytes are kept.

    Of a file's row, which has no bytes here, the typed columns are kept as JSON.

    Raises:
        Exception: `error`, where ordinary transactions break the engine too: no record is to blame.
    """
    try:
        run_once(engine)
    except Exception:  # noqa: BLE001  the first error says more
        raise error from None
    kept = batch if batch.originals is not None else replace(batch, originals=_as_original(batch))
    return kept.rejecting([0], problem_of_fault(error))


def _as_original(batch: LogBatch) -> Originals:
    content = b"" if len(batch.rejected) else orjson.dumps(_typed(batch))
    return Originals(np.frombuffer(content, np.uint8), np.zeros(1, np.int64), np.array([len(content)]))


def _typed(batch: LogBatch) -> dict[str, object]:
    """What the log would have held of the only record."""
    if len(batch.labels):
        return {
            "transaction_id": public_ids(batch.labels)[0], "is_fraud": bool(batch.labels.is_fraud[0])
        }  # fmt: skip
    rows = batch.transactions
    return {
        "transaction_id": public_ids(rows)[0], "event_time_seconds": int(rows.event_time_seconds[0]),
        "amount_minor": int(rows.amount_minor[0]), "flags": int(rows.flags[0]),
        **{name: int(keys[0]) for name, keys in rows.entity_keys.items()},
        **{name: float(values[0]) for name, values in rows.numbers.items()},
    }  # fmt: skip
