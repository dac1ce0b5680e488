"""Puts the parts together: the one place where adapters are chosen. Nothing is built at import."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

from zaslon.adapters.embedded.clock import SystemClock
from zaslon.adapters.embedded.journal import SqliteJournal
from zaslon.adapters.embedded.lock import alone_in
from zaslon.adapters.embedded.snapshots import FileSnapshots
from zaslon.domain.catalogue import Catalogue, load_catalogue
from zaslon.domain.errors import SystemRefusedError
from zaslon.domain.time import parse_duration_seconds
from zaslon.flows.context import KEY, LOCK, Adapters, Context, Options
from zaslon.flows.serve import Desk, GroupDone, ServeLimits
from zaslon.ports import Clock, Decider, RunTracker
from zaslon.settings import Settings


def build_context(settings: Settings) -> Context:
    """Everything that a flow needs, on embedded defaults.

    Raises:
        CatalogueError: the catalogue cannot be used.
        SystemRefusedError: the home cannot be made or written.
    """
    home = settings.home
    try:
        home.mkdir(parents=True, exist_ok=True)
        key = _pseudonym_key(settings)
    except (OSError, UnicodeDecodeError) as error:
        raise SystemRefusedError(
            f"Home '{home}' cannot be used: {error}.", hint="Name another one with --home."
        ) from error
    return Context(
        options=_options(settings),
        catalogue=_catalogue(settings),
        key=key,
        home=home,
        adapters=Adapters(
            open_journal=lambda log: SqliteJournal(log / "journal.db"),
            open_journal_for_reading=lambda log: SqliteJournal(log / "journal.db", read_only=True),
            open_snapshots=lambda log, journal: FileSnapshots(log / "snapshots" / journal.identity),
            open_run_tracker=_run_tracker,
            alone_in=lambda home: alone_in(home / LOCK),
        ),
    )


def build_decider(settings: Settings, context: Context, watch: Callable[[GroupDone], None]) -> Decider:
    """What decides behind the service's door: engine and journal of this process."""
    limits = ServeLimits(settings.api_queue_records_max, settings.api_group_records_max)
    return Desk(context, limits, SystemClock(), watch)


def build_clock() -> Clock:
    """The clock of this machine."""
    return SystemClock()


def _options(settings: Settings) -> Options:
    given = settings.model_dump(include={field.name for field in fields(Options)})
    return Options(**given, label_delay_seconds=parse_duration_seconds(settings.label_delay))


def _catalogue(settings: Settings) -> Catalogue:
    return load_catalogue(settings.catalogue)


def _pseudonym_key(settings: Settings) -> bytes:
    """The key from the settings, or one made once and kept in the home for its owner only."""
    if settings.pseudonym_key is not None:
        return settings.pseudonym_key.get_secret_value().encode()[:64]
    path = settings.home / KEY
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    return path.read_text("ascii").strip().encode()


def _run_tracker(home: Path) -> RunTracker | None:
    """MLflow on SQLite where the extra is installed."""
    if find_spec("mlflow") is None:
        return None
    from zaslon.adapters.cluster.mlflow import MlflowRuns  # noqa: PLC0415  an extra

    return MlflowRuns(home / "mlflow")
