"""The ports of packaging: what builds the archive of an environment, and where archives are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class BuiltArchive:
    """An archive on this machine.

    Attributes:
        path: the file.
        name: what it is called wherever it is kept; its last part is `sha256`.
        sha256: of the file's bytes, as hexadecimal digits.
        size_bytes: of the file.
        files: in it.
        python: the version that it is for, as `3.11`.
        packages: versions of what is installed in it, by name.
    """

    path: Path
    name: str
    sha256: str
    size_bytes: int
    files: int
    python: str
    packages: Mapping[str, str]


class EnvironmentBuilder(Protocol):
    """Builds the archive of an environment. The same code, lock and Python give the same bytes."""

    def build(self, scratch: Path, stage: Callable[[str], None]) -> BuiltArchive:
        """Build it in an empty directory, which the caller removes.

        Args:
            scratch: for the environment and the archive.
            stage: called with the name of each stage when it begins.

        Raises:
            ZaslonError: the lock cannot be used, or this Python cannot be copied.
            ServerError: a package could not be fetched.
        """


class ArchiveStore(Protocol):
    """A folder where archives are kept under the names of their contents.

    Every method raises a ServerError where the storage cannot be asked, or a SystemRefusedError where it is this machine's.
    """

    @property
    def address(self) -> str:
        """The folder, as a job names it."""

    def holds(self, archive: BuiltArchive) -> bool:
        """Whether the whole archive is there under its name."""

    def put(self, archive: BuiltArchive) -> None:
        """Write the archive. It appears under its name when it is complete; a killed call leaves nothing there."""
