"""Snapshots as archives: one uncompressed NumPy archive per saved state, no pickles."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import ArtefactError, SystemRefusedError, ZaslonError
from zaslon.system.durable import make_directory, settle, writing

_NAME = re.compile(r"snapshot-([0-9]{20})\.npz")
# What an archive holds, kept in it: the checksums are those of arrays, and one that is missing has none.
_CONTENTS = "archive/contents"
Fill = Callable[[IO[bytes]], None]


class ArchiveSnapshots(ABC):
    """`zaslon.ports.SnapshotStore` wherever archives can be kept by name.

    Keeps the first and the newest `keep` states. The first one is what the log began from, so that any
    old decision can be replayed. Every array has a checksum in its archive, and the archive a list of its
    arrays; both are verified on reading.
    """

    def __init__(self, place: str, keep: int) -> None:
        self._place, self._keep = place, keep

    def save(self, position: int, content: Mapping[str, NDArray[np.generic]]) -> None:
        """Keep a state (see the port), then remove what is too old."""
        arrays: Any = {**content, _CONTENTS: _listed(content)}
        self._write(_name(position), lambda file: np.savez(file, **arrays))
        for old in self._positions()[1 : -self._keep]:
            self._remove(_name(old))

    def newest(
        self, up_to_position: int | None = None
    ) -> tuple[int, dict[str, NDArray[Any]], list[str]] | None:
        """The newest readable state at or before a position (see the port)."""
        complaints: list[str] = []
        for position in reversed(self._positions()):
            if up_to_position is not None and position > up_to_position:
                continue
            name = _name(position)
            try:
                with self._open(name) as file:
                    return position, _unpacked(file), complaints
            except ZaslonError:
                raise
            except Exception as error:  # noqa: BLE001  see `_unpacked`
                complaints.append(f"Snapshot '{self._place}/{name}' is damaged and was passed over: {error}.")
        if complaints:
            raise ArtefactError(
                f"No snapshot in '{self._place}' can be read. {complaints[-1]}",
                hint="Restore them from a backup; a log without its first state cannot be replayed.",
            )
        return None

    def forget_after(self, position: int) -> int:
        """Remove the states after a position (see the port)."""
        beyond = [found for found in self._positions() if found > position]
        for found in beyond:
            self._remove(_name(found))
        return len(beyond)

    def _positions(self) -> list[int]:
        found = (_NAME.fullmatch(name) for name in self._names())
        return sorted(int(match[1]) for match in found if match)

    @abstractmethod
    def _names(self) -> Iterable[str]:
        """What is kept, and perhaps other things."""

    @abstractmethod
    def _write(self, name: str, fill: Fill) -> None:
        """Keep what `fill` writes, as a whole or not at all."""

    @abstractmethod
    def _open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """For reading, seekable. What keeps it from being read, other than damage, is a `ZaslonError`."""

    @abstractmethod
    def _remove(self, name: str) -> None:
        """Remove one; another process may have done so."""


class FileSnapshots(ArchiveSnapshots):
    """Archives as files of a directory."""

    def __init__(self, directory: Path, *, keep: int = 3) -> None:
        super().__init__(str(directory), keep)
        self._directory = directory

    def _names(self) -> Iterable[str]:
        if not self._directory.is_dir():
            return []
        return [path.name for path in self._directory.iterdir()]

    def _write(self, name: str, fill: Fill) -> None:
        """A crash leaves the older snapshots as they were."""
        final = self._directory / name
        try:
            make_directory(self._directory)
            settle(self._directory)
            with writing(final) as file:
                fill(file)
        except OSError as error:
            raise SystemRefusedError(
                f"Snapshot '{final}' cannot be written: {error}.", hint="Make room, or allow it there."
            ) from error

    def _open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        return (self._directory / name).open("rb")

    def _remove(self, name: str) -> None:
        (self._directory / name).unlink(missing_ok=True)


def _unpacked(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    """The arrays of an archive; raises whatever NumPy and zipfile make of damaged bytes."""
    with np.load(file, allow_pickle=False) as archive:
        content = {name: archive[name] for name in archive.files}
    listed = content.pop(_CONTENTS, None)
    if listed is None or listed.tobytes() != _listed(content).tobytes():
        raise ValueError("it lacks arrays")
    return content


def _listed(content: Iterable[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(sorted(content)).encode(), np.uint8)


def _name(position: int) -> str:
    return f"snapshot-{position:020d}.npz"
