"""How many customers and terminals, how unevenly used, how often attacked, how dirty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from zaslon.domain.errors import ZaslonError, did_you_mean
from zaslon.domain.time import parse_day

CUSTOMERS_MAX = 100_000_000
TERMINALS_MAX = 1_000_000


@dataclass(frozen=True)
class SimulationProfile:
    """The world to simulate.

    Attributes:
        name: `handbook` or `mission`.
        customers, terminals: how many.
        start_day: day number of the first day.
        payments_per_day_max: a customer's mean payments a day are uniform in 0 … this.
        radius: customers use the terminals within this distance; the plane is 100 by 100.
        popular_share: share of payments at terminal 145, whoever the customer is.
        terminals_hit_share: share of terminals compromised anew each day (scenario 2).
        customers_hit_share: share of customers compromised anew each day (scenario 3).
        earlier_attacks: whether attacks of the four weeks before the start still last.
        defects: multiple of the real rates of defects; 0 for clean data.
    """

    name: Literal["handbook", "mission"]
    customers: int
    terminals: int
    start_day: int
    payments_per_day_max: float
    radius: float
    popular_share: float
    terminals_hit_share: float
    customers_hit_share: float
    earlier_attacks: bool
    defects: float


# The handbook's own run: 2 of 10,000 terminals and 3 of 5,000 customers are hit a day.
_HANDBOOK = SimulationProfile(
    "handbook", 5_000, 10_000, parse_day("2018-04-01"), 4.0, 5.0, 0.0,
    2 / 10_000, 3 / 5_000, False, 0.0,
)  # fmt: skip
# Fitted to the mission's first file: 1.57 M rows a day of 1 M customers, 4.3 % of them at
# terminal 0 (customers out of reach of any terminal), 2.8 % at 145, 5.2 % scenario 2, 0.14 % scenario 3.
_MISSION = SimulationProfile(
    "mission", 1_000_000, 1_000, parse_day("2019-08-22"), 3.236, 3.5, 0.026,
    0.00205, 300 / 1_000_000, True, 1.0,
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
    """A named profile, changed where asked.

    Raises:
        ZaslonError: an unknown profile, or a number out of range.
    """
    if name not in PROFILES:
        raise ZaslonError(f"There is no profile '{name}'.", hint=did_you_mean(name, PROFILES))
    profile = PROFILES[name]
    _check("customers", customers, 1, CUSTOMERS_MAX)
    _check("terminals", terminals, 1, TERMINALS_MAX)
    _check("defects", defects, 0, 100_000)
    return replace(
        profile,
        customers=profile.customers if customers is None else customers,
        terminals=profile.terminals if terminals is None else terminals,
        start_day=profile.start_day if start is None else parse_day(start),
        defects=profile.defects if defects is None else defects,
    )


def _check(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise ZaslonError(f"{name} = {value} is out of range.", hint=f"Give {least} to {most:,}.")
