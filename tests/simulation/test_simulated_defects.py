"""Every defect of the mission's files is injected at its rate and counted to the row."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from zaslon.simulate import DEFECTS, SimulationReport, simulation_profile, write_simulation

ORDINARY_TERMINAL_MAX = 9_999


def counted(path: Path) -> dict[str, int]:
    """A naive count of the defects in a mission file."""
    found: Counter[str] = Counter(dict.fromkeys(DEFECTS, 0))
    seen: set[str] = set()
    for line in path.read_text().splitlines()[1:]:
        found[_defect_of(line, seen)] += 1
        seen.add(line)
    del found["none"]
    return dict(found)


def _defect_of(line: str, seen: set[str]) -> str:
    _, moment, customer, terminal, amount, seconds, days, _, _ = line.split(",")
    hour, minute, second = map(int, moment[11:].split(":"))
    right_seconds = int(days) * 86_400 + hour * 3600 + minute * 60 + second
    tests = {
        "repeated_row": line in seen,
        "unknown_customer": customer == "-999999",
        "terminal_err": terminal == "Err",
        "terminal_none": terminal == "None",
        "terminal_empty": terminal == "",
        "hour_24": moment[11:] == "24:00:00",
        "stray_terminal": terminal.isdigit() and int(terminal) > ORDINARY_TERMINAL_MAX,
        "wrong_seconds": int(seconds) != right_seconds,
        "amount_zero": amount == "0.0",
    }
    return next((name for name, is_so in tests.items() if is_so), "none")


def simulated(
    path: Path, customers: int, days: int, defects: float, rows: int | None = None
) -> SimulationReport:
    profile = simulation_profile("mission", customers=customers, defects=defects)
    return write_simulation(profile, days, 7, path, rows=rows)


@pytest.mark.parametrize("defects", [0.0, 1.0, 300.0])
@pytest.mark.parametrize("rows", [None, 11_111])
def test_the_report_counts_the_defects_of_the_file_to_the_row(
    tmp_path: Path, defects: float, rows: int | None
) -> None:
    report = simulated(tmp_path / "a.txt", 3_000, 5, defects, rows)
    assert report.defects == counted(tmp_path / "a.txt")


def test_each_defect_comes_at_its_rate(tmp_path: Path) -> None:
    multiple = 300.0
    report = simulated(tmp_path / "a.txt", 100_000, 3, multiple)
    for name, rate in DEFECTS.items():
        expected = rate * multiple * report.rows
        assert abs(report.defects[name] - expected) < 5 * expected**0.5, name
        assert expected > 10


def test_the_real_rates_are_those_of_a_file_of_47_million_rows() -> None:
    expected = {name: rate * 47e6 for name, rate in DEFECTS.items()}
    assert expected["repeated_row"] == pytest.approx(64, abs=1)
    assert expected["unknown_customer"] == pytest.approx(366, abs=1)
    terminals = sum(expected[f"terminal_{text}"] for text in ("err", "none", "empty"))
    assert terminals == pytest.approx(1_008, abs=1)
    assert expected["hour_24"] == pytest.approx(100)
    assert expected["amount_zero"] == pytest.approx(882, abs=1)


def test_zero_amounts_by_rounding_are_not_doubled(tmp_path: Path) -> None:
    report = simulated(tmp_path / "a.txt", 300_000, 2, 1.0)
    expected = DEFECTS["amount_zero"] * report.rows
    assert abs(report.defects["amount_zero"] - expected) < 5 * expected**0.5


def test_no_defects_are_injected_into_clean_data(tmp_path: Path) -> None:
    report = simulated(tmp_path / "a.txt", 3_000, 5, 0.0)
    injected = {name: count for name, count in report.defects.items() if name != "amount_zero"}
    assert set(injected.values()) == {0}


def test_a_time_of_24_00_00_has_the_seconds_of_the_next_midnight(tmp_path: Path) -> None:
    report = simulated(tmp_path / "a.txt", 20_000, 3, 1_000)
    rows = [line.split(",") for line in (tmp_path / "a.txt").read_text().splitlines()[1:]]
    late = [row for row in rows if row[1].endswith(" 24:00:00")]
    assert len(late) >= report.defects["hour_24"] > 0
    assert all(int(row[5]) == 86_400 * (int(row[6]) + 1) for row in late)


def test_wrong_seconds_are_far_too_small(tmp_path: Path) -> None:
    report = simulated(tmp_path / "a.txt", 20_000, 4, 2_000)
    rows = [line.split(",") for line in (tmp_path / "a.txt").read_text().splitlines()[1:]]
    small = [row for row in rows if int(row[5]) < 86_400 * int(row[6])]
    assert len(small) > 0
    assert all(int(row[5]) < 86_400 for row in small)
    assert report.defects["wrong_seconds"] >= len(small)


def test_stray_terminals_are_those_of_the_mission(tmp_path: Path) -> None:
    simulated(tmp_path / "a.txt", 20_000, 3, 500)
    rows = [line.split(",") for line in (tmp_path / "a.txt").read_text().splitlines()[1:]]
    stray = Counter(row[3] for row in rows if row[3].isdigit() and int(row[3]) >= 1_000)
    assert set(stray) == {"89518096", "21861", "22225", "618230"}
    assert stray.most_common(1)[0][0] == "89518096"


def test_a_repeat_comes_after_its_row_of_the_same_day(tmp_path: Path) -> None:
    report = simulated(tmp_path / "a.txt", 20_000, 3, 1_000)
    first: dict[str, str] = {}
    repeats = 0
    for line in (tmp_path / "a.txt").read_text().splitlines()[1:]:
        identity = line.split(",")[0]
        repeats += identity in first
        assert first.setdefault(identity, line) == line
    assert repeats == report.defects["repeated_row"] > 0


def test_an_absurd_multiple_still_leaves_mostly_good_rows(tmp_path: Path) -> None:
    report = simulated(tmp_path / "a.txt", 1_000, 2, 10_000)
    assert report.defects == counted(tmp_path / "a.txt")
    assert sum(report.defects.values()) < report.rows / 2
