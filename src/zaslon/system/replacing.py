"""A directory that appears, or replaces another, as a whole: a reader sees all of the old or all of the new.

What a killed run leaves behind is cleared by the next one, or by `discard_unfinished`. An output has its name only when all of it
is on disk.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl

from zaslon.domain.errors import InputError
from zaslon.system.durable import (
    RETIRED,
    make_directory,
    make_private,
    recover_directory,
    replace_directory,
)

_BUILDING = ".building"


@contextmanager
def replacing(out: Path, mark: str, command: str) -> Iterator[Path]:
    """A new empty directory beside `out`, which takes its name when the block ends well.

    Args:
        out: may exist only if it is empty or an earlier output.
        mark: the file by which an output of `command` is known.
        command: what makes such outputs, for the sentence.

    Raises:
        InputError: `out` is something else, the place cannot be written, or another run is writing it.
    """
    _refuse_foreign(out, mark, command)
    target = out.resolve()
    building = _building_of(target)
    made = _missing_parents(target)
    try:
        with _locked(building, out):
            try:
                recover_directory(target)
                _clear(building)
                yield building
                make_private(building)
                replace_directory(building, target)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"'{out}' cannot be written: {error}.",
            hint="Check the place, its permissions and its free space.",
        ) from error
    finally:
        for parent in made:
            with suppress(OSError):  # not empty: the output is in it
                parent.rmdir()


def discard_unfinished(directory: Path) -> None:
    """Remove what killed runs left of outputs in a directory. A run that is under way keeps its own.

    Raises:
        OSError: it cannot be removed.
    """
    for suffix in (_BUILDING, RETIRED):
        for left in directory.glob(f".*{suffix}"):
            target = left.with_name(left.name[1:].removesuffix(suffix))
            building = _building_of(target)
            with suppress(InputError), _locked(building, target):
                recover_directory(target)
                shutil.rmtree(building)


def _building_of(target: Path) -> Path:
    return target.with_name(f".{target.name}{_BUILDING}")


def _refuse_foreign(out: Path, mark: str, command: str) -> None:
    if out.exists() and not (out.is_dir() and ((out / mark).exists() or not any(out.iterdir()))):
        raise InputError(
            f"'{out}' exists and is not an output of `{command}`; it is not overwritten.",
            hint="Name another directory with --out.",
        )
    if out.resolve() == Path.cwd():
        raise InputError(
            f"'{out}' is the working directory, which cannot be replaced as a whole.",
            hint="Name a directory in it with --out.",
        )


def _missing_parents(target: Path) -> list[Path]:
    """The directories above `target` that do not exist yet, deepest first."""
    return [parent for parent in target.parents if not parent.exists()]


@contextmanager
def _locked(building: Path, out: Path) -> Iterator[None]:
    """Hold the directory against other runs. The lock goes with the process, however it ends."""
    make_directory(building)
    handle = os.open(building, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = building.exists() and os.path.samestat(os.fstat(handle), building.stat())
        if not is_ours:  # another run has just put it in place
            raise BlockingIOError
        yield
    except BlockingIOError as error:
        raise InputError(f"Another run is writing '{out}'.", hint="Wait until it has ended.") from error
    finally:
        os.close(handle)


def _clear(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
