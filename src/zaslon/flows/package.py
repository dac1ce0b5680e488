"""Package: the archive that a cluster needs, under a name that says what is in it. Again, there is nothing to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zaslon.ports.environment_archives import ArchiveStore, BuiltArchive, EnvironmentBuilder
from zaslon.services.context import Progress, Stopwatch


@dataclass(frozen=True)
class Packaging:
    """The world of one package.

    Attributes:
        builder: builds the archive.
        store: keeps it.
        scratch: a new empty directory, which goes with what is in it when the block ends.
        progress: is shown what is done.
    """

    builder: EnvironmentBuilder
    store: ArchiveStore
    scratch: Callable[[], AbstractContextManager[Path]]
    progress: Progress


@dataclass(frozen=True)
class Packaged:
    """What was built. `was_there`: the store had it already, and nothing was written."""

    built: BuiltArchive
    place: str
    was_there: bool
    seconds: Mapping[str, float]

    @property
    def archive(self) -> str:
        """The archive as a job names it."""
        return f"{self.place}/{self.built.name}"

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "archive": self.archive,
            "sha256": self.built.sha256,
            "bytes": self.built.size_bytes,
            "files": self.built.files,
            "python": self.built.python,
            "packages": dict(self.built.packages),
            "was_there": self.was_there,
            "seconds": dict(self.seconds),
        }


def package(world: Packaging) -> Packaged:
    """Build the archive, and write it where it is not yet.

    Raises:
        ZaslonError: the lock cannot be used, or this Python cannot be copied.
        ServerError: a package could not be fetched, or the storage refused the archive.
        BusyError: another process is building one in this home.
    """
    watch = Stopwatch()
    with world.scratch() as scratch:
        with watch.stage("build"):
            built = world.builder.build(scratch, lambda name: world.progress.start(name, None, "files"))
        world.progress.start("store", None, "files")
        with watch.stage("store"):
            was_there = world.store.holds(built)
            if not was_there:
                world.store.put(built)
    return Packaged(built, world.store.address, was_there, watch.seconds)
