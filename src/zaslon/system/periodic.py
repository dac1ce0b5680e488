"""Work that is done again and again beside everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Periodic:
    """Does `work` every so many seconds, in a thread of its own, until it is closed; first after that time.

    What `work` raises ends the thread: it must report by itself what may fail.
    """

    def __init__(self, work: Callable[[], object], every_seconds: float, name: str) -> None:
        self._work, self._every_seconds = work, every_seconds
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Go on until the block ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Wait for the work in progress, and do no more."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(self._every_seconds):
            self._work()
