"""The logs of a home: `log` is in use; `log-1`, `log-2`, … were archived by later runs.

A run makes its log beside the one in use, so that nothing is lost where it does not come to its end:

    .log-building   the new log until the run has decided; discarded if it is not to be used, or by the next process
    .log-ready      complete: it takes the place of `log`, now or when the next process starts
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from zaslon.domain.errors import DataError, ZaslonError
from zaslon.ports import Journal, LogReader
from zaslon.services.context import JOBS, SCORED, STREAM, Context
from zaslon.services.home import existing_home
from zaslon.system.durable import make_directory, rename, settle
from zaslon.system.replacing import discard_unfinished

_BUILDING, _READY = ".log-building", ".log-ready"
_NAME = re.compile(rf"log(-[1-9][0-9]*)?|{STREAM}")


def with_named_log(context: Context, name: str) -> Context:
    """The context of a log that a person named.

    Raises:
        ZaslonError: no log is ever called so, as with another directory of the home or beside it.
    """
    if _NAME.fullmatch(name) is None:
        raise ZaslonError(
            f"'{name}' is not the name of a log.", hint=f"Use log, log-1, log-2, … or {STREAM}."
        )
    return context.with_log(name)


def new_log(context: Context) -> Context:
    """The context of a log to come, empty; `put_in_use` makes it the home's."""
    discard_new_log(context)
    return context.with_log(_BUILDING)


def discard_new_log(context: Context) -> None:
    """Remove the log made by `new_log`, if there is one: what it decided was a trial."""
    shutil.rmtree(context.home / _BUILDING, ignore_errors=True)


def put_in_use(context: Context) -> None:
    """Let the log made by `new_log` replace the one in use, which is archived."""
    rename(context.home / _BUILDING, context.home / _READY)
    _settle(context.home, context.log)


def has_records_of(context: Context, model: str) -> bool:
    """Whether the log in use has records from after the newest promotion of a model, besides changes.

    One that cannot be read, as of an earlier format, cannot go on and counts as empty.
    """
    if not (context.home / context.log).is_dir():
        return False
    with suppress(ZaslonError), closing(context.open_journal_for_reading()) as journal:
        end = journal.next_position
        for serving in journal.servings():
            if serving.versions.model != model:
                return False
            if end - serving.position > (serving.change is not None):
                return True
            end = serving.position
    return False


def _settle(home: Path, log: str) -> None:
    """Take the last step of `put_in_use`, from wherever a killed process left it."""
    ready, in_use = home / _READY, home / log
    if not ready.exists():
        return
    if in_use.exists():
        number = 1
        while (home / f"{log}-{number}").exists():
            number += 1
        rename(in_use, home / f"{log}-{number}")
    rename(ready, in_use)


@contextmanager
def exclusive(context: Context) -> Iterator[None]:
    """Keep other processes out of the home; what a killed one left half done is finished or removed first.

    That goes also for names which it gave and which have not reached the disk yet.

    Raises:
        BusyError: another process is inside.
    """
    with context.exclusive():
        for directory in (context.home, *context.home.glob("*/")):
            settle(directory)
        _settle(context.home, context.log)
        discard_new_log(context)
        discard_outputs(context)
        yield


def discard_outputs(context: Context) -> None:
    """Remove what killed processes left of clean data: it holds original bytes. For who holds the lock of the log.

    Raises:
        OSError: it cannot be removed.
    """
    for directory in (context.home, context.home / SCORED):
        discard_unfinished(directory)


class GrowingLog:
    """A log that another process writes, for a process that reads it on as it grows.

    It is opened once, and again where another log has taken its place: a stream's costs connections.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reader: LogReader | None = None

    def reader(self) -> LogReader:
        """The log with what is recorded now, until the next call. Raises as opening it does."""
        if self._reader is None or not self._reader.refresh():
            self.close()
            self._reader = self._context.open_journal_for_reading()
        return self._reader

    def close(self) -> None:
        """Close it; the next call opens it again, as after a broker that was unreachable."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


@contextmanager
def idle_journal(context: Context) -> Iterator[Journal]:
    """The journal of the log in use while no process decides, for a record that decides nothing.

    Raises:
        BusyError: a process decides.
        DataError: there is no such log, or a run has not finished putting it in place.
    """
    place = context.home / context.log
    if context.log == STREAM or not place.is_dir() or (context.home / _READY).exists():
        raise DataError(f"There is no log '{place}' to write into.")
    with context.exclusive(), closing(context.open_journal()) as journal:
        yield journal


@contextmanager
def one_job(context: Context) -> Iterator[None]:
    """Keep other jobs, which change clean days and models, out of the home. Its log is not locked.

    What a killed job left half done is removed first.

    Raises:
        BusyError: another process is at such work.
    """
    directory = context.home / JOBS
    make_directory(directory)
    with context.adapters.exclusive_in(directory):
        discard_unfinished(context.home)
        yield


def logs_put_aside(context: Context) -> list[Context]:
    """The contexts of the logs of earlier runs."""
    names = sorted(path.name for path in context.home.glob("log-*") if path.is_dir())
    return [context.with_log(name) for name in names if _NAME.fullmatch(name)]


def existing_log(context: Context) -> Context:
    """The context, if its log exists.

    Raises:
        DataError: the home or the log is missing; names the existing ones.
    """
    if context.log == STREAM:
        return context  # what the broker keeps needs nothing in the home
    if (existing_home(context.home) / context.log).is_dir():
        return context
    found = sorted(path.name for path in context.home.glob("log*") if path.is_dir())
    raise DataError(
        f"There is no log '{context.log}' in '{context.home}'.",
        hint=f"There are: {', '.join(found)}." if found else "`zaslon run` and `zaslon score` begin one.",
    )
