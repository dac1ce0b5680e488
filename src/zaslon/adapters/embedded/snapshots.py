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

_NAME = re.compile(r"snapshot-([0-9]{20})\.npz")


class FileSnapshots:
    """`zaslon.ports.SnapshotStore` in a directory. Keeps the first and the newest `keep` states.

    The first one is what the log began from, so that any old decision can be replayed.
    """

    def __init__(self, directory: Path, *, keep: int = 3) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._keep = directory, keep

    def save(self, position: int, content: Mapping[str, NDArray[np.generic]]) -> None:
        """Write beside, flush to disk, rename: a crash leaves the older snapshots as they were."""
        final = self._directory / f"snapshot-{position:020d}.npz"
        partial = final.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **content)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(final)
        for old in self._positions()[1 : -self._keep]:
            (self._directory / f"snapshot-{old:020d}.npz").unlink()

    def newest(
        self, up_to_position: int | None = None
    ) -> tuple[int, dict[str, NDArray[Any]], list[str]] | None:
        """The newest readable state at or before a position (see the port)."""
        complaints: list[str] = []
        for position in reversed(self._positions()):
            if up_to_position is not None and position > up_to_position:
                continue
            path = self._directory / f"snapshot-{position:020d}.npz"
            try:
                with np.load(path, allow_pickle=False) as archive:
                    return position, {name: archive[name] for name in archive.files}, complaints
            except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
                complaints.append(f"Snapshot '{path.name}' is damaged and was passed over: {error}.")
        return None

    def _positions(self) -> list[int]:
        found = (_NAME.fullmatch(path.name) for path in self._directory.iterdir())
        return sorted(int(match[1]) for match in found if match)
