"""The real defects of the mission's files, at their real rates or a multiple of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zaslon.simulate.world import SimulatedDay

# Rows affected per row, counted over the mission's 1.88 billion rows.
DEFECTS = {
    "repeated_row": 64 / 47e6,
    "unknown_customer": 14_623 / 1.88e9,
    "terminal_err": 13_500 / 1.88e9,
    "terminal_none": 13_500 / 1.88e9,
    "terminal_empty": 13_312 / 1.88e9,
    "hour_24": 100 / 47e6,
    "amount_zero": 1.9e-5,
    "stray_terminal": 14_000 / 47e6,
    "wrong_seconds": 5 / 47e6,
}
STRAY_TERMINALS = np.array([89_518_096, 89_518_096, 89_518_096, 21_861, 22_225, 618_230])
UNKNOWN_CUSTOMER = -999_999
TERMINAL_ERR, TERMINAL_NONE, TERMINAL_EMPTY = -1, -2, -3  # written as `Err`, `None` and nothing
HOUR_24 = 86_400
_STREAM = 3


@dataclass(frozen=True)
class DirtyDay:
    """A day as it is written: columns as in `SimulatedDay`, with defects, and their counts.

    `elapsed_seconds` is what stands in tx_time_seconds; `rows` repeats some rows of the day.
    """

    day: SimulatedDay
    elapsed_seconds: NDArray[np.int64]
    rows: NDArray[np.int64]
    counts: dict[str, int]


def make_dirty(day: SimulatedDay, start_day: int, multiple: float, seed: int) -> DirtyDay:
    """Put defects into a day's columns (in place) and count them. No row has two defects."""
    elapsed = (day.day - start_day) * 86_400 + day.second_of_day.astype(np.int64)
    rows = np.arange(len(day))
    if multiple == 0:
        return DirtyDay(day, elapsed, rows, dict.fromkeys(DEFECTS, 0))
    random = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, _STREAM, day.day])))
    counts = {
        name: int(min(random.poisson(rate * multiple * len(day)), len(day) // 20))
        for name, rate in DEFECTS.items()
    }
    hit = random.choice(len(day), sum(counts.values()), replace=False)
    chosen = dict(zip(counts, np.split(hit, np.cumsum(list(counts.values()))[:-1]), strict=True))
    day.customer_id[chosen["unknown_customer"]] = UNKNOWN_CUSTOMER
    day.terminal_id[chosen["terminal_err"]] = TERMINAL_ERR
    day.terminal_id[chosen["terminal_none"]] = TERMINAL_NONE
    day.terminal_id[chosen["terminal_empty"]] = TERMINAL_EMPTY
    day.terminal_id[chosen["stray_terminal"]] = random.choice(
        STRAY_TERMINALS, counts["stray_terminal"]
    )
    day.amount_minor[chosen["amount_zero"]] = 0
    day.second_of_day[chosen["hour_24"]] = HOUR_24
    elapsed[chosen["hour_24"]] = (day.day - start_day + 1) * 86_400
    elapsed[chosen["wrong_seconds"]] //= 1000
    # A repeat stands a little further on in the same day.
    repeats = np.sort(chosen["repeated_row"])
    places = np.minimum(repeats + 1 + random.integers(0, 1000, len(repeats)), len(day))
    return DirtyDay(day, elapsed, np.insert(rows, places, repeats), counts)
