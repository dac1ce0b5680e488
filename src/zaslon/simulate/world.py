"""The simulated world, day by day.

Our own implementation of the method published in the Fraud Detection Handbook (Le Borgne et al.,
chapter 3): customers and terminals in a plane, a spending profile per customer, and three kinds
of fraud. Every day draws from its own random stream, so a longer run begins with the same days.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.simulate.attacks import attack
from zaslon.simulate.profiles import START_DAY_MAX, SimulationProfile, whole_number
from zaslon.simulate.random_streams import DAY, WORLD, random_stream
from zaslon.system.compiled import compiled

PLANE = 100.0
MEAN_AMOUNT_MIN, MEAN_AMOUNT_MAX = 5, 100
SEED_MAX = 2**63 - 1
NOON_SECONDS, TIME_SPREAD_SECONDS = 43_200, 20_000


@dataclass(frozen=True)
class SimulatedDay:
    """One day's payments, n of them, in order of customers or of time, as the profile says.

    Attributes:
        day: day number.
        transaction_id: int64[n], running on from day to day.
        second_of_day: int32[n], 1 … 86399.
        customer_id, terminal_id: int64[n].
        amount_minor: int64[n].
        scenario: int8[n], 0 for a good payment, else the kind of fraud.
    """

    day: int
    transaction_id: NDArray[np.int64]
    second_of_day: NDArray[np.int32]
    customer_id: NDArray[np.int64]
    terminal_id: NDArray[np.int64]
    amount_minor: NDArray[np.int64]
    scenario: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.transaction_id)

    @property
    def event_time_seconds(self) -> NDArray[np.int64]:
        """int64[n], seconds since 1970."""
        return self.day * SECONDS_PER_DAY + self.second_of_day.astype(np.int64)

    @property
    def is_fraud(self) -> NDArray[np.bool_]:
        """bool[n]."""
        return self.scenario > 0


@dataclass(frozen=True)
class _World:
    """Who lives there: spending profiles, and the terminals within each customer's reach.

    Customer c reaches `reach[reach_begin[c] : reach_begin[c] + reach_count[c]]`.
    """

    mean_amount: NDArray[np.float64]
    payments_per_day: NDArray[np.float64]
    reach_begin: NDArray[np.int64]
    reach_count: NDArray[np.int64]
    reach: NDArray[np.int32]


def simulate_days(profile: SimulationProfile, days: int, seed: int) -> Iterator[SimulatedDay]:
    """Simulate `days` days, at least 1, in constant memory; the same seed gives the same days.

    Raises:
        ZaslonError: fewer than one day, days after 2106, or a negative seed.
    """
    _check(profile, days, seed)
    return _days(profile, days, seed)


def _check(profile: SimulationProfile, days: int, seed: int) -> None:
    whole_number("days", days, 1, START_DAY_MAX - profile.start_day + 1)
    whole_number("seed", seed, 0, SEED_MAX)


def _days(profile: SimulationProfile, days: int, seed: int) -> Iterator[SimulatedDay]:
    world = _build_world(profile, seed)
    next_id = 0
    for day in range(profile.start_day, profile.start_day + days):
        payments = _one_day(profile, world, day, seed, next_id)
        next_id += len(payments)
        yield payments


def _build_world(profile: SimulationProfile, seed: int) -> _World:
    random = random_stream(seed, WORLD)
    terminals = random.uniform(0, PLANE, (profile.terminals, 2))
    homes = random.uniform(0, PLANE, (profile.customers, 2))
    mean_amount = random.uniform(MEAN_AMOUNT_MIN, MEAN_AMOUNT_MAX, profile.customers)
    payments_per_day = random.uniform(0, profile.payments_per_day_max, profile.customers)
    order = np.argsort(terminals[:, 0])
    placed = np.ascontiguousarray(terminals[order])
    near_begin = np.searchsorted(placed[:, 0], homes[:, 0] - profile.radius)
    near_end = np.searchsorted(placed[:, 0], homes[:, 0] + profile.radius, side="right")
    begin = np.zeros(profile.customers + 1, np.int64)
    # First only count, then fill: the lists of neighbours are the biggest thing in this world.
    _find_reach(homes, placed, near_begin, near_end, profile.radius, begin[:-1], np.zeros(0, np.int32))
    count = begin[:-1].copy()
    begin = np.cumsum(count) - count
    reach = np.zeros(int(count.sum()) + 1, np.int32)  # one more: those without any look it up too
    _find_reach(homes, placed, near_begin, near_end, profile.radius, begin, reach)
    return _World(mean_amount, payments_per_day, begin, count, order.astype(np.int32)[reach])


@compiled
def _find_reach(
    homes: NDArray[np.float64], terminals: NDArray[np.float64], near_begin: NDArray[np.int64],
    near_end: NDArray[np.int64], radius: float, at: NDArray[np.int64], reach: NDArray[np.int32],
) -> None:  # fmt: skip
    """Write the terminals within reach of each customer; an empty `reach` means: count into `at`."""
    for customer in range(len(homes)):
        found = 0
        for terminal in range(near_begin[customer], near_end[customer]):
            x = homes[customer, 0] - terminals[terminal, 0]
            y = homes[customer, 1] - terminals[terminal, 1]
            if x * x + y * y < radius * radius:
                if len(reach) > 0:
                    reach[at[customer] + found] = terminal
                found += 1
        if len(reach) == 0:
            at[customer] = found


def _one_day(profile: SimulationProfile, world: _World, day: int, seed: int, first_id: int) -> SimulatedDay:
    random = random_stream(seed, DAY, day)
    customer = np.repeat(
        np.arange(profile.customers), random.poisson(world.payments_per_day).astype(np.int64)
    )
    drawn = random.standard_normal(len(customer), np.float32) * TIME_SPREAD_SECONDS + NOON_SECONDS
    second = drawn.astype(np.int32)
    kept = (second > 0) & (second < SECONDS_PER_DAY)
    if profile.name == "handbook":
        kept &= world.reach_count[customer] > 0  # nowhere to go: the handbook's customers stay home
    customer, second = customer[kept], second[kept]
    if profile.time_ordered:
        order = np.argsort(second, kind="stable")
        customer, second = customer[order], second[order]
    amount = _amounts(random, world.mean_amount[customer])
    terminal = _terminals(random, profile, world, customer)
    scenario = attack(profile, seed, day, random, customer, terminal, amount)
    ids = first_id + np.arange(len(customer), dtype=np.int64)
    return SimulatedDay(day, ids, second, customer, terminal, amount, scenario)


def _amounts(random: np.random.Generator, mean: NDArray[np.float64]) -> NDArray[np.int64]:
    """Gaussian amounts with half the mean as deviation; a negative one is drawn again, uniformly."""
    amount = mean * (1 + random.standard_normal(len(mean), np.float32) / 2)
    negative = np.flatnonzero(amount < 0)
    amount[negative] = random.uniform(0, 2 * mean[negative])
    return np.rint(amount * 100).astype(np.int64)


def _terminals(
    random: np.random.Generator, profile: SimulationProfile, world: _World,
    customer: NDArray[np.int64],
) -> NDArray[np.int64]:  # fmt: skip
    """Now and then a busy terminal, else one within reach, or terminal 0 where none is."""
    count = world.reach_count[customer]
    chosen = (random.random(len(customer), np.float32) * count).astype(np.int64)
    place = world.reach_begin[customer] + np.minimum(chosen, np.maximum(count - 1, 0))
    terminal = np.where(count > 0, world.reach[place], 0).astype(np.int64)
    if profile.busy_terminals:
        busy = random.random(len(customer), np.float32)
        for name, share in profile.busy_terminals:
            terminal[(busy >= 0) & (busy < share)] = name
            busy -= share
    return terminal
