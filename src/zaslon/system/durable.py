"""Files that survive a loss of power: whatever a home depends on is written through this module.

A file system keeps the content of a file only after `fsync` of the file, and its name only after
`fsync` of its directory. So content comes first, then one rename, then the directory. A function that
has returned has its result on disk; a crash at any moment leaves what was before or what comes after.
See docs/decisions/0021.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from zaslon.system.c_library import exchange_names

PRIVATE_FILE, PRIVATE_DIRECTORY = 0o600, 0o700  # whatever may hold customer data is its owner's only
RETIRED = ".retired"  # ends the hidden name that a directory has while another takes its own
_PARTIAL = ".partial"
_SYNC_THREADS = 16  # file systems write at once what several wait for: ten times faster than one by one


@contextmanager
def writing(path: Path, mode: int = PRIVATE_FILE) -> Iterator[IO[bytes]]:
    """A file to write into; it takes the name `path` when the block ends well, and goes otherwise.

    Args:
        path: in a directory that exists; what has this name is replaced.
        mode: permissions, less those that the process masks.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # lets `settle` see that it is being written
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_file(path: Path, content: bytes, mode: int = PRIVATE_FILE) -> None:
    """Write a file, with the directories above it where there are none."""
    make_directory(path.parent)
    with writing(path, mode) as file:
        file.write(content)


def make_directory(path: Path) -> None:
    """Make a directory, for its owner only, and those above it. One that exists has its name on disk, too."""
    missing = [path] if not path.is_dir() else []
    while missing and not missing[-1].parent.is_dir():
        missing.append(missing[-1].parent)
    deepest = missing[-1].parent if missing else path
    sync_directory(deepest.parent)  # its creator may have been killed before that
    for directory in reversed(missing):
        directory.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        sync_directory(directory.parent)


def make_private_file(path: Path) -> Path:
    """An empty file for its owner only, where there is none: what writes past us, as SQLite, keeps its mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE))
    return path


def make_private(directory: Path) -> None:
    """Let only its owner read a directory and all that is in it."""
    directory.chmod(PRIVATE_DIRECTORY)
    for folder, directories, files in os.walk(directory):
        for name in directories:
            Path(folder, name).chmod(PRIVATE_DIRECTORY)
        for name in files:
            Path(folder, name).chmod(PRIVATE_FILE)


def rename(old: Path, new: Path) -> None:
    """Give a file or a directory another name, once everything in it is on disk.

    `new` may be a file, or a directory without entries: it is replaced.
    """
    _sync_tree(old)
    old.replace(new)
    sync_directory(new.parent)
    if old.parent != new.parent:
        sync_directory(old.parent)


def replace_directory(new: Path, target: Path) -> None:
    """Let the directory `new` take the name `target`; what had it is removed.

    In one step where the file system can exchange two names. Otherwise nothing is called `target` for
    a moment, and a process killed in it leaves that to `recover_directory`.
    """
    if not target.exists():
        rename(new, target)
        return
    _sync_tree(new)
    retired = new
    if not exchange_names(new, target):
        retired = _retired(target)
        target.replace(retired)
        new.replace(target)
    sync_directory(target.parent)
    shutil.rmtree(retired)


def recover_directory(target: Path) -> None:
    """Where `replace_directory` was killed between two renames, the old directory gets its name back."""
    retired = _retired(target)
    if not retired.exists():
        return
    if not target.exists():
        rename(retired, target)
    shutil.rmtree(retired, ignore_errors=True)


def settle(directory: Path) -> None:
    """Finish what killed processes began: all names in a directory are on disk, half files are gone."""
    for partial in directory.glob(f".*{_PARTIAL}"):
        if partial.is_file() and not _is_being_written(partial):
            partial.unlink(missing_ok=True)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on disk."""
    try:
        _sync(directory)
    except PermissionError:  # it may be written but not read: sync the whole file system
        os.sync()
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that knows no such thing
            raise


def _sync_tree(path: Path) -> None:
    """Wait until a file, or a directory with everything below it, is on disk."""
    if not path.is_dir():
        _sync(path)
        return
    found = list(os.walk(path))
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        for _ in pool.map(_sync, [Path(folder, name) for folder, _, names in found for name in names]):
            pass
        for _ in pool.map(sync_directory, [Path(folder) for folder, _, _ in found]):
            pass


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _retired(target: Path) -> Path:
    return target.with_name(f".{target.name}{RETIRED}")


def _is_being_written(partial: Path) -> bool:
    """Whether a living process holds the lock that `writing` takes."""
    try:
        with partial.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
