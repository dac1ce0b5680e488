"""The real defects of the mission's files, at their real rates or a multiple of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.simulate.profiles import SimulationProfile
from zaslon.simulate.random_streams import DEFECTS as STREAM
from zaslon.simulate.random_streams import random_stream
from zaslon.simulate.world import SimulatedDay

# Rows affected per row. Counted over the mission's 1,879,794,138 rows; the terminals' three texts
# were counted together. `amount_zero` arises by rounding; only a multiple above 1 injects more.
_ROWS = 1_879_794_138
DEFECTS = {
    "unknown_customer": 14_623 / _ROWS,   # customer -999999
    "terminal_err": 40_312 / 3 / _ROWS,   # terminal `Err`
    "terminal_none": 40_312 / 3 / _ROWS,  # terminal `None`
    "terminal_empty": 40_312 / 3 / _ROWS,
    "hour_24": 100 / 47e6,                # 24:00:00
    "stray_terminal": 13_996 / 47e6,      # an id far outside the usual range
    "wrong_seconds": 5 / 47e6,            # tx_time_seconds that do not fit tx_datetime
    "amount_zero": 35_260 / _ROWS,
    "repeated_row": 2_553 / _ROWS,        # a whole row again
}  # fmt: skip
_IN_PLACE = [name for name in DEFECTS if name != "repeated_row"]
_CODE = {name: code for code, name in enumerate(_IN_PLACE, start=1)}
_DAY_SHARE_MAX = 1 / 2  # of a day's rows for all defects, however large the multiple

# 89518096 has 13,696 rows in the first file; of the others there are few.
_STRAY_TERMINALS = (89_518_096, 21_861, 22_225, 618_230)
_STRAY_SHARES = (13_696 / 13_996, 100 / 13_996, 100 / 13_996, 100 / 13_996)
UNKNOWN_CUSTOMER = -999_999
TERMINAL_ERR, TERMINAL_NONE, TERMINAL_EMPTY = -1, -2, -3  # written as `Err`, `None` and nothing
_REPEAT_DISTANCE_ROWS = 1_000


@dataclass(frozen=True)
class DirtyDay:
    """A day as it is written: m rows over the n payments of `day`, some of them repeated.

    Attributes:
        day: the payments, with defects put into their columns; terminals may be `TERMINAL_…`.
        elapsed_seconds: int64[n], the value of tx_time_seconds.
        elapsed_days: the value of tx_time_days.
        rows: int64[m], which payment each row shows.
        repeated: bool[m], whether the row is a repeat.
        defect: int8[n], 0 or the code of the payment's only defect.
    """

    day: SimulatedDay
    elapsed_seconds: NDArray[np.int64]
    elapsed_days: int
    rows: NDArray[np.int64]
    repeated: NDArray[np.bool_]
    defect: NDArray[np.int8]

    def counts(self, part: slice) -> dict[str, int]:
        """Defects by name among the rows of `part`; a repeat counts as a repeat alone."""
        repeated = self.repeated[part]
        codes = np.bincount(self.defect[self.rows[part][~repeated]], minlength=len(_CODE) + 1)
        found = {name: int(codes[code]) for name, code in _CODE.items()}
        return found | {"repeated_row": int(np.count_nonzero(repeated))}


def make_dirty(day: SimulatedDay, profile: SimulationProfile, seed: int) -> DirtyDay:
    """Put the profile's defects into a day's columns, in place; no payment gets two of them."""
    random = random_stream(seed, STREAM, day.day)
    elapsed_days = day.day - profile.start_day
    elapsed_seconds = elapsed_days * SECONDS_PER_DAY + day.second_of_day.astype(np.int64)
    chosen = _choose(random, len(day), profile.defects)
    repeats = np.sort(chosen.pop("repeated_row"))
    defect = np.where(day.amount_minor == 0, _CODE["amount_zero"], 0).astype(np.int8)
    for name, places in chosen.items():
        defect[places] = _CODE[name]
    _spoil(random, day, elapsed_seconds, elapsed_days, chosen)
    places = np.minimum(repeats + random.integers(1, _REPEAT_DISTANCE_ROWS, len(repeats)), len(day))
    return DirtyDay(
        day, elapsed_seconds, elapsed_days,
        np.insert(np.arange(len(day)), places, repeats),
        np.insert(np.zeros(len(day), np.bool_), places, True), defect,
    )  # fmt: skip


def _choose(random: np.random.Generator, rows: int, multiple: float) -> dict[str, NDArray[np.int64]]:
    """Which payments get which defect: distinct ones, by name."""
    rates = {name: rate * multiple for name, rate in DEFECTS.items()}
    rates["amount_zero"] = DEFECTS["amount_zero"] * max(multiple - 1, 0)
    counts = random.poisson(np.array(list(rates.values())) * rows)
    most = int(rows * _DAY_SHARE_MAX)
    if counts.sum() > most:
        counts = counts * most // counts.sum()
    hit = random.choice(rows, counts.sum(), replace=False)
    return dict(zip(rates, np.split(hit, np.cumsum(counts)[:-1]), strict=True))


def _spoil(
    random: np.random.Generator, day: SimulatedDay, elapsed_seconds: NDArray[np.int64],
    elapsed_days: int, chosen: dict[str, NDArray[np.int64]],
) -> None:  # fmt: skip
    day.customer_id[chosen["unknown_customer"]] = UNKNOWN_CUSTOMER
    day.terminal_id[chosen["terminal_err"]] = TERMINAL_ERR
    day.terminal_id[chosen["terminal_none"]] = TERMINAL_NONE
    day.terminal_id[chosen["terminal_empty"]] = TERMINAL_EMPTY
    stray = chosen["stray_terminal"]
    day.terminal_id[stray] = random.choice(_STRAY_TERMINALS, len(stray), p=_STRAY_SHARES)
    day.amount_minor[chosen["amount_zero"]] = 0
    # The real ones all have the seconds of the next midnight.
    day.second_of_day[chosen["hour_24"]] = SECONDS_PER_DAY
    elapsed_seconds[chosen["hour_24"]] = (elapsed_days + 1) * SECONDS_PER_DAY
    # The real ones look like seconds of the day alone; on the first day that would be right.
    wrong = chosen["wrong_seconds"]
    elapsed_seconds[wrong] = day.second_of_day[wrong] if elapsed_days else 0
