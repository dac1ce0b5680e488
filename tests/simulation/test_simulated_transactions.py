"""The simulator keeps to the mission's profile, defects included, and is deterministic."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from zaslon.domain.errors import ZaslonError
from zaslon.simulate import DEFECTS, simulate_days, simulation_profile, write_simulation
from zaslon.system.zstd import zstd

HEADER = (
    "# tranaction_id | tx_datetime | customer_id | terminal_id | tx_amount | tx_time_seconds"
    " | tx_time_days | tx_fraud | tx_fraud_scenario"
)
SMALL: dict[str, Any] = {"customers": 2_000, "terminals": 200}


def test_the_header_is_the_missions_literally_and_rows_have_commas(tmp_path: Path) -> None:
    write_simulation(simulation_profile("mission", **SMALL), 1, 1, tmp_path / "a.txt")
    lines = (tmp_path / "a.txt").read_text().splitlines()
    assert lines[0] == HEADER
    fields = lines[1].split(",")
    assert len(fields) == 9
    assert fields[1].startswith("2019-08-22 ")
    assert fields[0] == "0"


def test_amounts_frauds_and_popular_terminals_are_like_the_missions() -> None:
    profile = simulation_profile("mission", customers=60_000, terminals=1_000)
    days = list(simulate_days(profile, 4, 7))
    amount = np.concatenate([d.amount_minor for d in days]) / 100
    scenario = np.concatenate([d.scenario for d in days])
    terminal = np.concatenate([d.terminal_id for d in days])
    rows_per_customer_day = len(amount) / 60_000 / 4
    assert rows_per_customer_day == pytest.approx(1.57, abs=0.05)
    assert amount.mean() == pytest.approx(54.2, abs=2)
    assert amount.std() == pytest.approx(41, abs=3)
    assert np.quantile(amount, [0.25, 0.5, 0.75]) == pytest.approx([21.95, 45.4, 77.8], rel=0.06)
    assert (scenario > 0).mean() == pytest.approx(0.056, abs=0.02)
    assert (scenario == 1).mean() == pytest.approx(0.00055, rel=0.4)
    assert (scenario == 3).mean() == pytest.approx(0.0014, rel=0.5)
    assert (terminal == 0).mean() == pytest.approx(0.043, abs=0.012)
    assert (terminal == 145).mean() == pytest.approx(0.028, abs=0.005)


def test_the_handbook_profile_has_its_fraud_share() -> None:
    days = list(simulate_days(simulation_profile("handbook"), 40, 3))
    rows = sum(len(d) for d in days)
    assert rows / 40 == pytest.approx(1_754_155 / 183, rel=0.05)
    late = np.concatenate([d.scenario for d in days[30:]])
    assert (late > 0).mean() == pytest.approx(0.0084, rel=0.35)


def test_days_follow_each_other_and_within_a_day_time_does_not() -> None:
    days = list(simulate_days(simulation_profile("mission", **SMALL), 3, 1))
    assert [d.day - days[0].day for d in days] == [0, 1, 2]
    assert np.array_equal(np.concatenate([d.transaction_id for d in days]), np.arange(sum(map(len, days))))
    assert (np.diff(days[0].second_of_day) < 0).any()
    assert (np.diff(days[0].customer_id) >= 0).all()


def test_a_longer_run_of_one_seed_begins_with_the_shorter_run(tmp_path: Path) -> None:
    profile = simulation_profile("mission", **SMALL)
    for name, days, seed in (("a", 5, 1), ("b", 5, 1), ("long", 8, 1), ("other", 5, 2)):
        write_simulation(profile, days, seed, tmp_path / name)
    content = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert content["a"] == content["b"] != content["other"]
    assert content["long"].startswith(content["a"])


def test_the_report_counts_every_defect(tmp_path: Path) -> None:
    profile = simulation_profile("mission", **SMALL, defects=300)
    report = write_simulation(profile, 5, 1, tmp_path / "a.txt")
    lines = (tmp_path / "a.txt").read_text().splitlines()[1:]
    fields = [line.split(",") for line in lines]
    assert set(report.defects) == set(DEFECTS)
    assert report.rows == len(lines)
    assert len(lines) - len(set(lines)) == report.defects["repeated_row"] > 0
    unique = [line.split(",") for line in set(lines)]
    assert sum(f[2] == "-999999" for f in unique) == report.defects["unknown_customer"] > 0
    for text, name in (("Err", "terminal_err"), ("None", "terminal_none"), ("", "terminal_empty")):
        assert sum(f[3] == text for f in unique) == report.defects[name] > 0
    assert sum(f[1].endswith(" 24:00:00") for f in unique) == report.defects["hour_24"] > 0
    assert all(int(f[5]) % 86_400 == 0 for f in fields if f[1].endswith(" 24:00:00"))
    assert sum(f[4] == "0.0" for f in unique) >= report.defects["amount_zero"] > 0
    strays = {"89518096", "21861", "22225", "618230"}
    assert sum(f[3] in strays for f in unique) == report.defects["stray_terminal"] > 0


def test_defects_are_as_rare_as_in_real_files(tmp_path: Path) -> None:
    profile = simulation_profile("mission", customers=100_000, terminals=1_000)
    report = write_simulation(profile, 3, 1, tmp_path / "a.txt")
    for name, rate in DEFECTS.items():
        expected = rate * report.rows
        assert abs(report.defects[name] - expected) <= 5 * expected**0.5 + 3, name


def test_exactly_the_rows_asked_for_are_written(tmp_path: Path) -> None:
    profile = simulation_profile("mission", **SMALL)
    report = write_simulation(profile, 30, 1, tmp_path / "a.txt", rows=12_345)
    assert report.rows == 12_345
    assert len((tmp_path / "a.txt").read_text().splitlines()) == 12_346


def test_compressed_files_hold_the_same_text(tmp_path: Path) -> None:
    profile = simulation_profile("mission", **SMALL)
    for name in ("a.txt", "a.txt.gz", "a.txt.zst"):
        write_simulation(profile, 1, 1, tmp_path / name)
    plain = (tmp_path / "a.txt").read_bytes()
    assert gzip.decompress((tmp_path / "a.txt.gz").read_bytes()) == plain
    packed = (tmp_path / "a.txt.zst").read_bytes()
    assert zstd.decompress(packed) == plain


def test_simulated_parquet_has_the_handbooks_columns(tmp_path: Path) -> None:
    profile = simulation_profile("handbook", customers=300, terminals=500)
    write_simulation(profile, 2, 1, tmp_path / "a.parquet", format="parquet")
    frame = pl.read_parquet(tmp_path / "a.parquet")
    days = list(simulate_days(profile, 2, 1))
    assert frame.columns[:2] == ["TRANSACTION_ID", "TX_DATETIME"]
    assert len(frame) == sum(len(d) for d in days)
    assert np.array_equal(
        (frame["TX_AMOUNT"] * 100).round().cast(pl.Int64).to_numpy(),
        np.concatenate([d.amount_minor for d in days]),
    )


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"name": "mision"}, "Did you mean 'mission'"),
        ({"name": "mission", "customers": 0}, "customers = 0 is out of range"),
        ({"name": "mission", "terminals": 10**9}, "terminals = 1000000000 is out of range"),
        ({"name": "mission", "start": "yesterday"}, "'yesterday' is not a date"),
        ({"name": "mission", "defects": -1}, "defects = -1 is out of range"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(ZaslonError, match=sentence):
        simulation_profile(**given)  # type: ignore[arg-type]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ZaslonError, match="cannot be written"):
        write_simulation(simulation_profile("mission", **SMALL), 1, 1, tmp_path / "file" / "a.txt")
    with pytest.raises(ZaslonError, match="days = 0 is out of range"):
        write_simulation(simulation_profile("mission", **SMALL), 0, 1, tmp_path / "a.txt")
