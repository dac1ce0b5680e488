"""The parts of a package: the archive of the code for a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zaslon.adapters.embedded.lock import exclusive_in
from zaslon.adapters.environment.archive_folder import ArchiveFolder
from zaslon.adapters.environment.locked_environment import RELEASE_LOCK, LockedEnvironment
from zaslon.bootstrap.copy_wiring import open_tree
from zaslon.domain.errors import InputError
from zaslon.domain.time import parse_duration_seconds
from zaslon.flows.package import Packaging
from zaslon.ports.environment_archives import ArchiveStore
from zaslon.services.context import LOCK, Progress
from zaslon.settings import Settings
from zaslon.system.durable import make_directory
from zaslon.system.opening import local_path

PACKAGES = "packages"  # of a home: its archives, unless another place is named


def build_packaging(
    settings: Settings, out: str | None, lock: Path | None, progress: Progress, *, has_interpreter: bool
) -> Packaging:
    """A package that goes to `out`, a directory or an address of S3 or HDFS; the home's `packages` for None.

    Raises:
        ZaslonError: an address or a setting cannot be used, or something is not installed.
        InputError: there is no such lock.
    """
    if lock is not None and not lock.is_file():
        raise InputError(f"'{lock}' is not a file.", hint="Name a file of requirements with hashes.")
    builder = LockedEnvironment(
        (lock or RELEASE_LOCK).resolve(), has_interpreter=has_interpreter,
        timeout_seconds=parse_duration_seconds(settings.package_timeout),
    )  # fmt: skip
    place = out or str(settings.home / PACKAGES)
    return Packaging(
        builder, open_archive_store(settings, place), lambda: _scratch(settings.home / PACKAGES), progress
    )


def open_archive_store(settings: Settings, place: str) -> ArchiveStore:
    """Where archives are kept: a directory, or an address of S3 or HDFS.

    Raises:
        ZaslonError: the address cannot be used, or something is not installed.
    """
    directory = local_path(place)
    if directory is not None:
        return ArchiveFolder(directory)
    tree = open_tree(settings, place)
    from zaslon.adapters.cluster.hadoop.archive_tree import ArchiveTree  # noqa: PLC0415  an extra

    return ArchiveTree(tree)


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """An empty directory beside the archives of a home, for one process at a time."""
    make_directory(directory)
    scratch = directory / ".building"
    with exclusive_in(directory / LOCK):
        shutil.rmtree(scratch, ignore_errors=True)  # a killed process left it
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
