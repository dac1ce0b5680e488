"""The port of a cluster: long work on files whose rows no single machine has to hold."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.clean_report import CleanReport
from zaslon.ports.cluster_tables import NewTable, TableManifest


class Cluster(Protocol):
    """Gives the same rows as one process does; only their order within a day may differ, and takes longer to start.

    A place is a `Path` that every machine of the cluster sees, or the address of the folder of a `NewTable`.
    """

    def clean(
        self, sources: Sequence[str], building: Path | str, catalogue: Catalogue, *,
        key: bytes, arrival_time_seconds: int, chunk_bytes: int,
    ) -> CleanReport:  # fmt: skip
        """Write clean days and the quarantine into a new place, as `intake.clean_files` does.

        Raises:
            InputError: a source is not what it should be, or nothing says whether dates after a gap are right.
            ServerError: the cluster gave up.
        """

    def write_features(
        self, catalogue: Catalogue, days: Sequence[Path | str], building: Path | str, *, label_delay_seconds: int
    ) -> tuple[int, int]:  # fmt: skip
        """Write the features of clean days by day into a new place, as the flow of one process does.

        Returns (rows, how many of them a log of all still knows at its end).

        Raises:
            DataError: labels come later than what is remembered.
            ServerError: the cluster gave up.
        """

    def new_table(self, out: str, made_by: str, now_seconds: float) -> AbstractContextManager[NewTable]:
        """A run of the table at an address of S3 or HDFS. A block that fails leaves the table as it was.

        Args:
            out: the address.
            made_by: the command, as `zaslon clean`; a table of another one is not overwritten.
            now_seconds: since 1970; it names the run.

        Raises:
            ZaslonError: `out` is no such address, or the cluster lacks what it needs for it.
            InputError: it holds something else.
            ServerError: the storage cannot be asked.
        """

    def read_table(self, place: str, made_by: str) -> tuple[str, TableManifest]:
        """(address, manifest) of the table at an address of S3 or HDFS. The files of its run stay for a day.

        Raises:
            ZaslonError: as `new_table`.
            InputError: there is no table of this command.
            ServerError: the storage cannot be asked.
        """
