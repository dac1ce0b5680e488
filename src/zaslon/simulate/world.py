"""The simulated world, day by day.

Our own implementation of the method published in the Fraud Detection Handbook (Le Borgne et al.,
chapter 3): customers and terminals in a plane, a spending profile per customer, and three kinds
of fraud. Scenario 1: an amount over 220. Scenario 2: a terminal is compromised for 28 days and
every payment at it is a fraud. Scenario 3: a customer's card data leak for 14 days and a third of
the payments have five times their amount.

Every day draws from its own random stream, so a longer run begins with the same days.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zaslon.simulate.profiles import SimulationProfile

PLANE = 100.0
LARGE_AMOUNT_MINOR = 22_000  # scenario 1: over 220.00
TERMINAL_ATTACK_DAYS = 28
CUSTOMER_ATTACK_DAYS = 14
CUSTOMER_ATTACK_SHARE = 1 / 3
CUSTOMER_ATTACK_FACTOR = 5
NOON_SECONDS, TIME_SPREAD_SECONDS = 43_200, 20_000
SECONDS_PER_DAY = 86_400
POPULAR_TERMINAL = 145

_WORLD, _ATTACKS, _DAY = 0, 1, 2  # random streams


@dataclass(frozen=True)
class SimulatedDay:
    """One day's payments, n of them, in order of customers and not of time.

    Attributes:
        day: day number.
        transaction_id: int64[n], running on from day to day.
        second_of_day: int32[n].
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


@dataclass(frozen=True)
class _World:
    """Who lives there: spending profiles and the terminals within each customer's reach."""

    mean_amount: NDArray[np.float64]
    payments_per_day: NDArray[np.float64]
    reach_begin: NDArray[np.int64]
    reach_count: NDArray[np.int64]
    reach: NDArray[np.int32]


def simulate_days(profile: SimulationProfile, days: int, seed: int) -> Iterator[SimulatedDay]:
    """Simulate `days` days in constant memory; the same seed gives the same days."""
    world = _build_world(profile, seed)
    next_id = 0
    for day in range(profile.start_day, profile.start_day + days):
        payments = _one_day(profile, world, day, seed, next_id)
        next_id += len(payments)
        yield payments


def _random(seed: int, *stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *stream])))


def _build_world(profile: SimulationProfile, seed: int) -> _World:
    random = _random(seed, _WORLD)
    terminals = random.uniform(0, PLANE, (profile.terminals, 2))
    homes = random.uniform(0, PLANE, (profile.customers, 2))
    mean_amount = random.uniform(5, 100, profile.customers)
    payments_per_day = random.uniform(0, profile.payments_per_day_max, profile.customers)
    tree = cKDTree(terminals)
    counts, reach = [], []
    for begin in range(0, profile.customers, 100_000):  # the lists of neighbours are bulky
        near = tree.query_ball_point(homes[begin : begin + 100_000], profile.radius, return_sorted=True)
        counts.append(np.fromiter(map(len, near), np.int64, len(near)))
        reach.append(np.concatenate([np.asarray(n, np.int32) for n in near]))
    reach_count = np.concatenate(counts)
    # A place behind the end, so that customers without any terminal can be looked up too.
    everywhere = np.concatenate([*reach, np.zeros(1, np.int32)])
    return _World(
        mean_amount, payments_per_day, np.cumsum(reach_count) - reach_count, reach_count, everywhere
    )


def _one_day(
    profile: SimulationProfile, world: _World, day: int, seed: int, first_id: int
) -> SimulatedDay:
    random = _random(seed, _DAY, day)
    customer = np.repeat(
        np.arange(profile.customers), random.poisson(world.payments_per_day).astype(np.int64)
    )
    second = random.standard_normal(len(customer), np.float32) * TIME_SPREAD_SECONDS + NOON_SECONDS
    within = (second > 0) & (second < SECONDS_PER_DAY)
    customer, second = customer[within], second[within].astype(np.int32)
    amount = _amounts(random, world.mean_amount[customer])
    terminal = _terminals(random, profile, world, customer)
    scenario = _attack(profile, seed, day, random, customer, terminal, amount)
    ids = first_id + np.arange(len(customer), dtype=np.int64)
    return SimulatedDay(day, ids, second, customer, terminal, amount, scenario)


def _amounts(random: np.random.Generator, mean: NDArray[np.float64]) -> NDArray[np.int64]:
    amount = mean * (1 + random.standard_normal(len(mean), np.float32) / 2)
    negative = np.flatnonzero(amount < 0)
    amount[negative] = random.uniform(0, 2 * mean[negative])
    return np.rint(amount * 100).astype(np.int64)


def _terminals(
    random: np.random.Generator, profile: SimulationProfile, world: _World,
    customer: NDArray[np.int64],
) -> NDArray[np.int64]:  # fmt: skip
    """A terminal within reach; terminal 0 for those who have none, and now and then the popular one."""
    count = world.reach_count[customer]
    chosen = (random.random(len(customer), np.float32) * count).astype(np.int64)
    place = world.reach_begin[customer] + np.minimum(chosen, np.maximum(count - 1, 0))
    terminal = np.where(count > 0, world.reach[place], 0).astype(np.int64)
    if profile.popular_share and profile.terminals > POPULAR_TERMINAL:
        popular = random.random(len(customer), np.float32) < profile.popular_share
        terminal[popular] = POPULAR_TERMINAL
    return terminal


def _hit(
    profile: SimulationProfile, seed: int, day: int, kind: int, population: int, share: float
) -> NDArray[np.int64]:
    """Who is compromised on a day; drawn from that day's stream, so no list has to be kept."""
    if day < profile.start_day and not profile.earlier_attacks:
        return np.zeros(0, np.int64)
    random = _random(seed, _ATTACKS, kind, day)
    expected = population * share
    count = min(int(expected) + int(random.random() < expected % 1), population)
    return random.choice(population, count, replace=False)


def _attack(
    profile: SimulationProfile, seed: int, day: int, random: np.random.Generator,
    customer: NDArray[np.int64], terminal: NDArray[np.int64], amount: NDArray[np.int64],
) -> NDArray[np.int8]:  # fmt: skip
    """Scenario of each payment; raises the amounts of scenario 3 in place."""
    scenario = np.where(amount > LARGE_AMOUNT_MINOR, 1, 0).astype(np.int8)
    taken_over = np.zeros(profile.terminals, np.bool_)
    for since in range(day - TERMINAL_ATTACK_DAYS + 1, day + 1):
        hit = _hit(profile, seed, since, 2, profile.terminals, profile.terminals_hit_share)
        taken_over[hit] = True
    scenario[taken_over[terminal]] = 2
    leaked = np.zeros(profile.customers, np.bool_)
    for since in range(day - CUSTOMER_ATTACK_DAYS + 1, day + 1):
        hit = _hit(profile, seed, since, 3, profile.customers, profile.customers_hit_share)
        leaked[hit] = True
    exposed = np.flatnonzero(leaked[customer])
    stolen = exposed[random.random(len(exposed)) < CUSTOMER_ATTACK_SHARE]
    amount[stolen] *= CUSTOMER_ATTACK_FACTOR
    scenario[stolen] = 3
    return scenario
