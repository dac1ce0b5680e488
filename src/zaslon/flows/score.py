"""Score: a new file, and labels, through the engine into log and store."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.admission import admit
from zaslon.domain.clean_report import OverLines
from zaslon.domain.events import Kind, LogBatch, RecordBatch
from zaslon.domain.rejections import Reason
from zaslon.domain.time import time_text
from zaslon.flows.clean import clean
from zaslon.intake import clean_days
from zaslon.intake.label_files import LabelRow, label_rows
from zaslon.intake.quarantine import QUARANTINE
from zaslon.labels.feedback import DelayedLabels
from zaslon.monitoring.data_warnings import over_lines_warnings
from zaslon.services.arrival import arrival_of_files
from zaslon.services.cleaned_files import Cleaned
from zaslon.services.context import SCORED, Context
from zaslon.services.decision_loop import DecideReport, decide_records, records_of_days
from zaslon.services.poison import guarded_engine
from zaslon.services.retention import forget_old_originals
from zaslon.system.durable import recover_directory, replace_directory

# Of a file that fits the log a few rows are too late; with more of them something is wrong.
TOO_LATE_SHARE_MAX = 0.2


@dataclass(frozen=True)
class ScoreReport:
    """What became of a file's rows.

    `labels_to_come`: answers in the file that become known later than the file's and the log's newest time.
    """

    clean: Cleaned
    decided: DecideReport
    position: int
    labels_to_come: int

    @property
    def too_late_share(self) -> float:
        """Part of the transactions with an outcome that were `too_late`, 0 to 1."""
        decided = self.decided
        return decided.rejected.get(Reason.TOO_LATE.code, 0) / max(
            1, decided.decisions + sum(decided.rejected.values())
        )

    @property
    def is_mostly_late(self) -> bool:
        """Whether so many are that the file does not fit the log, or the log's newest time is wrong."""
        return self.too_late_share > TOO_LATE_SHARE_MAX

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, by the names of every command."""
        cleaned = self.clean.to_json_dict()
        return {
            **{k: cleaned[k] for k in ("rows_in", "rows_clean", "rows_rejected", "answers_changed")},
            **self.decided.to_json_dict(),
            "labels_to_come": self.labels_to_come,
            "warnings": cleaned["warnings"],
            "too_late_share": round(self.too_late_share, 4),
            "next_position": self.position,
            "seconds": {**cleaned["seconds"], "decide": round(self.decided.seconds, 3)},
            "paths": cleaned["paths"],
        }


def score(
    context: Context, sources: Sequence[str], *, learn: bool, arrival_time_seconds: int | None = None
) -> ScoreReport:
    """Decide the rows of files; with `learn` their answers come back as labels after the delay.

    The rows are cleaned and put into log order first. The same content given again is decided once,
    whatever its files are called. The files arrived at `arrival_time_seconds`, or for None now.

    Raises:
        ZaslonError: the arrival lies in the future, or what `clean` and `recover_engine` raise.
    """
    arrival = arrival_of_files(context, arrival_time_seconds)
    options = context.options
    feedback = DelayedLabels(options.label_delay_seconds) if learn else None
    with closing(context.open_journal()) as journal:
        snapshots = context.open_snapshots(journal)
        guard = guarded_engine(context, journal, snapshots)
        cleaned, content = _cleaned(context, sources, arrival, guard.rows_by_day())
        days = clean_days(cleaned.out, context.catalogue)
        # With labels among them, or others, the records of the same rows are numbered otherwise.
        source = f"file:{content}" + (f":learn:{options.label_delay_seconds}" if learn else "")
        context.progress.start("decide", None)
        batches = records_of_days(context, days, feedback, guard.newest_seconds)
        decided = decide_records(
            guard, journal, snapshots, batches, source,
            snapshot_every_records=options.snapshot_every_records, progress=context.progress,
            takes_answers=learn,
        )  # fmt: skip
        report = ScoreReport(cleaned, decided, journal.next_position, len(feedback or ()))
        if report.is_mostly_late:
            context.progress.warn(_mostly_late(report, guard.newest_seconds()))
        forget_old_originals(context, journal)
        return report


def _mostly_late(report: ScoreReport, newest_seconds: int) -> str:
    late = report.decided.rejected[Reason.TOO_LATE.code]
    return (
        f"{late} transactions ({report.too_late_share:.0%}) were too late: the newest one in the log is of "
        f"{time_text(newest_seconds)}. Either these files are old, or a wrong date went into the log before."
    )


def _cleaned(
    context: Context, sources: Sequence[str], arrival: int, rows_of_log: NDArray[np.int64]
) -> tuple[Cleaned, str]:
    """Clean the sources; returns also a name for the clean content, whatever its files are called.

    It goes to `scored/<name>-<hash of the quarantine>`, so that no rejected row is ever overwritten.
    """
    scored = context.home / SCORED
    place = scored / ".cleaning"
    shutil.rmtree(place, ignore_errors=True)
    cleaned = clean(context, sources, place, arrival_time_seconds=arrival, rows_of_log=rows_of_log)
    content = _hash(place / f"day={day}" / "part-0.parquet" for day in cleaned.report.days)
    final = scored / f"{content}-{_hash([place / QUARANTINE])}"
    recover_directory(final)
    replace_directory(place, final)
    return replace(cleaned, out=final), content


def _hash(paths: Iterable[Path]) -> str:
    """Sixteen hex digits of the files' content."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def label(context: Context, source: Path, arrival_time_seconds: int | None) -> DecideReport:
    """Put the labels of a file into the log; each is effective for the next transaction.

    CSV with the columns transaction_id and is_fraud, under these names or the catalogue's, or JSON
    lines with these keys. Labels arrive at `arrival_time_seconds`, or for None now; where the newest
    transaction of the log is older, they count from its time on. A label given again changes nothing, and the last one counts: so a file is
    always taken as a whole.

    Raises:
        InputError: the file cannot be read or lacks a column.
        ZaslonError: the arrival lies in the future: until then the labels would count for nothing.
    """
    arrival = arrival_of_files(context, arrival_time_seconds)
    over = OverLines()
    rows = list(label_rows(source, context.catalogue, over))
    for warning in over_lines_warnings(over.rows, over.lines_like_rows, over.places):
        context.progress.warn(f"{warning.message} {warning.hint}")
    with closing(context.open_journal()) as journal:
        snapshots = context.open_snapshots(journal)
        guard = guarded_engine(context, journal, snapshots)
        context.progress.start("labels", len(rows))
        decided = decide_records(
            guard, journal, snapshots, _label_batches(context, rows, arrival), None,
            snapshot_every_records=context.options.snapshot_every_records, progress=context.progress,
        )  # fmt: skip
        forget_old_originals(context, journal)
        return decided


def _label_batches(context: Context, rows: list[LabelRow], arrival: int) -> Iterator[LogBatch]:
    size = context.options.batch_records
    for begin in range(0, len(rows), size):
        part = rows[begin : begin + size]
        contents, count = [row.content for row in part], len(part)
        raw = RecordBatch.of(contents, [Kind.LABEL_JSON] * count, [arrival] * count, begin)
        batch = admit(raw, context.catalogue, context.key)
        for index, row in enumerate(part):
            if row.problem is not None:
                batch = batch.rejecting([index], row.problem)
        yield batch
