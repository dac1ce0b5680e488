"""Clean: raw files into Parquet by day, the rest into quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import InputError
from zaslon.intake import clean_files, publish_clean, same_files
from zaslon.ports.clusters import Cluster
from zaslon.services.arrival import arrival_of_files
from zaslon.services.cleaned_files import Cleaned
from zaslon.services.context import Context
from zaslon.system.opening import is_read_once


def clean(
    context: Context, sources: Sequence[str], out: Path, *,
    arrival_time_seconds: int | None = None, rows_of_log: NDArray[np.int64] | None = None,
    cluster: Cluster | None = None,
) -> Cleaned:  # fmt: skip
    """Clean the sources into `out`, which appears or is replaced as a whole.

    Args:
        context, sources, out: what is cleaned, in which world, where to.
        arrival_time_seconds: when the sources arrived; None for now.
        rows_of_log: rows by day of the log that they continue, as far as it knows them; None where they begin one.
        cluster: does the work, with `rows_of_log` None; this process, where it is None.

    Raises:
        ZaslonError: the arrival lies in the future.
        ServerError: the cluster gave up.
        InputError: a source or `out` is not what it should be.
    """
    arrival = arrival_of_files(context, arrival_time_seconds)
    context.progress.start("clean", None)
    options = context.options
    if cluster is None:
        report = clean_files(
            sources, out, context.catalogue, key=context.key, arrival_time_seconds=arrival,
            chunk_bytes=options.chunk_bytes, repeat_filter_bytes=options.repeat_filter_bytes,
            rows_of_log=rows_of_log, progress=context.progress.advance,
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
    if report.rows_in and not report.rows_clean:
        most = max(report.rows_rejected, key=lambda reason: report.rows_rejected[reason])
        context.progress.warn(
            f"Not one of {report.rows_in} rows is clean, most for '{most}': does the catalogue "
            f"{context.catalogue.label} fit these files?"
        )
    return Cleaned(report, out, same_files(sources))


def refuse_pipes(sources: Sequence[str]) -> None:
    """A cluster reads the sources of repeats a second time, on any of its machines.

    Raises:
        InputError: one is a pipe or a device.
    """
    for source in filter(is_read_once, sources):
        raise InputError(f"'{source}' can be read only once.", hint="Write it into a file first.")
