"""Who is compromised, and which payments are frauds.

Scenario 1: an amount over 220. Scenario 2: a terminal is compromised for 28 days and every payment
at it is a fraud. Scenario 3: a customer's card data leak for 14 days and a third of the payments
have five times their amount. A later scenario overrides an earlier one.

Who was hit on a day is drawn again from that day's stream whenever it matters, so no list grows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zaslon.simulate.profiles import SimulationProfile
from zaslon.simulate.random_streams import ATTACKS, random_stream

LARGE_AMOUNT_MINOR = 22_000  # over 220.00
TERMINAL_ATTACK_DAYS = 28
CUSTOMER_ATTACK_DAYS = 14
CUSTOMER_ATTACK_SHARE = 1 / 3
CUSTOMER_ATTACK_FACTOR = 5


def attack(
    profile: SimulationProfile, seed: int, day: int, random: np.random.Generator,
    customer: NDArray[np.int64], terminal: NDArray[np.int64], amount_minor: NDArray[np.int64],
) -> NDArray[np.int8]:  # fmt: skip
    """Scenario of each payment of a day, int8[n]; raises the amounts of scenario 3 in place."""
    scenario = (amount_minor > LARGE_AMOUNT_MINOR).astype(np.int8)
    scenario[_compromised_terminals(profile, seed, day)[terminal]] = 2
    leaks = _leaks(profile, seed, day)[customer]
    # A customer hit again within the 14 days has some amounts raised twice: the mission's largest
    # amounts, 3,500 … 16,500 where 100 is the highest mean, come from 25 and 125 times.
    for times in range(1, int(leaks.max(initial=0)) + 1):
        exposed = np.flatnonzero(leaks >= times)
        stolen = exposed[random.random(len(exposed)) < CUSTOMER_ATTACK_SHARE]
        amount_minor[stolen] *= CUSTOMER_ATTACK_FACTOR
        scenario[stolen] = 3
    return scenario


def _compromised_terminals(profile: SimulationProfile, seed: int, day: int) -> NDArray[np.bool_]:
    compromised = np.zeros(profile.terminals, np.bool_)
    busy = [terminal for terminal, _ in profile.busy_terminals]
    candidates = np.setdiff1d(np.arange(profile.terminals), busy)
    for since in range(day - TERMINAL_ATTACK_DAYS + 1, day + 1):
        hit = _hit(profile, seed, since, 2, len(candidates), profile.terminals_hit_share)
        compromised[candidates[hit]] = True
    return compromised


def _leaks(profile: SimulationProfile, seed: int, day: int) -> NDArray[np.int8]:
    """How many leaks each customer's data are in on a day."""
    leaks = np.zeros(profile.customers, np.int8)
    for since in range(day - CUSTOMER_ATTACK_DAYS + 1, day + 1):
        leaks[_hit(profile, seed, since, 3, profile.customers, profile.customers_hit_share)] += 1
    return leaks


def _hit(
    profile: SimulationProfile, seed: int, day: int, kind: int, population: int, share: float
) -> NDArray[np.int64]:
    """Entities newly attacked on a day: int64[m], each once.

    The number hit is even over the days (2.1 a day is 2, 2, 2, 2, 2, 2, 2, 2, 2, 3), for otherwise
    the share of fraud in a small world would depend on the seed.
    """
    since_first = day - profile.start_day + TERMINAL_ATTACK_DAYS
    if day < profile.start_day and not profile.earlier_attacks:
        return np.zeros(0, np.int64)
    a_day = population * share
    phase = random_stream(seed, ATTACKS, kind).random()
    count = math.floor((since_first + 1) * a_day + phase) - math.floor(since_first * a_day + phase)
    random = random_stream(seed, ATTACKS, kind, since_first)
    return random.choice(population, min(count, population), replace=False)
