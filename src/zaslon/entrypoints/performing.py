"""How a command is performed: context, lock, progress, result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Any

from zaslon.bootstrap import build_context
from zaslon.entrypoints.console import Bars, Quiet, print_json
from zaslon.services.context import Context, Progress
from zaslon.services.home import existing_home
from zaslon.services.logs import exclusive, one_job
from zaslon.settings import Settings, load_settings


class Lock(Enum):
    """What a command keeps other processes out of."""

    NOTHING = "it only reads"
    JOBS = "clean days and models: a service or stream may decide in the home meanwhile"
    LOG = "the home's log"
    HOME = "all of it"


@contextmanager
def locked(context: Context, lock: Lock) -> Iterator[None]:
    """Hold a lock while the block runs.

    Raises:
        BusyError: another process holds it.
    """
    if lock is Lock.NOTHING:
        yield
    elif lock is Lock.JOBS:
        with one_job(context):
            yield
    elif lock is Lock.LOG:
        with exclusive(context):
            yield
    else:
        with exclusive(context), one_job(context):
            yield


def perform(
    as_json: bool,
    work: Callable[[Context], Any],
    display: Callable[[Any], None],
    *,
    lock: Lock,
    makes_home: bool = True,
    corner: str | None = None,
    **settings: object,
) -> int:
    """Build the context, do the work under a progress bar, show its result.

    `corner` is a home within the home. A command that needs an existing home does not create one (`makes_home`).
    """
    chosen = settings_of(corner, settings)
    if lock is not Lock.NOTHING and not makes_home:
        existing_home(chosen.home)
    context = build_context(chosen, reading=lock is Lock.NOTHING)
    with Quiet() if as_json else Bars() as bars, locked(context, lock):
        result = work(replace(context, progress=bars))
    return _shown(as_json, result, display)


def perform_without_context(
    as_json: bool, work: Callable[[Progress], Any], display: Callable[[Any], None]
) -> int:
    """The same for a command that needs no catalogue and no lock on the home."""
    with Quiet() if as_json else Bars() as bars:
        result = work(bars)
    return _shown(as_json, result, display)


def _shown(as_json: bool, result: Any, display: Callable[[Any], None]) -> int:
    if as_json:
        print_json(result.to_json_dict())
    else:
        display(result)
    return 0


def settings_of(corner: str | None, given: Mapping[str, object]) -> Settings:
    """The settings with what a command was given; `corner` is a home within the home."""
    settings = load_settings(**given)
    if corner is None:
        return settings
    # What happens in a corner is not of the home, and its promotions are not for a shared ledger.
    return settings.model_copy(update={"home": settings.home / corner, "store_url": None})
