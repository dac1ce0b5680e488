"""Snapshots as files: one uncompressed NumPy archive per saved state, no pickles."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import ArtefactError, SystemRefusedError

_NAME = re.compile(r"snapshot-([0-9]{20})\.npz")


class FileSnapshots:
    """`zaslon.ports.SnapshotStore` in a directory. Keeps the first and the newest `keep` states.

    The first one is what the log began from, so that any old decision can be replayed.
    """

    def __init__(self, directory: Path, *, keep: int = 3) -> None:
        self._directory, self._keep = directory, keep

    def save(self, position: int, content: Mapping[str, NDArray[np.generic]]) -> None:
        """Write beside, flush to disk, rename: a crash leaves the older snapshots as they were.

        Raises:
            SystemRefusedError: the directory cannot be written.
        """
        try:
            self._save(position, content)
        except OSError as error:
            raise SystemRefusedError(
                f"Snapshot '{self._path(position)}' cannot be written: {error}.",
                hint="Make room, or allow it there.",
            ) from error

    def _save(self, position: int, content: Mapping[str, NDArray[np.generic]]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        final = self._path(position)
        partial = final.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **content)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(final)
        _flush_directory(self._directory)
        for old in self._positions()[1 : -self._keep]:
            self._path(old).unlink()

    def newest(
        self, up_to_position: int | None = None
    ) -> tuple[int, dict[str, NDArray[Any]], list[str]] | None:
        """The newest readable state at or before a position (see the port)."""
        complaints: list[str] = []
        for position in reversed(self._positions()):
            if up_to_position is not None and position > up_to_position:
                continue
            path = self._path(position)
            try:
                # Opened here: NumPy leaves the file open where the archive turns out to be damaged.
                with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                    return position, {name: archive[name] for name in archive.files}, complaints
            except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
                complaints.append(f"Snapshot '{path}' is damaged and was passed over: {error}.")
        if complaints:
            raise ArtefactError(
                f"No snapshot in '{self._directory}' can be read. {complaints[-1]}",
                hint="Restore the directory from a backup; without its beginning a log cannot be followed.",
            )
        return None

    def forget_after(self, position: int) -> int:
        """Remove the states after a position (see the port)."""
        beyond = [found for found in self._positions() if found > position]
        for found in beyond:
            self._path(found).unlink()
        return len(beyond)

    def _path(self, position: int) -> Path:
        return self._directory / f"snapshot-{position:020d}.npz"

    def _positions(self) -> list[int]:
        if not self._directory.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self._directory.iterdir())
        return sorted(int(match[1]) for match in found if match)


def _flush_directory(directory: Path) -> None:
    """A new name is on disk only when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
