"""How many customers and terminals, how unevenly used, how often attacked, how dirty."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from zaslon.domain.errors import ZaslonError, did_you_mean
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX, SECONDS_PER_DAY, day_text, parse_day

CUSTOMERS_MAX = 10_000_000
TERMINALS_MAX = 1_000_000
DEFECTS_MAX = 10_000.0
START_DAY_MAX = EVENT_TIME_SECONDS_MAX // SECONDS_PER_DAY - 1


@dataclass(frozen=True)
class SimulationProfile:
    """The world to simulate.

    Attributes:
        name: `handbook` or `mission`.
        customers, terminals: how many.
        start_day: day number of the first day.
        payments_per_day_max: a customer's mean payments a day are uniform in 0 … this.
        radius: customers use the terminals within this distance; the plane is 100 by 100.
        busy_terminals: terminals that every customer uses, with the share of payments that go there
            in addition to those of customers nearby.
            They are never compromised, so that the share of fraud is the same for every seed.
        terminals_hit_share: share of terminals newly compromised each day (scenario 2).
        customers_hit_share: share of customers newly compromised each day (scenario 3).
        earlier_attacks: whether attacks of the four weeks before the start still last.
        time_ordered: whether the payments of a day come by time, or by customer.
        defects: multiple of the real rates of defects (`DEFECTS`); 0 injects none.
    """

    name: Literal["handbook", "mission"]
    customers: int
    terminals: int
    start_day: int
    payments_per_day_max: float
    radius: float
    busy_terminals: tuple[tuple[int, float], ...]
    terminals_hit_share: float
    customers_hit_share: float
    earlier_attacks: bool
    time_ordered: bool
    defects: float


# The handbook's own run: 2 of 10,000 terminals and 3 of 5,000 customers are hit a day.
_HANDBOOK = SimulationProfile(
    "handbook", 5_000, 10_000, parse_day("2018-04-01"), 4.0, 5.0, (),
    2 / 10_000, 3 / 5_000, earlier_attacks=False, time_ordered=True, defects=0.0,
)  # fmt: skip
# Fitted to the mission's 40 files: 1.567 M rows a day of 1 M customers; in the first file 4.3 % of
# them at terminal 0 and 2.8 % at 145, 5.2 % scenario 2, 0.14 % scenario 3. One customer, seen 20
# times, was at nine terminals: that is the handbook's radius of 5, with eight in reach on average.
_MISSION = SimulationProfile(
    "mission", 1_000_000, 1_000, parse_day("2019-08-22"), 3.233, 5.0, ((0, 0.042), (145, 0.027)),
    0.0021, 300 / 1_000_000, earlier_attacks=True, time_ordered=False, defects=1.0,
)  # fmt: skip
PROFILES = {p.name: p for p in (_HANDBOOK, _MISSION)}


def simulation_profile(
    name: str,
    *,
    customers: int | None = None,
    terminals: int | None = None,
    start: str | None = None,
    defects: float | None = None,
) -> SimulationProfile:
    """A named profile, changed where asked; `start` is `YYYY-MM-DD`, `defects` a multiple.

    With other numbers of customers and terminals the shares of fraud stay what they are. The
    mission's customers keep about eight terminals in reach, however many terminals there are.

    Raises:
        ZaslonError: an unknown profile, no date, or a number out of range.
    """
    if name not in PROFILES:
        raise ZaslonError(f"Unknown profile '{name}'.", hint=did_you_mean(name, PROFILES))
    known = PROFILES[name]
    count = whole_number("terminals", known.terminals if terminals is None else terminals, 1, TERMINALS_MAX)
    wide = known.name == "mission"
    busiest = max((terminal for terminal, _ in known.busy_terminals), default=-1)
    return replace(
        known,
        customers=whole_number(
            "customers", known.customers if customers is None else customers, 1, CUSTOMERS_MAX
        ),
        terminals=count,
        start_day=known.start_day if start is None else _start_day(start),
        radius=known.radius * math.sqrt(known.terminals / count) if wide else known.radius,
        busy_terminals=known.busy_terminals if count > busiest else (),
        defects=known.defects if defects is None else _multiple(defects),
    )


profile = simulation_profile


def whole_number(name: str, value: object, least: int, most: int) -> int:
    """`value`, if it is a whole number in the range.

    Raises:
        ZaslonError: it is not; the hint names the range.
    """
    # `True` is an int to Python, but no one means 1 by it.
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ZaslonError(f"{name} = {value!r} is not a whole number.", hint=f"Give {least:,} to {most:,}.")
    if not least <= value <= most:
        raise ZaslonError(f"{name} = {value} is out of range.", hint=f"Give {least:,} to {most:,}.")
    return int(value)


def _multiple(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= DEFECTS_MAX:  # nor not-a-number
        raise ZaslonError(
            f"defects = {value} is out of range.",
            hint=f"Give a multiple of the real rates, 0 to {DEFECTS_MAX:,.0f}; 1 is as in reality.",
        )
    return float(value)


def _start_day(text: str) -> int:
    day = parse_day(text)
    if not 0 <= day <= START_DAY_MAX:
        raise ZaslonError(
            f"A simulation cannot start on {text}.",
            hint=f"Give a day from 1970-01-01 to {day_text(START_DAY_MAX)}.",
        )
    return day
