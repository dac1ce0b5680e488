"""Clean: raw files into Parquet by day, the rest into quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import InputError
from zaslon.intake import (
    CleanReport,
    SameFiles,
    Taking,
    clean_files,
    earlier_output,
    publish_clean,
    same_files,
)
from zaslon.ports.clusters import Cluster
from zaslon.services.arrival import arrival_of_files
from zaslon.services.cleaned_files import Cleaned
from zaslon.services.context import Context
from zaslon.system.opening import is_read_once


def clean(
    context: Context, sources: Sequence[str], out: Path, *,
    arrival_time_seconds: int | None = None, rows_of_log: NDArray[np.int64] | None = None,
    cluster: Cluster | None = None, only_new: bool = False,
) -> Cleaned:  # fmt: skip
    """Clean the sources into `out`, which appears or is replaced as a whole.

    With `only_new` those that were not taken into `out` before, whose rows are added to it. The result is that of cleaning
    all of them at once, in the order in which they were taken.

    Args:
        context, sources, out: what is cleaned, in which world, where to.
        arrival_time_seconds: when the sources arrived; None for now.
        rows_of_log: rows by day of the log that they continue, as far as it knows them; None where they begin one.
            An output that depends on them keeps no ledger of its files.
        cluster: does the work, with `rows_of_log` None; this process, where it is None. Its output keeps no ledger either.
        only_new: where nothing is new, nothing is written; without a cluster.

    Raises:
        ZaslonError: the arrival lies in the future.
        ServerError: the cluster gave up.
        InputError: a source or `out` is not what it should be; with `only_new`, also where a file has changed since it was
            taken, or dates of earlier rows would be judged otherwise now.
    """
    arrival = arrival_of_files(context, arrival_time_seconds)
    if only_new:
        assert cluster is None, "a cluster does not look at what was cleaned before"
        return _clean_new(context, sources, out, arrival)
    keeps_ledger = rows_of_log is None and cluster is None
    taking = Taking.begin(sources, context.catalogue, context.key) if keeps_ledger else None
    report = _cleaned(context, sources, out, arrival, cluster, taking, rows_of_log)
    return Cleaned(report, out, same_files(sources))


def _clean_new(context: Context, sources: Sequence[str], out: Path, arrival: int) -> Cleaned:
    refuse_pipes(sources)
    earlier = earlier_output(out, context.catalogue, context.key)
    taking, found = Taking.of_new(sources, context.catalogue, context.key, earlier)
    if found.new:
        report = _cleaned(context, found.new, out, arrival, None, taking)
    else:
        assert earlier is not None, "every file is new to an output that is not there"
        known = earlier.report
        report = CleanReport(catalogue=known.catalogue, mapping=known.mapping, arrived=known.arrived)
    return Cleaned(report, out, SameFiles([], {}), found)


def _cleaned(
    context: Context, sources: Sequence[str], out: Path, arrival: int, cluster: Cluster | None,
    taking: Taking | None, rows_of_log: NDArray[np.int64] | None = None,
) -> CleanReport:  # fmt: skip
    """Clean sources by whatever does the work."""
    context.progress.start("clean", None)
    options = context.options
    if cluster is None:
        report = clean_files(
            sources, out, context.catalogue, key=context.key, arrival_time_seconds=arrival,
            chunk_bytes=options.chunk_bytes, repeat_filter_bytes=options.repeat_filter_bytes,
            rows_of_log=rows_of_log, progress=context.progress.advance, taking=taking,
        )  # fmt: skip
    else:
        refuse_pipes(sources)
        report = publish_clean(
            sources, out,
            lambda building: cluster.clean(
                sources, building, context.catalogue, key=context.key, arrival_time_seconds=arrival,
                chunk_bytes=options.chunk_bytes,
            ),
        )  # fmt: skip
    warn_of_no_clean_row(context, report)
    return report


def warn_of_no_clean_row(context: Context, report: CleanReport) -> None:
    """Say that the catalogue may be the wrong one, where nothing is clean."""
    if report.rows_in and not report.rows_clean:
        most = max(report.rows_rejected, key=lambda reason: report.rows_rejected[reason])
        context.progress.warn(
            f"Not one of {report.rows_in} rows is clean, most for '{most}': does the catalogue "
            f"{context.catalogue.label} fit these files?"
        )


def refuse_pipes(sources: Sequence[str]) -> None:
    """A cluster reads the sources of repeats a second time, on any of its machines; `--only-new` compares contents first.

    Raises:
        InputError: one is a pipe or a device.
    """
    for source in filter(is_read_once, sources):
        raise InputError(f"'{source}' can be read only once.", hint="Write it into a file first.")
