"""Produce: send the records of files to a topic, as they are or as JSON, at a chosen rate.

The broker stamps their arrival, so the stream takes a row of 2019 with the year 2021 for true, and every
later row of the file would be `too_late`. So the dates are read first, and rows that `zaslon score` would reject
as wrong dates are not sent.

The home keeps how far it got, so the same command continues where it stopped. A process that is
killed may send the records of its last second again; the engine rejects those as duplicates.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import ArtefactError, DataError, InputError
from zaslon.intake.chunk_cleaning import clean_chunk
from zaslon.intake.chunks import Chunk
from zaslon.intake.sources import read_source
from zaslon.ports.streams import Sender
from zaslon.services.batch_metrics import reported
from zaslon.services.context import Context
from zaslon.services.produced_dates import BrokenRecordError, ProducedDates, check_ordinary, read_dates
from zaslon.system.durable import write_file
from zaslon.system.isolation import in_halves

Form = Literal["line", "json"]
_SLICE_RECORDS, _SLICES_PER_SECOND = 5_000, 50
_KEEP_SECONDS = 1.0


@dataclass
class ProduceReport:
    """What was sent. `rows_rejected` were not: their dates are wrong, or they break our own code."""

    rows_in: int = 0
    rows_rejected: dict[str, int] = field(default_factory=dict)
    rows_before: int = 0
    rows_sent: int = 0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Records sent and acknowledged in a second."""
        return self.rows_sent / self.seconds if self.seconds else 0.0

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rows_in": self.rows_in,
            "rows_rejected": self.rows_rejected,
            "rows_sent_before": self.rows_before,
            "rows_sent": self.rows_sent,
            "seconds": round(self.seconds, 3),
            "transactions_per_second_sent_to_kafka": round(self.per_second, 1),
        }


@dataclass(frozen=True)
class SendRate:
    """How fast to send: records per second, or how many times faster than real time; 0 means without a limit."""

    per_second: float = 0.0
    speed: float = 0.0


def produce(
    context: Context, sources: Sequence[str], topic: str, *, form: Form, rate: SendRate,
    is_over: Callable[[], bool], arrival_time_seconds: int | None = None,
    observe: Callable[[int, float], None] = lambda *_: None,
) -> ProduceReport:  # fmt: skip
    """Send the records of files to a topic, in their order, but for those with a wrong date.

    The files arrived at `arrival_time_seconds`, or for None now: the stream itself rejects what is later than now.

    Raises:
        InputError: a file cannot be read, its lines cannot be sent as they are, or nothing says whether the
            dates of rows after a gap are right.
        ZaslonError: the arrival lies in the future.
        ServerError: the broker cannot be reached or refuses us.
    """
    sender = context.adapters.open_sender(topic, context.progress.warn)
    dates = read_dates(context, sources, arrival_time_seconds)
    cursor = _Cursor(context.home, sources, topic, form, dates.not_from_seconds)
    report = ProduceReport(rows_before=cursor.done)
    context.progress.start(f"send to {topic}", None)
    begin = time.perf_counter()
    params = {"topic": topic, "format": form, "rate": rate.per_second, "speed": rate.speed}

    def look() -> dict[str, float]:
        report.seconds = time.perf_counter() - begin
        return {"transactions_per_second_sent_to_kafka": report.per_second}

    with reported(context, "produce", params, look):
        clock, rows = _Clock(rate, is_over), 0
        for records, moments in _slices(context, sources, form, rate, dates):
            rows += len(records)
            context.progress.advance(len(records))
            unsent = records[max(0, len(records) - (rows - cursor.done)) :]
            if unsent:
                clock.wait_for(report.rows_sent, moments)
                if is_over():
                    break
                sender.send(unsent)
                report.rows_sent += len(unsent)
                cursor.keep(sender)
                observe(len(unsent), look()["transactions_per_second_sent_to_kafka"])
        cursor.finish(sender)
        look()
    report.rows_in, report.rows_rejected = rows + sum(dates.rejected.values()), dates.rejected
    dates.warn(context)
    return report


class _Cursor:
    """How many records of these sources are durable in the topic."""

    def __init__(
        self, home: Path, sources: Sequence[str], topic: str, form: Form, not_from_seconds: int | None
    ) -> None:
        sizes = [Path(s).stat().st_size if Path(s).is_file() else 0 for s in sources]
        # Where other records are left out, the number of those sent means others.
        sent = (list(sources), sizes, topic, form, *([] if not_from_seconds is None else [not_from_seconds]))
        name = hashlib.sha256(repr(sent).encode()).hexdigest()[:16]
        self._path = home / "produced" / f"{name}.json"
        self._kept_at = time.monotonic()
        self.done = self._read()

    def _read(self) -> int:
        if not self._path.exists():
            return 0
        try:
            return int(orjson.loads(self._path.read_bytes())["done"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ArtefactError(
                f"'{self._path}' is damaged: {error}.", hint="Without it the file is sent from its beginning."
            ) from error

    def keep(self, sender: Sender) -> None:
        """Note now and then what is acknowledged."""
        if time.monotonic() - self._kept_at > _KEEP_SECONDS:
            self._write(self.done + sender.acknowledged)
            self._kept_at = time.monotonic()

    def finish(self, sender: Sender) -> None:
        """Wait for all and note it."""
        self._write(self.done + sender.finish())

    def _write(self, done: int) -> None:
        write_file(self._path, orjson.dumps({"done": done}))


class _Clock:
    """Limits sending to a rate, counted from the first record (open loop: delays are caught up)."""

    def __init__(self, rate: SendRate, is_over: Callable[[], bool]) -> None:
        self._rate, self._is_over = rate, is_over
        self._begin: float | None = None
        self._first_moment: int | None = None

    def wait_for(self, sent: int, moments: NDArray[np.int64] | None) -> None:
        """Wait until the next slice is due."""
        due = 0.0
        if self._rate.per_second:
            due = sent / self._rate.per_second
        elif self._rate.speed and moments is not None and len(moments):
            self._first_moment = int(moments[0]) if self._first_moment is None else self._first_moment
            due = (int(moments[0]) - self._first_moment) / self._rate.speed
        self._begin = time.monotonic() if self._begin is None else self._begin
        while (left := self._begin + due - time.monotonic()) > 0 and not self._is_over():
            time.sleep(min(left, 0.1))


def _slices(
    context: Context, sources: Sequence[str], form: Form, rate: SendRate, dates: ProducedDates
) -> Iterator[tuple[list[bytes], NDArray[np.int64] | None]]:
    """Records to send, in slices small enough for the rate, with their event times where `speed` needs them."""
    size = _SLICE_RECORDS
    if rate.per_second:
        size = int(min(max(rate.per_second / _SLICES_PER_SECOND, 1), _SLICE_RECORDS))
    newest: int | None = None
    for source in sources:
        for chunk in read_source(source, context.catalogue, min(context.options.chunk_bytes, 4 << 20)):
            for records, times in _parts(chunk, context, form, rate, dates):
                if times is not None and records:
                    moments = _moments(times, chunk.source, newest)
                    newest = int(moments[-1])
                    yield from _by_moment(records, moments)
                    continue
                for begin in range(0, len(records), size):
                    yield records[begin : begin + size], None


def _parts(
    chunk: Chunk, context: Context, form: Form, rate: SendRate, dates: ProducedDates
) -> Iterator[tuple[list[bytes], NDArray[np.int64] | None]]:
    """The records of a chunk that are sent, in parts that follow each other, with their times for `speed`.

    One that breaks our own code is not sent: the topic's reader could not tell what its bytes are.
    """

    def read(part: Chunk) -> tuple[list[bytes], NDArray[np.int64] | None, int]:
        dates.check_days(part)
        are_sent = dates.are_sent(part, context)
        records = list(compress(_records(part, context.catalogue, form), are_sent))
        times = _times(part, context, dates.arrival_seconds)[are_sent] if rate.speed else None
        return records, times, int(np.count_nonzero(~are_sent))

    def work(begin: int, end: int) -> tuple[list[bytes], NDArray[np.int64] | None]:
        records, times, late = read(chunk.part(begin, end))
        dates.left_out(late, context)
        return records, times

    def alone(record: int, error: Exception) -> tuple[list[bytes], None]:
        check_ordinary(read, chunk, context, error)
        dates.broken(chunk, record, error, context)
        return [], None

    return in_halves(work, len(chunk), alone)


def _records(chunk: Chunk, catalogue: Catalogue, form: Form) -> list[bytes]:
    raw = chunk.originals(range(len(chunk)))
    if chunk.layout.is_json:
        return raw
    columns = chunk.layout.columns
    if chunk.problem is not None:
        if _are_catalogue_columns(columns, catalogue):
            return raw
        raise BrokenRecordError
    if form == "line":
        if not _are_catalogue_columns(columns, catalogue):
            raise InputError(
                f"The columns of '{chunk.source}' are not those of the catalogue, in their order: a "
                "reader of the topic would take one for another.",
                hint="Send it with --format json.",
            )
        return raw
    names = [found.name if (found := catalogue.find_field(c)) else c for c in columns]
    values = chunk.values()
    is_sound = (chunk.fields(catalogue).reason == 0).tolist()
    return [_as_json(names, values.of(i)) if is_sound[i] else line for i, line in enumerate(raw)]


def _are_catalogue_columns(columns: Sequence[str], catalogue: Catalogue) -> bool:
    def known(names: Sequence[str]) -> list[str]:
        return [found.name if (found := catalogue.find_field(name)) else "" for name in names]

    return known(columns) == known(catalogue.record.columns)


def _as_json(names: Sequence[str], values: list[bytes]) -> bytes:
    """An object of the values of a record that has one for each name."""
    return orjson.dumps({name: value.decode("utf-8") for name, value in zip(names, values, strict=True)})


def _times(chunk: Chunk, context: Context, arrival_seconds: int) -> NDArray[np.int64]:
    """Event time of each record in seconds; -1 where it has none.

    One later than the arrival has none: the others would wait for it.
    """
    cleaned = clean_chunk(chunk, context.catalogue, context.key, arrival_seconds)
    times = np.full(len(chunk), -1, np.int64)
    times[cleaned.index] = cleaned.transactions.event_time_seconds
    return times


def _moments(times: NDArray[np.int64], source: str, before: int | None) -> NDArray[np.int64]:
    """When each record is sent, in seconds of event time, never decreasing; one without a time with the one before.

    `before` is when the record before these is sent; None for the first one.
    """
    known = times[times >= 0]
    if before is None and not len(known):
        raise DataError(
            f"No record of '{source}' has a time, so event times cannot set the rate.", hint="Use --rate."
        )
    begin = known.min() if before is None else before
    return np.maximum.accumulate(np.concatenate([[max(times[0], begin)], times[1:]]))


def _by_moment(
    records: list[bytes], moments: NDArray[np.int64]
) -> Iterator[tuple[list[bytes], NDArray[np.int64]]]:
    """One slice for each second of event time."""
    cuts = [0, *(np.flatnonzero(np.diff(moments)) + 1).tolist(), len(records)]
    for begin, end in pairwise(cuts):
        yield records[begin:end], moments[begin:end]
