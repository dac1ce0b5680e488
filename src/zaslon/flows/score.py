"""Score: a new file, and labels, through the engine into log and store."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from zaslon.domain.errors import InputError
from zaslon.domain.events import Kind, RecordBatch
from zaslon.flows.context import Context
from zaslon.flows.decide import DecideReport, decide_records, records_of_days
from zaslon.flows.featurise import Day
from zaslon.flows.home import recover_engine
from zaslon.intake import CleanReport, clean_days, clean_files
from zaslon.labels.feedback import DelayedLabels

LABEL_FILE_BYTES_MAX = 1 << 30


@dataclass(frozen=True)
class ScoreReport:
    """What became of a file's rows."""

    clean: CleanReport
    decided: DecideReport
    position: int

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, by the names of every command."""
        cleaned = self.clean.to_json_dict()
        return {
            **{k: cleaned[k] for k in ("rows_in", "rows_clean", "rows_rejected")},
            **self.decided.to_json_dict(),
            "next_position": self.position,
        }


def score(context: Context, sources: Sequence[str], *, learn: bool) -> ScoreReport:
    """Decide the rows of files; with `learn` their answers come back as labels after the delay.

    The rows are cleaned and put into log order first. The same file given again is decided once.
    """
    place = context.home / "scored" / hashlib.sha256("\0".join(sources).encode()).hexdigest()[:16]
    context.progress.start("clean", None)
    options = context.options
    cleaned = clean_files(
        sources, place, context.catalogue, key=context.key, chunk_bytes=options.chunk_bytes,
        repeat_filter_bytes=options.repeat_filter_bytes, progress=context.progress.advance,
    )  # fmt: skip
    days = clean_days(place, context.catalogue)
    journal, snapshots = context.open_journal(), context.open_snapshots()
    engine = recover_engine(context, journal, snapshots)
    feedback = DelayedLabels(options.label_delay_seconds) if learn else None
    context.progress.start("decide", None)
    decided = decide_records(
        engine, journal, snapshots, records_of_days(context, days, feedback), _source_id(days),
        snapshot_every_records=options.snapshot_every_records, progress=context.progress,
    )  # fmt: skip
    return ScoreReport(cleaned, decided, journal.next_position)


def _source_id(days: Sequence[Day]) -> str:
    """A name for the content, so that the same rows under another file name are the same source."""
    digest = hashlib.sha256()
    for _, path in days:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"file:{digest.hexdigest()[:16]}"


def label(context: Context, source: Path, arrival_time_seconds: int | None) -> DecideReport:
    """Put the labels of a file into the log; each is effective for the next transaction.

    CSV with the columns transaction_id and is_fraud, or JSON lines with these keys. Labels arrive
    at `arrival_time_seconds`, or for None at the newest event time that the engine knows.

    Raises:
        InputError: the file cannot be read or lacks a column.
    """
    rows = list(_label_records(source))
    journal, snapshots = context.open_journal(), context.open_snapshots()
    engine = recover_engine(context, journal, snapshots)
    arrival = engine.history.watermark_seconds if arrival_time_seconds is None else arrival_time_seconds
    digest = hashlib.sha256(b"\n".join(rows)).hexdigest()[:16]
    context.progress.start("labels", len(rows))
    size = context.options.batch_records
    return decide_records(
        engine, journal, snapshots,
        (
            RecordBatch.of(part, [Kind.LABEL_JSON] * len(part), [arrival] * len(part), begin)
            for begin in range(0, len(rows), size)
            if (part := rows[begin : begin + size])
        ),
        f"labels:{digest}",
        snapshot_every_records=context.options.snapshot_every_records, progress=context.progress,
    )  # fmt: skip


def _label_records(source: Path) -> Iterator[bytes]:
    try:
        if source.stat().st_size > LABEL_FILE_BYTES_MAX:
            raise InputError(f"'{source}' is larger than {LABEL_FILE_BYTES_MAX >> 20} MiB.")
        text = source.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Labels '{source}' cannot be read: {error}.") from error
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"Labels '{source}' is empty.", hint="Expected transaction_id,is_fraud.")
    if lines[0].lstrip().startswith("{"):
        yield from (line.encode() for line in lines)
        return
    reader = csv.DictReader(lines)
    missing = {"transaction_id", "is_fraud"} - set(reader.fieldnames or ())
    if missing:
        raise InputError(
            f"Labels '{source}' has no column '{min(missing)}'; found {reader.fieldnames}.",
            hint="The first line must name transaction_id and is_fraud.",
        )
    for row in reader:
        yield orjson.dumps(
            {"transaction_id": _number(row["transaction_id"]), "is_fraud": _verdict(row["is_fraud"])}
        )


def _number(text: str | None) -> int | str | None:
    stripped = (text or "").strip()
    return int(stripped) if stripped.isascii() and stripped.isdigit() and len(stripped) < 19 else text


def _verdict(text: str | None) -> bool | str | None:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    return known.get((text or "").strip().lower(), text)
