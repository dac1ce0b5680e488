"""How numbers, durations and ordinals are written in sentences for people."""

from __future__ import annotations

import math
from functools import cache

from zaslon.domain.time import SECONDS_PER_DAY, parse_duration_seconds

_TIMES = "×"
_UNITS = (("day", SECONDS_PER_DAY), ("hour", 3_600), ("minute", 60), ("second", 1))


def number_text(value: float) -> str:
    """`3`, `0.25`, `1234.5`, `unknown` for NaN: at most two decimals, three digits below one."""
    if math.isnan(value):
        return "unknown"
    if math.isinf(value) or abs(value) >= 1e15:
        return f"{value:.3g}"
    if value == int(value):
        return str(int(value))
    if abs(value) >= 1:
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{value:.3g}"


def money_text(amount: float, minor_digits: int) -> str:
    """`812.40` for an amount in major units; `unknown` for NaN."""
    return f"{amount:.{minor_digits}f}" if math.isfinite(amount) else number_text(amount)


def ratio_text(ratio: float) -> str:
    """The ratio and a multiplication sign: one decimal, none from 100, two digits below one."""
    digits = ".0f" if abs(ratio) >= 100 else ".1f" if abs(ratio) >= 1 else ".2g"
    return f"{ratio:{digits}}{_TIMES}"


def percent_text(share: float) -> str:
    """`34.2 %` for 0.342; more decimals for small shares, none for whole ones."""
    percent = 100 * share
    if 0 < abs(percent) < 0.1:
        return f"{percent:.2g} %"
    return f"{percent:.1f} %"


def ordinal_text(number: int) -> str:
    """`first`, `2nd`, `3rd`, `11th`, `21st`."""
    if number == 1:
        return "first"
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def counted(number: int, noun: str) -> str:
    """`no payment`, `1 payment`, `5 payments`."""
    if noun.endswith("y") and number > 1:
        return f"{number} {noun[:-1]}ies"
    return f"no {noun}" if number == 0 else f"1 {noun}" if number == 1 else f"{number} {noun}s"


def elapsed_text(seconds: float) -> str:
    """`35 seconds`, `2 hours`, `2.5 days`: in the largest unit of which there is at least one."""
    unit, length = next(((u, s) for u, s in _UNITS if seconds >= s), ("second", 1))
    number = f"{seconds / length:.1f}".removesuffix(".0")
    return f"{number} {unit}" if number == "1" else f"{number} {unit}s"


@cache
def window_text(window: str) -> str:
    """`30 days` for `30d`: weeks are written as days."""
    return elapsed_text(parse_duration_seconds(window))


@cache
def window_adjective(window: str) -> str:
    """`30-day` for `30d`."""
    number, unit = window_text(window).split(" ")
    return f"{number}-{unit.removesuffix('s')}"
