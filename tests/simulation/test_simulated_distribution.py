"""What is simulated looks like the published data: the mission's files and the handbook's own run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from zaslon.simulate import SimulatedDay, simulate_days, simulation_profile

CUSTOMERS = 100_000
DAYS = 6


@pytest.fixture(scope="module")
def mission() -> list[SimulatedDay]:
    return list(simulate_days(simulation_profile("mission", customers=CUSTOMERS), DAYS, seed=1))


@pytest.fixture(scope="module")
def handbook() -> list[SimulatedDay]:
    return list(simulate_days(simulation_profile("handbook"), 120, seed=1))


def column(days: Sequence[SimulatedDay], name: str) -> NDArray[np.int64]:
    return np.concatenate([getattr(day, name) for day in days])


def test_the_mission_has_1_567_payments_a_day_and_customer(mission: list[SimulatedDay]) -> None:
    assert len(column(mission, "scenario")) / CUSTOMERS / DAYS == pytest.approx(1.567, rel=0.01)


def test_amounts_have_the_missions_mean_spread_and_quartiles(mission: list[SimulatedDay]) -> None:
    amounts = column(mission, "amount_minor") / 100
    assert amounts.mean() == pytest.approx(54.2, abs=0.3)
    assert amounts.std() == pytest.approx(41.25, abs=0.4)
    assert np.quantile(amounts, [0.25, 0.5, 0.75]) == pytest.approx([21.95, 45.4, 77.8], rel=0.01)
    assert amounts.min() >= 0


def test_zero_amounts_are_as_frequent_as_in_the_mission(mission: list[SimulatedDay]) -> None:
    zeros = np.count_nonzero(column(mission, "amount_minor") == 0)
    expected = 1.9e-5 * 1.567 * CUSTOMERS * DAYS
    assert abs(zeros - expected) < 5 * expected**0.5


def test_a_customer_hit_twice_overpays_more_than_five_times() -> None:
    often = replace(simulation_profile("mission", customers=5_000), customers_hit_share=0.03)
    largest = max(int(day.amount_minor.max()) for day in simulate_days(often, 3, seed=2))
    assert largest > 5 * 5 * 10_000  # five times a usual amount stays below 5 · 300


def test_terminal_use_is_as_skewed_as_in_the_real_file(mission: list[SimulatedDay]) -> None:
    uses = np.bincount(column(mission, "terminal_id"), minlength=1_000)
    share = uses / uses.sum()
    assert len(uses) == 1_000
    assert share[0] == pytest.approx(0.043, abs=0.002)
    assert share[145] == pytest.approx(0.028, abs=0.001)
    typical = np.quantile(share * 47e6, [0.02, 0.98])  # rows of 47 million
    assert 15_000 < typical[0] < 40_000
    assert 60_000 < typical[1] < 110_000


def test_the_missions_mix_of_scenarios_is_kept(mission: list[SimulatedDay]) -> None:
    share = np.bincount(column(mission, "scenario"), minlength=4) / len(column(mission, "scenario"))
    assert 0.05 < 1 - share[0] < 0.06
    assert share[1] == pytest.approx(5.5e-4, rel=0.25)
    assert share[2] == pytest.approx(0.052, rel=0.1)
    assert share[3] == pytest.approx(1.4e-3, rel=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_a_small_world_keeps_the_share_of_fraud(seed: int) -> None:
    small = list(simulate_days(simulation_profile("mission", customers=5_000), 30, seed))
    assert 0.048 < (column(small, "scenario") > 0).mean() < 0.062


def test_few_terminals_are_shared_evenly_and_not_sent_to_terminal_0() -> None:
    few = simulation_profile("mission", customers=5_000, terminals=50)
    uses = np.bincount(column(list(simulate_days(few, 5, 1)), "terminal_id"), minlength=50)
    assert len(uses) == 50
    assert uses.max() < 6 * uses.mean()


def test_the_handbook_profile_has_the_published_size_and_fraud(handbook: list[SimulatedDay]) -> None:
    published_rows, published_days = 1_754_155, 183
    scenario = column(handbook, "scenario")
    # 4,990 customers are few: their rates alone move the number of payments by a percent.
    assert len(scenario) / 120 == pytest.approx(published_rows / published_days, rel=0.04)
    mature = np.concatenate([day.scenario for day in handbook[28:]])
    share = np.bincount(mature, minlength=4) / len(mature)
    assert share[1] == pytest.approx(973 / published_rows, rel=0.25)
    assert share[2] == pytest.approx(9_077 / published_rows, rel=0.25)
    assert share[3] == pytest.approx(4_631 / published_rows, rel=0.25)


def test_the_handbook_amounts_and_times_are_as_published(handbook: list[SimulatedDay]) -> None:
    amounts = column(handbook, "amount_minor") / 100
    assert amounts.mean() == pytest.approx(53.63, rel=0.03)
    assert amounts.std() == pytest.approx(42.3, rel=0.05)
    seconds = column(handbook, "second_of_day")
    assert seconds.min() > 0 and seconds.max() < 86_400
    assert seconds.mean() == pytest.approx(43_200, abs=200)
    assert all((np.diff(day.second_of_day) >= 0).all() for day in handbook)


def test_no_attack_is_older_than_the_handbooks_first_day(handbook: list[SimulatedDay]) -> None:
    by_day = [np.count_nonzero(day.scenario == 2) for day in handbook]
    assert by_day[0] < np.mean(by_day[28:]) / 4


def test_a_compromised_terminal_is_fraud_for_28_days(
    handbook: list[SimulatedDay],
) -> None:
    hit_days: dict[int, list[int]] = {}
    for number, day in enumerate(handbook):
        hit = np.unique(day.terminal_id[day.scenario == 2])
        others = day.scenario[np.isin(day.terminal_id, hit)]
        assert np.isin(others, [2, 3]).all()
        for terminal in hit:
            hit_days.setdefault(int(terminal), []).append(number)
    single = [days for days in hit_days.values() if days[-1] - days[0] < 28]
    assert len(single) > 0.5 * len(hit_days)
    assert max(days[-1] - days[0] for days in single) == 27


def test_frauds_of_scenario_1_are_the_amounts_over_220(mission: list[SimulatedDay]) -> None:
    amount, scenario = column(mission, "amount_minor"), column(mission, "scenario")
    assert (amount[scenario == 1] > 22_000).all()
    assert (amount[scenario == 0] <= 22_000).all()


def test_leaked_customers_overpay_in_a_third_of_payments() -> None:
    everybody = replace(
        simulation_profile("mission", customers=20_000), customers_hit_share=1.0, earlier_attacks=False
    )
    day = next(simulate_days(everybody, 1, seed=3))
    stolen = day.scenario == 3
    assert stolen.mean() == pytest.approx(1 / 3, abs=0.01)
    usual = day.amount_minor[~stolen].mean()
    assert day.amount_minor[stolen].mean() == pytest.approx(5 * usual, rel=0.05)


def test_ids_run_on_from_day_to_day(mission: list[SimulatedDay]) -> None:
    ids = column(mission, "transaction_id")
    assert (ids == np.arange(len(ids))).all()


def test_the_days_come_in_order_and_within_a_day_by_customer(mission: list[SimulatedDay]) -> None:
    assert [day.day for day in mission] == list(range(18_130, 18_130 + DAYS))  # from 2019-08-22
    assert all((np.diff(day.customer_id) >= 0).all() for day in mission)
    assert any((np.diff(day.second_of_day) < 0).any() for day in mission)


def test_event_times_are_seconds_since_1970(mission: list[SimulatedDay]) -> None:
    day = mission[1]
    assert (day.event_time_seconds // 86_400 == day.day).all()
    assert (day.is_fraud == (day.scenario > 0)).all()
