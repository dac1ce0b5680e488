"""What every flow is given: settings, catalogue, places, adapters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from zaslon.domain.catalogue import Catalogue
from zaslon.ports import Journal, RunTracker, SnapshotStore


class Progress(Protocol):
    """Told about long work; the command line draws a bar, tests and machines stay silent."""

    def start(self, stage: str, total: int | None) -> None:
        """A stage begins; `total` steps are expected, None if nobody knows."""

    def advance(self, steps: int) -> None:
        """Steps of the current stage are done."""


class Silent:
    """A progress that tells nobody."""

    def start(self, stage: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, steps: int) -> None:
        """Nothing."""


@dataclass
class Stopwatch:
    """Seconds and peak memory by stage, for people; results never depend on them."""

    seconds: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside as that of a stage."""
        begin = time.perf_counter()
        _forget_peak()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begin, 3)
            peak = _peak_mib()
            if peak is not None:
                self.peak_mib[name] = max(peak, self.peak_mib.get(name, 0))


def _forget_peak() -> None:
    """Begin a new high-water mark of resident memory, where the system has one (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib() -> int | None:
    """Most resident memory since `_forget_peak`."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    return None


@dataclass(frozen=True)
class Options:
    """The settings that flows need, by the same names as in `zaslon.settings`."""

    seed: int
    threads: int
    label_delay_seconds: int
    chunk_bytes: int
    repeat_filter_bytes: int
    batch_records: int
    snapshot_every_records: int
    train_rows_max: int
    test_rows_max: int
    decide_rows_max: int
    test_days: int
    validation_days: int
    false_positive_rate_max: float
    limit_margin: float
    missed_frauds_max: float
    loss_per_month_max: float
    reviews_per_day_max: int


@dataclass(frozen=True)
class Adapters:
    """How the ports are opened for a home."""

    open_journal: Callable[[Path], Journal]
    open_snapshots: Callable[[Path], SnapshotStore]
    open_run_tracker: Callable[[Path], RunTracker | None]


@dataclass(frozen=True)
class Context:
    """The outside world as flows see it."""

    options: Options
    catalogue: Catalogue
    key: bytes
    home: Path
    adapters: Adapters
    progress: Progress = field(default_factory=Silent)

    def open_journal(self) -> Journal:
        """The home's log and outcomes."""
        return self.adapters.open_journal(self.home)

    def open_snapshots(self) -> SnapshotStore:
        """The home's saved states."""
        return self.adapters.open_snapshots(self.home)

    def run_tracker(self) -> RunTracker | None:
        """Where training runs are written down, or None where no tracker is installed."""
        return self.adapters.open_run_tracker(self.home)

    def in_home(self, home: Path) -> Context:
        """The same world with another home."""
        return replace(self, home=home)
