"""When a file arrived: one wrong date in it is one rejection, and the next file is decided as ever."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.cli.conftest import Answer, SmallRun, Zaslon

from zaslon.adapters.embedded.sqlite_journal import SqliteJournal
from zaslon.bootstrap import build_context
from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.errors import ZaslonError
from zaslon.domain.time import SECONDS_PER_DAY, parse_day, time_text
from zaslon.entrypoints.cli import MOSTLY_TOO_LATE
from zaslon.flows.score import label
from zaslon.settings import load_settings

HEADER = "transaction_id,tx_datetime,customer_id,terminal_id,tx_amount"


def next_day(small_run: SmallRun) -> int:
    """The day after those of the run, at ten, in seconds."""
    last = max(line.split(b",")[1][:10] for line in small_run.tomorrow.read_bytes().splitlines()[1:])
    return (parse_day(last.decode()) + 1) * SECONDS_PER_DAY + 36_000


def rows_at(path: Path, first_id: int, *moments: int) -> Path:
    rows = [f"{first_id + i},{time_text(moment)},5,7,10.00" for i, moment in enumerate(moments)]
    path.write_text("\n".join([HEADER, *rows, ""]))
    return path


def decisions(home: Path) -> list[dict[str, Any]]:
    """All decisions but for their positions."""
    journal = SqliteJournal(home / "log" / "journal.db", load_catalogue())
    found = [orjson.loads(outcome) for _, outcome in journal.outcomes()]
    journal.close()
    return [{**o, "position": None} for o in found if o["outcome"] == "decision"]


@pytest.mark.parametrize(
    ("wrong", "options"),
    [
        ("2042-03-16", []),
        ("2021-03-16", []),
        ("2019-10-20", []),
        ("2019-10-20", ["--arrived", "2019-10-10 00:00:00"]),
    ],
    ids=["the future", "a gap of years", "a gap of weeks", "after the arrival"],
)
def test_one_wrong_year_does_not_stop_the_log(
    wrong: str, options: list[str], zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    other_home = tmp_path / "other"
    shutil.copytree(home, other_home)
    at = next_day(small_run)
    assert at < parse_day("2019-10-05") * SECONDS_PER_DAY
    day_1 = rows_at(tmp_path / "day1.csv", 900_000_001, at, parse_day(wrong) * SECONDS_PER_DAY)
    day_2 = rows_at(tmp_path / "day2.csv", 900_000_003, at + 62 * 60, at + 63 * 60)
    answer = zaslon("score", day_1, "--home", home, "--json", *options)
    assert answer.code == 0 and answer.json["rows_rejected"] == {"after_arrival:tx_datetime": 1}
    assert answer.json["decisions"] == 1
    answer = zaslon("score", day_2, "--home", home, "--json", *options)
    assert answer.code == 0 and answer.json["decisions"] == 2 and not answer.json["records_rejected"]
    for number, source in enumerate([rows_at(tmp_path / "honest.csv", 900_000_001, at), day_2]):
        answer = zaslon("score", source, "--home", other_home, "--json", *options)
        assert answer.json["decisions"] == number + 1
    assert decisions(home) == decisions(other_home)


def test_a_mostly_late_file_warns_and_exits_with_12(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    at = next_day(small_run)
    old = [at - (20 + i) * SECONDS_PER_DAY for i in range(2)]
    new = [at + i for i in range(8)]
    for number, (moments, late) in enumerate([([*old, *new], False), ([*old, *new[:7]], True)]):
        source = rows_at(tmp_path / "in.csv", 900_000_000 + 100 * number, *moments)
        answer = zaslon("score", source, "--home", home, "--json")
        assert answer.json["too_late_share"] == round(2 / len(moments), 4)
        assert answer.code == (MOSTLY_TOO_LATE if late else 0)
        assert ("2 transactions (22%) were too late: the newest one in the log" in answer.err) is late


def assert_refused(answer: Answer) -> None:
    assert answer.code == 2
    assert answer.json["error"]["message"].startswith(
        "Nothing can have arrived at 2098-01-01 00:00:00: it is 20"
    )


def test_nothing_arrives_in_the_future(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    before = decisions(home)
    out = tmp_path / "out"
    for command in (["clean", "--out", out], ["score"], ["run"]):
        name, *options = command
        assert_refused(
            zaslon(
                name,
                small_run.tomorrow,
                *options,
                "--home",
                home,
                "--json",
                "--arrived",
                "2098-01-01 00:00:00",
            )
        )
    assert decisions(home) == before and not out.exists()


@dataclass(frozen=True)
class FixedClock:
    """A stopped clock."""

    seconds: int

    def now_seconds(self) -> float:
        return self.seconds

    def monotonic_seconds(self) -> float:
        return self.seconds


def test_labels_do_not_arrive_after_now_and_what_clocks_differ(home: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("transaction_id,is_fraud\n1,1\n")
    now = 1_600_000_000
    context = build_context(load_settings(home=home))
    context = replace(context, adapters=replace(context.adapters, clock=FixedClock(now)))
    assert label(context, labels, now + SECONDS_PER_DAY).labels == 1
    with pytest.raises(ZaslonError, match="Nothing can have arrived at 2020-09-14 12:26:41"):
        label(context, labels, now + SECONDS_PER_DAY + 1)


def test_a_label_of_the_future_is_refused(zaslon: Zaslon, home: Path, tmp_path: Path) -> None:
    journal = (home / "log" / "journal.db").read_bytes()
    assert_refused(
        zaslon("label", tmp_path / "none.csv", "--home", home, "--json", "--arrived", "2098-01-01 00:00:00")
    )
    assert (home / "log" / "journal.db").read_bytes() == journal


def test_the_report_of_clean_has_the_arrival(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    answer = zaslon(
        "clean", small_run.tomorrow, "--home", home, "--out", tmp_path / "out", "--json",
        "--arrived", "2020-01-01 00:00:00",
    )  # fmt: skip
    assert answer.json["arrived"] == "2020-01-01 00:00:00"
    report = orjson.loads((tmp_path / "out" / "_report.json").read_bytes())
    assert report["arrived"] == "2020-01-01 00:00:00"
