"""A measured figure, and between which limits the truth lies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, `low` … `high`; NaN where not defined."""

    value: float
    low: float
    high: float
