"""A folder of this machine as a store of archives."""

from __future__ import annotations

import shutil
from pathlib import Path

from zaslon.adapters.environment.tar_archive import sha256_of
from zaslon.domain.errors import SystemRefusedError
from zaslon.ports.environment_archives import BuiltArchive
from zaslon.system.durable import make_directory, writing

_READABLE_FILE = 0o644  # there is nothing of a customer in it, and Spark's user has to read it


class ArchiveFolder:
    """`zaslon.ports.environment_archives.ArchiveStore` in a local directory, which is made if it does not exist."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    @property
    def address(self) -> str:
        """The directory's path."""
        return str(self._directory)

    def holds(self, archive: BuiltArchive) -> bool:
        """Whether the same bytes are there (see the port)."""
        path = self._directory / archive.name
        try:
            return path.is_file() and sha256_of(path) == archive.sha256
        except OSError as error:
            raise SystemRefusedError(
                f"'{path}' cannot be read: {error}.", hint="Name another place with --out."
            ) from error

    def put(self, archive: BuiltArchive) -> None:
        """Write it (see the port)."""
        try:
            make_directory(self._directory)
            with (
                writing(self._directory / archive.name, _READABLE_FILE) as target,
                archive.path.open("rb") as source,
            ):
                shutil.copyfileobj(source, target)
        except OSError as error:
            raise SystemRefusedError(
                f"'{self._directory}' cannot be written: {error}.", hint="Name another place with --out."
            ) from error
