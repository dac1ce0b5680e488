"""Tables on S3 and HDFS (`zaslon.ports.cluster_tables`): each run in a folder of its own, and one small file switched last."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import SparkSession

from zaslon.adapters.cluster.hadoop.addresses import Address, parse_address
from zaslon.adapters.cluster.hadoop.cluster_files import cluster_configuration, default_namenode
from zaslon.adapters.cluster.hadoop.hadoop_settings import s3_access
from zaslon.adapters.cluster.spark.hadoop_files import HadoopFiles, partial_name
from zaslon.adapters.cluster.spark.session import job
from zaslon.domain.errors import BusyError, InputError, ServerError, ZaslonError
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.ports.cluster_tables import DAYS, QUARANTINE, TableFile, TableManifest

MANIFEST, RUNS = "_table.json", "runs"
_PARQUET = ".parquet"
_STAMP = "%Y%m%dT%H%M%S"
# Of S3A: uploads are completed when the job is, so that nothing is renamed, which would copy it, and no half of a task is seen.
_COMMITTER = {"fs.s3a.committer.name": "magic", "fs.s3a.committer.magic.enabled": "true"}
_PROTOCOL = {
    "spark.sql.sources.commitProtocolClass": "org.apache.spark.internal.io.cloud.PathOutputCommitProtocol",
    "spark.sql.parquet.output.committer.class": "org.apache.spark.internal.io.cloud.BindingParquetOutputCommitter",
}
_NEEDED = ("org.apache.hadoop.fs.s3a.S3AFileSystem", *_PROTOCOL.values())


class ForeignTables:
    """Those that a session reads and writes."""

    def __init__(self, session: SparkSession) -> None:
        self._session = session
        self._configuration = cluster_configuration()

    @contextmanager
    def new(self, out: str, made_by: str, now_seconds: float) -> Iterator[NewRun]:
        """A run of a table; what a block that fails has written is removed.

        Raises:
            ZaslonError: `out` is not an address, or Spark lacks what S3 needs.
            InputError: it is something else than a table of this command.
            ServerError: the storage cannot be asked.
        """
        address = self._address(out)
        files = self._files(address)
        try:
            run = NewRun(self._session, files, address, made_by, now_seconds)
            try:
                yield run
            except BaseException:
                run.discard()
                raise
        finally:
            files.close()

    def read(self, place: str, made_by: str) -> tuple[str, TableManifest]:
        """(address, manifest) of a table.

        Raises:
            InputError: there is none.
            ServerError: the storage cannot be asked.
        """
        address = self._address(place)
        files = self._files(address)
        try:
            found = _manifest(files, address, made_by)
        finally:
            files.close()
        if found is None:
            raise InputError(f"'{place}' holds no table.", hint=f"Make it with `{made_by}`.")
        return str(address), found

    def _address(self, text: str) -> Address:
        return parse_address(text, default_namenode(self._configuration))

    def _files(self, address: Address) -> HadoopFiles:
        if address.scheme == "s3a":
            self._prepare_s3()
        return HadoopFiles(self._session, address)

    def _prepare_s3(self) -> None:
        """Keys and committer, in the configuration that goes along with the tasks and that no page or log shows."""
        utils = self._session._jvm.org.apache.spark.util.Utils
        missing = [name for name in _NEEDED if not utils.classIsLoadable(name)]
        if missing:
            raise ZaslonError(
                f"This Spark has no {missing[0].rpartition('.')[2]}, which S3 needs.",
                hint="Name a folder with its jars in ZASLON_SPARK_JARS: docs/guides/cluster.md says which.",
            )
        given: Any = self._session.sparkContext._jsc.hadoopConfiguration()
        access = s3_access(self._configuration, one_process=False)
        for name, value in {**access.properties, **_COMMITTER}.items():
            given.set(name, value)
        for name, value in _PROTOCOL.items():
            self._session.conf.set(name, value)


class NewRun:
    """`zaslon.ports.cluster_tables.NewTable`."""

    def __init__(
        self, session: SparkSession, files: HadoopFiles, address: Address, made_by: str, now_seconds: float
    ) -> None:
        self._session, self._files, self._address = session, files, address
        self._made_by, self._now, self._may_be_read = made_by, now_seconds, False
        self._before = _manifest(files, address, made_by)
        if self._before is None:
            self._refuse_others()
        stamp = datetime.fromtimestamp(now_seconds, UTC).strftime(_STAMP)
        self._run = f"{RUNS}/{stamp}-{secrets.token_hex(4)}"

    @property
    def address(self) -> str:
        """The table's (see the port)."""
        return str(self._address)

    @property
    def folder(self) -> str:
        """The run's (see the port)."""
        return f"{self._address}/{self._run}"

    def publish(self, report: Mapping[str, Any], rows: int) -> TableManifest:
        """Count what was written, and let the table be this run (see the port)."""
        days = self._counted(DAYS)
        names = [file.day for file in days]
        if len(set(names)) < len(names):
            raise ServerError(
                f"Spark wrote several files of a day into '{self.folder}'.",
                hint="Look for what splits files in Spark's configuration.",
            )
        manifest = TableManifest(
            self._made_by, self._run, tuple(days), tuple(self._counted(QUARANTINE)), dict(report)
        )
        if manifest.rows != rows:
            raise ServerError(
                f"'{self.folder}' holds {manifest.rows:,} of {rows:,} rows.",
                hint="Run it again; if it stays so, report it.",
            )
        if _manifest(self._files, self._address, self._made_by) != self._before:
            raise BusyError(f"Another run has written '{self._address}' meanwhile.", hint="Run it again.")
        self._may_be_read = True
        self._files.replace(MANIFEST, manifest.to_bytes())
        return manifest

    def discard(self) -> None:
        """Remove what was written, unless the table may be this run already; what cannot be removed is old one day."""
        if not self._may_be_read:
            with suppress(ServerError):
                self._files.remove(self._run)

    def remove_old(self) -> None:
        """Remove runs that nobody reads or writes (see the port)."""
        kept = {self._run, self._before.run if self._before else None}
        for name in (f"{RUNS}/{entry.name}" for entry in self._files.entries(RUNS)):
            begun = _begun_seconds(name)
            if name not in kept and begun is not None and begun < self._now - SECONDS_PER_DAY:
                self._files.remove(name)

    def _refuse_others(self) -> None:
        ours = {RUNS, partial_name(MANIFEST)}
        if any(entry.name not in ours for entry in self._files.entries("")):
            raise InputError(
                f"'{self._address}' exists and is not a table of `{self._made_by}`; it is not overwritten.",
                hint="Name another folder with --out.",
            )

    def _counted(self, part: str) -> list[TableFile]:
        """The files of a part with their rows, which Spark reads from them."""
        sizes = {
            name: size
            for name, size in self._files.sizes(f"{self._run}/{part}").items()
            if name.endswith(_PARQUET) and not _is_hidden(name)
        }
        rows = self._rows(f"{self.folder}/{part}") if sizes else {}
        if rows.keys() - sizes.keys():
            raise ServerError(f"'{self.folder}' changed while it was counted.", hint="Run it again.")
        return [
            TableFile(f"{self._run}/{part}/{name}", _day_of(name), rows.get(name, 0), sizes[name])
            for name in sorted(sizes)
        ]

    def _rows(self, place: str) -> dict[str, int]:
        with job("counted what it has written"):
            found = (
                self._session.read.parquet(place).select("_metadata.file_path").groupBy("file_path").count()
            )
            counts = {row["file_path"]: int(row["count"]) for row in found.collect()}
        # Names of days and files have nothing that a URI would encode.
        depth = 2 if place.endswith(DAYS) else 1
        return {"/".join(path.rsplit("/", depth)[1:]): count for path, count in counts.items()}


def _manifest(files: HadoopFiles, address: Address, made_by: str) -> TableManifest | None:
    content = files.read(MANIFEST)
    if content is None:
        return None
    found = TableManifest.from_bytes(content, f"{address}/{MANIFEST}")
    if found.made_by != made_by:
        raise InputError(
            f"'{address}' was made by `{found.made_by}`, not by `{made_by}`.", hint="Name another folder."
        )
    return found


def _is_hidden(name: str) -> bool:
    """Whether a file is Spark's own; `_day=` begins a day where a column is called `day`."""
    return name.startswith("_") and _day_of(name) is None


def _day_of(name: str) -> str | None:
    found = re.match(r"_?day=(\d{4}-\d{2}-\d{2})/", name)
    return found[1] if found else None


def _begun_seconds(run: str) -> float | None:
    """When a run began, by its name; None for what is none of ours."""
    found = re.fullmatch(rf"{RUNS}/(\d{{8}}T\d{{6}})-[0-9a-f]{{8}}", run)
    try:
        return datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC).timestamp() if found else None
    except ValueError:
        return None
