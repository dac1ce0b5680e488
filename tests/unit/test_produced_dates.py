"""A wrong date in an old file that is sent to the stream is not sent; without it every row is decided."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.intake_cases import line

from zaslon.domain.errors import InputError
from zaslon.domain.events import Kind, RecordBatch
from zaslon.domain.outcomes import Rejection
from zaslon.domain.time import SECONDS_PER_DAY, parse_day, time_text
from zaslon.flows.produce import ProduceReport, SendRate, produce
from zaslon.services.context import Context, Silent
from zaslon.testing import SmallWorld

FIRST_DAY, A_DAY = parse_day("2019-09-02"), 40


@dataclass
class Topic(Silent):
    """A topic in memory, and the warnings."""

    records: list[bytes] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def send(self, records: Sequence[bytes]) -> None:
        self.records += records

    @property
    def acknowledged(self) -> int:
        return len(self.records)

    def finish(self) -> int:
        return len(self.records)

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)


def row(number: int, day: int) -> str:
    return line(transaction_id=number, tx_datetime=time_text((FIRST_DAY + day) * SECONDS_PER_DAY + number))


HONEST = [row(A_DAY * day + i, day) for day in range(3) for i in range(A_DAY)]


def write(path: Path, rows: Sequence[str]) -> str:
    path.write_text("\n".join([*rows, ""]))
    return str(path)


def sent(
    world: SmallWorld, home: Path, source: str, topic: Topic | None = None, **more: Any
) -> tuple[Topic, ProduceReport]:
    topic = Topic() if topic is None else topic
    context: Context = world.context.in_home(home)
    adapters = replace(context.adapters, open_sender=lambda *_: topic, open_run_tracker=lambda *_: None)
    given: dict[str, Any] = {"form": "line", "rate": SendRate(), "is_over": lambda: False, **more}
    return topic, produce(replace(context, adapters=adapters, progress=topic), [source], "input", **given)


def rejected(world: SmallWorld, records: Sequence[bytes]) -> list[str]:
    """Why the stream rejects records that arrive now."""
    now = int(world.context.adapters.clock.now_seconds())
    batch = RecordBatch.of(records, [Kind.TRANSACTION_LINE] * len(records), [now] * len(records))
    outcomes = world.engine().process(world.admit(batch)).outcomes
    return [outcome.code for outcome in outcomes if isinstance(outcome, Rejection)]


def test_one_wrong_year_would_make_every_later_row_too_late(small_world: SmallWorld) -> None:
    """The stream has no rule for it: this is what must not be sent."""
    records = [text.encode() for text in [*HONEST[:50], row(999, 800), *HONEST[50:]]]
    assert rejected(small_world, records) == ["too_late"] * 70


@pytest.mark.parametrize("place", [0, 50, 120])
@pytest.mark.parametrize("chunk_bytes", [700, 1 << 20])
def test_a_wrong_year_is_not_sent(
    small_world: SmallWorld, tmp_path: Path, place: int, chunk_bytes: int
) -> None:
    context = small_world.context
    options = replace(context.options, chunk_bytes=chunk_bytes)
    world = replace(small_world, context=replace(context, options=options))
    source = write(tmp_path / "in.txt", [*HONEST[:place], row(999, 800), *HONEST[place:]])
    topic, report = sent(world, tmp_path, source)
    assert topic.records == [text.encode() for text in HONEST]
    assert rejected(small_world, topic.records) == []
    assert (report.rows_in, report.rows_sent) == (121, 120)
    assert report.to_json_dict()["rows_rejected"] == {"after_arrival:tx_datetime": 1}
    (warning,) = topic.warnings
    assert "1 records were not sent (after_arrival:tx_datetime). Field 'tx_datetime' is on 2021" in warning


def test_a_year_to_come_is_left_to_the_stream(small_world: SmallWorld, tmp_path: Path) -> None:
    late = line(transaction_id=999, tx_datetime="2099-01-01 00:00:00")
    topic, report = sent(
        small_world, tmp_path, write(tmp_path / "in.txt", [*HONEST[:50], late, *HONEST[50:]])
    )
    assert len(topic.records) == 121 and not report.rows_rejected
    assert rejected(small_world, topic.records) == ["after_arrival:tx_datetime"]


def test_rows_after_the_declared_arrival_are_not_sent(small_world: SmallWorld, tmp_path: Path) -> None:
    source = write(tmp_path / "in.txt", [*HONEST, *(row(900 + i, 9 + i) for i in range(20))])
    with pytest.raises(InputError, match="20 of 140 rows are on 2019-09-11 or later, 7 days") as found:
        sent(small_world, tmp_path, source)
    assert "--arrived" in str(found.value.hint)
    arrived = (FIRST_DAY + 3) * SECONDS_PER_DAY
    topic, report = sent(small_world, tmp_path, source, arrival_time_seconds=arrived)
    assert topic.records == [text.encode() for text in HONEST]
    assert report.rows_rejected == {"after_arrival:tx_datetime": 20}
    assert "later than 2019-09-05 00:00:00" in topic.warnings[0]


def test_what_was_sent_is_not_sent_again(small_world: SmallWorld, tmp_path: Path) -> None:
    source = write(tmp_path / "in.txt", [*HONEST[:50], row(999, 800), *HONEST[50:]])
    first, slow = Topic(), SendRate(per_second=1_000)
    sent(small_world, tmp_path, source, first, rate=slow, is_over=lambda: len(first.records) > 60)
    assert 60 < len(first.records) < 120
    second, report = sent(small_world, tmp_path, source)
    assert [*first.records, *second.records] == [text.encode() for text in HONEST]
    assert report.rows_before == len(first.records)


def test_no_row_waits_for_a_wrong_date(small_world: SmallWorld, tmp_path: Path) -> None:
    """Neither for one of the years to come nor for one of the past."""
    late = line(transaction_id=998, tx_datetime="2099-01-01 00:00:00")
    source = write(tmp_path / "in.txt", [*HONEST[:50], late, row(999, 800), *HONEST[50:]])
    topic, report = sent(small_world, tmp_path, source, rate=SendRate(speed=1e7))
    assert len(topic.records) == 120 and report.rows_rejected == {"after_arrival:tx_datetime": 2}
    assert report.seconds < 60


def test_a_pipe_is_sent_as_it_comes(small_world: SmallWorld, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write, args=(pipe, HONEST))
    writer.start()
    topic, _ = sent(small_world, tmp_path, str(pipe))
    writer.join()
    assert len(topic.records) == len(HONEST)
