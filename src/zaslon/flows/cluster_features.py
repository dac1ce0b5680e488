"""Features of clean days where a cluster does the work: from and to directories that it sees, or tables of its storage."""

from __future__ import annotations

from pathlib import Path

import orjson

from zaslon.domain.time import day_text
from zaslon.features.plan import plan_features
from zaslon.flows.clean_table import MADE_BY as CLEAN
from zaslon.flows.clean_table import remove_old
from zaslon.flows.export_features import MADE_BY, MARK, FeaturesReport
from zaslon.intake import checked_report, clean_days
from zaslon.ports.clusters import Cluster
from zaslon.services.context import Context, Stopwatch
from zaslon.system.replacing import replacing


class _CleanRows:
    """Clean days: names and places, and where they are from."""

    def __init__(self, context: Context, cluster: Cluster, table: str | None) -> None:
        self.days: list[str] = []
        self.places: list[Path | str] = []
        if table is None:
            self.origin = str(context.home / "clean")
            for day, path in clean_days(context.home / "clean", context.catalogue):
                self.days.append(day_text(day))
                self.places.append(path)
            return
        address, found = cluster.read_table(table, CLEAN)
        checked_report(found.report, address, context.catalogue)
        self.origin = f"{address}/{found.run}"
        for file in found.files:
            self.days.append(file.day or "")
            self.places.append(f"{address}/{file.path}")


def write_features_by(
    cluster: Cluster, context: Context, out: Path | str, clean: str | None = None
) -> FeaturesReport:
    """Apply clean days and write `day=YYYY-MM-DD/*.parquet`, as `export_features.write_features` does.

    Args:
        cluster, context: who does the work, in which world.
        out: a directory, which appears or is replaced as a whole, or the address of a table.
        clean: address of a table of clean days; None for those of the home.

    Raises:
        ZaslonError: an address is none of S3 or HDFS.
        InputError: there are no clean days, or `out` holds something else.
        DataError: labels come later than what is remembered.
        ServerError: the cluster gave up, or the storage refused.
        BusyError: another run has written `out` meanwhile.
    """
    rows = _CleanRows(context, cluster, clean)
    context.progress.start("features", None)
    watch = Stopwatch()
    if isinstance(out, str):
        with (
            cluster.new_table(out, MADE_BY, context.adapters.clock.now_seconds()) as new,
            watch.stage("features"),
        ):
            counts = _written(cluster, context, rows, new.folder)
            new.publish({"catalogue": context.catalogue.label, "clean": rows.origin}, counts[0])
            remove_old(context, new)
            place = new.address
    else:
        place = str(out)
        with replacing(out, MARK, MADE_BY) as building, watch.stage("features"):
            counts = _written(cluster, context, rows, building)
            (building / MARK).write_bytes(orjson.dumps({"catalogue": context.catalogue.label}))
    return FeaturesReport(
        counts[0], tuple(rows.days), plan_features(context.catalogue).names, counts[1], None,
        watch.seconds["features"], place, (),
    )  # fmt: skip


def _written(cluster: Cluster, context: Context, rows: _CleanRows, building: Path | str) -> tuple[int, int]:
    """(rows, how many of them are remembered) of what was written."""
    if not rows.places:
        return 0, 0
    delay = context.options.label_delay_seconds
    return cluster.write_features(context.catalogue, rows.places, building, label_delay_seconds=delay)
