"""What every flow is given: settings, catalogue, places, adapters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from zaslon.domain.catalogue import Catalogue
from zaslon.ports import Clock, Journal, Ledger, LogReader, RunTracker, SnapshotStore
from zaslon.ports.archives import Archive, ServedDecisions
from zaslon.ports.clusters import Cluster
from zaslon.ports.entities import EntityIndex
from zaslon.ports.policies import PolicyVersions
from zaslon.ports.registry import Registry
from zaslon.ports.shadows import ShadowStore
from zaslon.ports.streams import Sender, Stream
from zaslon.system.c_library import return_freed_memory

# Files of a home that belong to it and not to any run.
LOCK, KEY, STORE = ".lock", "pseudonym.key", "store.db"
# What jobs on clean days and models keep for themselves: their lock.
JOBS = "jobs"
SCHEDULE = "schedule"
# Clean data of the files that were decided, by content.
SCORED = "scored"
# The home's log that a broker keeps; its directory holds only the snapshots.
STREAM = "stream"
# What challengers would have decided, by log.
SHADOW = "shadow"
# What a service in front of the stream keeps of it.
GATEWAY = "gateway"


class Progress(Protocol):
    """Observes long work; the command line draws a bar, tests and machines stay silent."""

    def start(self, stage: str, total: int | None, unit: str = "rows") -> None:
        """A stage begins; `total` steps are expected, None if unknown, each of them a `unit`."""

    def advance(self, steps: int) -> None:
        """Steps of the current stage are done."""

    def warn(self, sentence: str) -> None:
        """Something that a person should know and that does not stop the work."""


class Silent:
    """A progress that shows nothing."""

    def start(self, stage: str, total: int | None, unit: str = "rows") -> None:
        """Nothing."""

    def advance(self, steps: int) -> None:
        """Nothing."""

    def warn(self, sentence: str) -> None:
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
            return_freed_memory()
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
    period_frauds_target: int
    period_days_max: int
    false_positive_rate_max: float
    limit_margin: float
    rejected_share_max: float
    missed_frauds_max: float
    loss_per_month_max: float
    reviews_per_day_max: int | None
    retrain_window: str
    retrain_days_min: int
    guard_calibration_max: float
    guard_segment_max: float
    guard_drift_max: float
    guard_score_us_max: float
    guard_model_bytes_max: int
    guard_served_max: float
    original_retention_days: int
    stream_report_seconds: float
    stream_batch_records: int


@dataclass(frozen=True)
class Adapters:
    """How the ports are opened: a log in its directory, everything else in a home.

    The log of a stream is opened for reading only: its scorers write it. `actor` is the user of this process.
    """

    open_journal: Callable[[Path], Journal]
    open_journal_for_reading: Callable[[Path], LogReader]
    open_snapshots: Callable[[Path, LogReader], SnapshotStore]
    open_run_tracker: Callable[[Path], RunTracker | None]
    open_registry: Callable[[Path], Registry | None]
    exclusive_in: Callable[[Path], AbstractContextManager[None]]
    one_at_a_time_in: Callable[[Path], AbstractContextManager[None]]
    open_stream_snapshots: Callable[[Path], SnapshotStore]
    open_stream: Callable[[Callable[[str], None]], Stream]
    open_sender: Callable[[str, Callable[[str], None]], Sender]
    open_ledger: Callable[[Path], Ledger]
    open_policies: Callable[[Path], PolicyVersions]
    open_shadow: Callable[[Path, bool], ShadowStore]
    open_archive: Callable[[], Archive]
    open_entity_index: Callable[[Path], EntityIndex]
    open_cluster: Callable[[], AbstractContextManager[Cluster]]
    served_decisions: Callable[[Path], Sequence[Callable[[], ServedDecisions]]]
    clock: Clock
    actor: str


@dataclass(frozen=True)
class Context:
    """The outside world as flows see it. `log` names the home's log that is meant, see `flows.logs`."""

    options: Options
    catalogue: Catalogue
    key: bytes
    home: Path
    adapters: Adapters
    progress: Progress = field(default_factory=Silent)
    log: str = "log"

    def open_journal(self) -> Journal:
        """The log and its outcomes; an empty one where there is none."""
        return self.adapters.open_journal(self.home / self.log)

    def open_journal_for_reading(self) -> LogReader:
        """The same beside its writer; every thread opens its own."""
        return self.adapters.open_journal_for_reading(self.home / self.log)

    def open_snapshots(self, journal: LogReader) -> SnapshotStore:
        """The states saved of a log."""
        return self.adapters.open_snapshots(self.home / self.log, journal)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other processes out of the home: for every flow that writes into it.

        Entering raises BusyError where another process is inside.
        """
        return self.adapters.exclusive_in(self.home)

    def open_archive(self) -> Archive:
        """Where decisions are copied to; raises a ServerError where no PostgreSQL is named."""
        return self.adapters.open_archive()

    def open_entity_index(self) -> EntityIndex:
        """By which decisions of the log are found by entity; every thread opens its own."""
        return self.adapters.open_entity_index(self.home / self.log)

    def served_decisions(self) -> Sequence[Callable[[], ServedDecisions]]:
        """What opens each place where decisions can be looked up: the log, and the archive, if there is one."""
        return self.adapters.served_decisions(self.home / self.log)

    def open_shadow(self, log_identity: str, *, reading: bool = False) -> ShadowStore:
        """What challengers would have decided of a log; only `reading` it needs that there is one."""
        return self.adapters.open_shadow(self.shadow_file(log_identity), reading)

    def shadow_file(self, log_identity: str) -> Path:
        """Where it is kept. The identity that Kafka gives may have a slash."""
        return self.home / SHADOW / f"{log_identity.replace('/', '_')}.db"

    def open_ledger(self) -> Ledger:
        """The promotion ledger."""
        return self.adapters.open_ledger(self.home)

    def open_policies(self) -> PolicyVersions:
        """The versions of the policy."""
        return self.adapters.open_policies(self.home)

    def run_tracker(self) -> RunTracker | None:
        """Where runs in progress are written down; None where nothing is to be written."""
        return self.adapters.open_run_tracker(self.home)

    def open_registry(self) -> Registry | None:
        """Where people look models up; None where nothing is to be written."""
        return self.adapters.open_registry(self.home)

    def in_home(self, home: Path) -> Context:
        """The same world with another home."""
        return replace(self, home=home)

    def with_log(self, log: str) -> Context:
        """The same home with another of its logs."""
        return replace(self, log=log)
