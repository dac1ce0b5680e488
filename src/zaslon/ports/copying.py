"""The ports of a copy between storages: trees of files, and the tool that copies one into another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol


class StoredFile(NamedTuple):
    """A file of a tree. `version` differs whenever it has been written again."""

    size_bytes: int
    version: str


class FileTree(Protocol):
    """The files below one address. Every method raises a ServerError where the storage cannot be asked."""

    @property
    def address(self) -> str:
        """The address as the tool that copies takes it."""

    def files(self) -> Mapping[str, StoredFile]:
        """All files by their names below the address, but for unfinished copies; empty where there is nothing.

        Raises:
            InputError: the address is that of a file, or its bucket does not exist.
        """

    def sha256(self, name: str, size_bytes: int) -> str:
        """SHA-256 of a file as hexadecimal digits; the file is read in parts, from its beginning to its end.

        Several threads may call it at once.

        Raises:
            ServerError: it does not have as many bytes.
        """

    def remove_unfinished(self) -> int:
        """Remove what killed copies left half written under names of their own; returns how many there were."""


class CopyTool(Protocol):
    """Copies a tree into another one, both known to it from its making."""

    def log(self, only: Collection[str] | None) -> Path:
        """Where `copy` writes the tool's own messages."""

    def copy(self, only: Collection[str] | None, advance: Callable[[int], None]) -> None:
        """Copy what is missing or looks different; with `only`, these files and no other, whatever the target has.

        A file appears at the target when it is complete. Files that only the target has stay.

        Args:
            only: names below the address of the tree.
            advance: called with the hundredths that were done since the last call.

        Raises:
            ServerError: it failed; the sentence says why, as far as the tool knows, and names the log.
        """

    def end_left(self) -> None:
        """End what a killed process of ours has left running."""
