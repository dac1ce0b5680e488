"""Copy: a folder from one storage to another by Hadoop's DistCp, compared byte for byte. Again, it resumes.

DistCp alone is not enough. A killed one leaves unfinished files at the target, on which the next copy from there fails;
and between S3 and HDFS, which have no common checksum, it takes a changed file of the same length for the same one (up
to Hadoop 3.3.2). So unfinished files are removed first, and afterwards both sides of every file are read. What was
compared is in a manifest: as long as both versions are the same, it is not read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zaslon.domain.errors import InputError, ServerError
from zaslon.ports.copying import CopyTool, FileTree, StoredFile
from zaslon.services.context import Progress, Stopwatch
from zaslon.services.copy_manifest import Manifest

_KEEP_SECONDS = 30.0
Files = Mapping[str, StoredFile]


@dataclass(frozen=True)
class Copying:
    """The world of one copy.

    Attributes:
        source, target: the two trees.
        tool: copies the one into the other.
        directory: an existing one for the manifest.
        exclusive: keeps other copies of this pair out; raises BusyError.
        threads: files that are read at once.
        progress: is shown how far it is.
    """

    source: FileTree
    target: FileTree
    tool: CopyTool
    directory: Path
    exclusive: Callable[[], AbstractContextManager[None]]
    threads: int
    progress: Progress


@dataclass(frozen=True)
class Copied:
    """What a copy found and did. `log` is None where nothing had to be copied."""

    source: str
    target: str
    files: int
    bytes: int
    files_copied: int
    bytes_copied: int
    files_copied_again: int
    files_verified: int
    files_only_at_target: int
    manifest: Path
    log: Path | None
    seconds: Mapping[str, float]

    @property
    def files_skipped(self) -> int:
        """Files that the target had already."""
        return self.files - self.files_copied

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "source": self.source,
            "target": self.target,
            "files": self.files,
            "bytes": self.bytes,
            "files_copied": self.files_copied,
            "bytes_copied": self.bytes_copied,
            "files_copied_again": self.files_copied_again,
            "files_skipped": self.files_skipped,
            "files_verified": self.files_verified,
            "files_only_at_target": self.files_only_at_target,
            "seconds": dict(self.seconds),
            "paths": {
                "manifest": str(self.manifest),
                "log": None if self.log is None else str(self.log),
            },
        }


def copy(world: Copying, *, verify_all: bool = False) -> Copied:
    """Copy all files of the source that the target lacks or has otherwise, and compare both sides of every file.

    Args:
        world: what is copied, where to, by what.
        verify_all: read every file of both sides, whatever the manifest says.

    Raises:
        InputError: the source has no files.
        ServerError: a storage cannot be asked, DistCp failed, or files still differ after a second copy.
        BusyError: another process is copying this.
    """
    with world.exclusive():
        return _Copy(world, verify_all).done()


class _Copy:
    """One copy, step by step."""

    def __init__(self, world: Copying, verify_all: bool) -> None:
        self._world, self._verify_all = world, verify_all
        source, target = world.source.address, world.target.address
        self._manifest = Manifest(world.directory / "manifest.json", source, target)
        self._watch = Stopwatch()
        self._log: Path | None = None

    def done(self) -> Copied:
        world = self._world
        world.tool.end_left()
        wanted, before = self._listed()
        self._manifest.forget_others(wanted)
        if not all(self._manifest.confirms(name, file, before.get(name)) for name, file in wanted.items()):
            self._run(None)
        after, again = self._verified(wanted, wanted), []
        if after[1]:
            again = after[1]
            self._run(again)
            after = self._verified(wanted, again)
        if after[1]:
            raise _still_different(world, after[1])
        return self._report(wanted, before, after[0], len(again))

    def _listed(self) -> tuple[Files, Files]:
        """The files of the source and of the target, where nothing unfinished is left."""
        world = self._world
        world.progress.start("list", None, "files")
        with self._watch.stage("list"):
            wanted = world.source.files()
            if not wanted:
                raise InputError(
                    f"'{world.source.address}' does not exist, or has no files.", hint="Check the address."
                )
            world.progress.advance(len(wanted))
            if left := world.target.remove_unfinished():
                world.progress.warn(f"{left} unfinished files of a copy that was cut short were removed.")
            return wanted, world.target.files()

    def _run(self, only: Collection[str] | None) -> None:
        world = self._world
        self._log = world.tool.log(only)
        world.progress.start("copy" if only is None else "copy again", 100, "%")
        with self._watch.stage("copy"):
            world.tool.copy(only, world.progress.advance)

    def _verified(self, wanted: Files, names: Collection[str]) -> tuple[Files, list[str]]:
        """The files of the target as they are now, and which of the named ones differ from the source's."""
        world, different = self._world, []
        with self._watch.stage("verify"):
            target = world.target.files()
            world.progress.start("verify", len(names), "files")
            kept_at = time.monotonic()
            try:
                with ThreadPoolExecutor(world.threads) as pool:
                    equal = pool.map(lambda name: self._is_equal(name, wanted[name], target.get(name)), names)
                    for name, is_equal in zip(names, equal, strict=True):
                        world.progress.advance(1)
                        if not is_equal:
                            different.append(name)
                        if time.monotonic() - kept_at > _KEEP_SECONDS:
                            self._manifest.keep()
                            kept_at = time.monotonic()
            finally:
                self._manifest.keep()  # what is compared need not be read again
        return target, different

    def _is_equal(self, name: str, source: StoredFile, target: StoredFile | None) -> bool:
        """Whether both sides of a file have the same bytes."""
        world, manifest = self._world, self._manifest
        if target is None or target.size_bytes != source.size_bytes:
            return False
        if not self._verify_all and manifest.confirms(name, source, target):
            return True
        known = None if self._verify_all else manifest.source_sha256(name, source)
        digest = known or world.source.sha256(name, source.size_bytes)
        if world.target.sha256(name, target.size_bytes) != digest:
            return False
        manifest.add(name, digest, source, target)
        return True

    def _report(self, wanted: Files, before: Files, after: Files, again: int) -> Copied:
        world = self._world
        copied = [name for name in wanted if before.get(name) != after.get(name)]
        if others := len(after.keys() - wanted.keys()):
            world.progress.warn(
                f"'{world.target.address}' has {others:,} files that the source does not have."
            )
        return Copied(
            source=world.source.address, target=world.target.address,
            files=len(wanted), bytes=sum(file.size_bytes for file in wanted.values()),
            files_copied=len(copied), bytes_copied=sum(wanted[name].size_bytes for name in copied),
            files_copied_again=again, files_verified=len(wanted), files_only_at_target=others,
            manifest=self._manifest.path, log=self._log, seconds=self._watch.seconds,
        )  # fmt: skip


def _still_different(world: Copying, names: list[str]) -> ServerError:
    return ServerError(
        f"{len(names):,} of the files differ after two copies, first '{world.target.address}/{names[0]}'.",
        hint="Wait until nobody writes to either side, and copy again.",
    )
