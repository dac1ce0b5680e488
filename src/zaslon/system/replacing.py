"""A directory that appears, or replaces another, as a whole: a reader sees all of the old or all of the new.

What a killed run leaves behind is cleared by the next one. After a power failure the files may not
have reached the disk; what reads them says so, and cleaning again makes them.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl

from zaslon.domain.errors import InputError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


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
    building = target.with_name(f".{target.name}.building")
    retired = target.with_name(f".{target.name}.retired")
    made = _missing_parents(target)
    try:
        with _locked(building, out):
            try:
                _recover(target, retired)
                _clear(building)
                yield building
                _put_in_place(building, target, retired)
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


def _refuse_foreign(out: Path, mark: str, command: str) -> None:
    if out.exists() and not (out.is_dir() and ((out / mark).exists() or not any(out.iterdir()))):
        raise InputError(
            f"'{out}' exists and is no output of `{command}`; it is not overwritten.",
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
    building.mkdir(parents=True, exist_ok=True)
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


def _recover(target: Path, retired: Path) -> None:
    """Where a run was killed between two renames, the old directory gets its name back."""
    if not target.exists() and retired.exists():
        retired.rename(target)
    shutil.rmtree(retired, ignore_errors=True)


def _put_in_place(building: Path, target: Path, retired: Path) -> None:
    """In one step where the file system can exchange two names, else in two."""
    if not target.exists():
        building.rename(target)
    elif not _exchange(building, target):
        target.rename(retired)
        building.rename(target)
        shutil.rmtree(retired)


def _exchange(one: Path, other: Path) -> bool:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    done = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return bool(done == 0)
