"""LatencyBudget: how long a group of records takes, and what must be left out to be in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zaslon.domain.events import Degradation

_MEMORY = 0.8  # share of the old estimate in the new one: some five groups are remembered
_SLOWNESS_MIN, _SLOWNESS_MAX = 0.25, 100.0
_COMMIT_SECONDS_AT_FIRST = 0.002


@dataclass(frozen=True)
class Cost:
    """What the engine needs for a group: so many seconds, and so many more for each record."""

    group_seconds: float
    record_seconds: float

    def seconds(self, records: int) -> float:
        """For a group of this many records."""
        return self.group_seconds + self.record_seconds * records


class LatencyBudget:
    """Estimates from the warm-up, corrected by what is seen while serving.

    Args:
        costs: of the engine by what is left out, as measured on this machine.
    """

    def __init__(self, costs: Mapping[Degradation, Cost]) -> None:
        self._costs = dict(costs)
        self._slowness = 1.0
        self._commit_seconds = _COMMIT_SECONDS_AT_FIRST

    def needed_seconds(self, degradation: Degradation, records: int) -> float:
        """Seconds until a group is decided and durable."""
        return self._costs[degradation].seconds(records) * self._slowness + self._commit_seconds

    def degradation(self, records: int, remaining_seconds: float) -> Degradation:
        """The least that must be left out; everything that can be where nothing suffices."""
        fits = (x for x in Degradation if self.needed_seconds(x, records) <= remaining_seconds)
        return next(fits, Degradation.RULES)

    def learn(
        self, degradation: Degradation, records: int, engine_seconds: float, commit_seconds: float
    ) -> None:
        """Take in how long a group took."""
        seen = engine_seconds / self._costs[degradation].seconds(records)
        mixed = _MEMORY * self._slowness + (1 - _MEMORY) * seen
        self._slowness = min(max(mixed, _SLOWNESS_MIN), _SLOWNESS_MAX)
        self._commit_seconds = _MEMORY * self._commit_seconds + (1 - _MEMORY) * commit_seconds
