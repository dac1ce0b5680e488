"""Clean into a table on a storage of the cluster: the rows of `clean`, where only the cluster can write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zaslon.domain.errors import InputError, ServerError, ZaslonError
from zaslon.flows.clean import refuse_pipes, warn_of_no_clean_row
from zaslon.intake import CleanReport, SameFiles, check_complete, same_files
from zaslon.ports.cluster_tables import NewTable, TableManifest
from zaslon.ports.clusters import Cluster
from zaslon.services.arrival import arrival_of_files
from zaslon.services.cleaned_files import warnings_of
from zaslon.services.context import Context, Stopwatch

MADE_BY = "zaslon clean"


@dataclass(frozen=True)
class CleanedTable:
    """What became of the rows, the table with them, and which sources have the same content."""

    report: CleanReport
    address: str
    table: TableManifest
    same_files: SameFiles

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, by the names of every command."""
        quarantine = [f"{self.address}/{file.path}" for file in self.table.quarantine]
        return {
            **self.report.to_json_dict(),
            "warnings": [warning.to_json_dict() for warning in warnings_of(self.report, self.same_files)],
            "seconds": {"clean": self.report.seconds}, "run": self.table.run,
            "paths": {"clean": self.address, "quarantine": quarantine[0] if quarantine else None},
        }  # fmt: skip


def clean_table(
    context: Context, sources: Sequence[str], out: str, cluster: Cluster, *, arrival_time_seconds: int | None = None,
    only_new: bool = False,
) -> CleanedTable:  # fmt: skip
    """Clean the sources into the table at `out`, which becomes another as a whole, or stays as it was.

    Args:
        context, sources, out, cluster: what is cleaned, in which world, where to, and by whom.
        arrival_time_seconds: when the sources arrived; None for now.
        only_new: refused: a table has no ledger of its files.

    Raises:
        ZaslonError: `only_new` is asked for, the arrival lies in the future, or `out` is not an address of S3 or HDFS.
        ServerError: the cluster gave up, or the storage refused.
        InputError: a source or `out` is not what it should be.
        BusyError: another run has written `out` meanwhile.
    """
    if only_new:
        raise ZaslonError(
            "A table on S3 or HDFS has no ledger of its files, which --only-new needs.",
            hint="Clean all files, or into a directory.",
        )
    if not sources:
        raise InputError("There is nothing to clean.", hint="Name at least one file.")
    refuse_pipes(sources)
    arrival, watch = arrival_of_files(context, arrival_time_seconds), Stopwatch()
    context.progress.start("clean", None)
    with cluster.new_table(out, MADE_BY, context.adapters.clock.now_seconds()) as new, watch.stage("clean"):
        report = cluster.clean(
            sources, new.folder, context.catalogue, key=context.key, arrival_time_seconds=arrival,
            chunk_bytes=context.options.chunk_bytes,
        )  # fmt: skip
        check_complete(report)
        lasting = report.to_json_dict()
        del lasting["seconds"]
        table = new.publish(lasting, report.rows_clean)
        remove_old(context, new)
    report.seconds = watch.seconds["clean"]
    warn_of_no_clean_row(context, report)
    return CleanedTable(report, new.address, table, same_files(sources))


def remove_old(context: Context, new: NewTable) -> None:
    """Remove old runs of a table that was published; what cannot be removed is a warning."""
    try:
        new.remove_old()
    except ServerError as error:
        context.progress.warn(f"Old runs of '{new.address}' could not be removed: {error.message}")
