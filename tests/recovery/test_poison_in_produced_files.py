"""A record that breaks our own code on its way to the stream's topic is not sent, and is named; the others are."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from tests.recovery.faults import PRODUCE_STAGES, InjectedError, Poison, inject
from tests.unit.intake_cases import NAMES, line
from tests.unit.test_produced_dates import FIRST_DAY, HONEST, Topic, sent, write

from zaslon.domain.errors import InputError
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.flows.produce import SendRate
from zaslon.flows.score import score
from zaslon.intake.date_gaps import DayCounts
from zaslon.testing import SmallWorld

POISON = Poison(999, 1_000.25)
ROW = line(transaction_id=999, tx_amount="1000.25", tx_datetime="2019-09-03 10:00:00")
HEADER = ",".join(NAMES)
ARRIVED = (FIRST_DAY + 30) * SECONDS_PER_DAY  # all rows are earlier, and the dates of each are looked at


@pytest.mark.parametrize("stage", PRODUCE_STAGES)
@pytest.mark.parametrize("arrived", [None, ARRIVED])
def test_a_record_that_breaks_a_stage_is_not_sent(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, arrived: int | None
) -> None:
    inject(monkeypatch, stage, POISON)
    source = write(tmp_path / "in.txt", [HEADER, *HONEST[:50], ROW, *HONEST[50:]])
    rate = SendRate(speed=1e9)
    topic, report = sent(small_world, tmp_path, source, form="json", rate=rate, arrival_time_seconds=arrived)
    wanted = [row.split(",")[0] for row in HONEST]
    assert [orjson.loads(record)["transaction_id"] for record in topic.records] == wanted
    assert (report.rows_in, report.rows_sent, report.rows_rejected) == (121, 120, {"engine_error": 1})
    (warning,) = topic.warnings
    assert warning.startswith(
        f"Record 51 of '{source}' was not sent. Zaslon's own code failed on this record"
    )


@pytest.mark.parametrize("stage", PRODUCE_STAGES)
def test_code_that_breaks_every_record_stops_sending(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    inject(monkeypatch, stage, None)
    topic, source = Topic(), write(tmp_path / "in.txt", [HEADER, *HONEST])
    with pytest.raises(InjectedError):
        sent(small_world, tmp_path, source, topic, form="json", rate=SendRate(speed=1e9))
    assert not topic.records


@pytest.mark.parametrize("names", [tuple(NAMES), (*NAMES[1:], NAMES[0])])
def test_a_broken_line_is_sent_only_where_the_topic_reads_it_alike(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    inject(monkeypatch, "split", POISON)
    values = [dict(zip(NAMES, row.split(","), strict=True)) for row in [*HONEST[:9], ROW]]
    rows = [",".join(row[name] for name in names) for row in values]
    source = write(tmp_path / "in.txt", [",".join(names), *rows])
    topic, report = sent(small_world, tmp_path, source, form="json")
    is_alike = names == tuple(NAMES)
    assert (topic.records[9:] == [ROW.encode()]) == is_alike
    assert report.rows_rejected == ({} if is_alike else {"engine_error": 1})


def test_code_that_breaks_on_the_days_of_all_rows_refuses_the_input(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row is to blame for it, so none is rejected: the user is told, and the log has nothing of the input."""
    source = write(tmp_path / "in.txt", [HEADER, *HONEST])

    def failing(counts: DayCounts, rows_of_log: object = None) -> None:
        raise InjectedError

    monkeypatch.setattr(DayCounts, "wrong_dates", failing)
    with pytest.raises(
        InputError, match="dates of this input are wrong is not known: InjectedError"
    ) as found:
        sent(small_world, tmp_path, source)
    assert "gap_max" in str(found.value.hint)
    with pytest.raises(InputError, match="is not known: InjectedError"):
        score(small_world.in_home(tmp_path / "home").context, [source], learn=False)
