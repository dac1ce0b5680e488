"""How much each key may ask for: a bucket that fills steadily and is emptied by calls."""

from __future__ import annotations


class Rates:
    """Token buckets by key.

    Args:
        per_second: records that a key may send in the long run.
        burst: records that it may send at once; a call of more is never let through.
    """

    def __init__(self, per_second: int, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, key: str, records: int, now_seconds: float) -> float:
        """0 and the records are counted; or the seconds to wait, and nothing is counted."""
        left, then = self._left.get(key, (float(self._burst), now_seconds))
        left = min(self._burst, left + (now_seconds - then) * self._per_second)
        if records <= left:
            self._left[key] = (left - records, now_seconds)
            return 0.0
        self._left[key] = (left, now_seconds)
        return (records - left) / self._per_second
