"""The clock of this machine."""

from __future__ import annotations

import time


class SystemClock:
    """`zaslon.ports.Clock` of the operating system."""

    def now_seconds(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def monotonic_seconds(self) -> float:
        """Seconds from some moment on, never backwards."""
        return time.monotonic()
