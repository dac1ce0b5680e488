"""The port of a cluster: long work on files whose rows no single machine has to hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.clean_report import CleanReport


class Cluster(Protocol):
    """Gives the same rows as one process does; only their order within a day may differ, and takes longer to start.

    Directories are such that every machine of the cluster sees them.
    """

    def clean(
        self, sources: Sequence[str], building: Path, catalogue: Catalogue, *,
        key: bytes, arrival_time_seconds: int, chunk_bytes: int,
    ) -> CleanReport:  # fmt: skip
        """Write clean days and the quarantine into a new directory, as `intake.clean_files` does.

        Raises:
            InputError: a source is not what it should be, or nothing says whether dates after a gap are right.
            ServerError: the cluster gave up.
        """

    def write_features(
        self, catalogue: Catalogue, days: Sequence[Path], building: Path, *, label_delay_seconds: int
    ) -> None:
        """Write the features of clean days by day into a new directory, as the flow of one process does.

        Raises:
            DataError: labels come later than what is remembered.
            ServerError: the cluster gave up.
        """
