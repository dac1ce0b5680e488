"""Small files on the storages that Spark writes to, through the same Hadoop and the same keys as its data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

from zaslon.adapters.cluster.hadoop.addresses import Address
from zaslon.adapters.cluster.hadoop.failures import explained
from zaslon.domain.errors import ServerError

# A storage that is silent or refuses is named within a minute; the data of a long job are tried for longer.
_LIMITS = {
    "fs.s3a.attempts.maximum": "3", "fs.s3a.retry.limit": "2", "fs.s3a.retry.interval": "500ms",
    "fs.s3a.connection.establish.timeout": "10000", "fs.s3a.connection.timeout": "60000",
    "ipc.client.connect.max.retries": "2", "ipc.client.connect.timeout": "10000",
    "ipc.client.connect.max.retries.on.timeouts": "2",
}  # fmt: skip


class Entry(NamedTuple):
    """Something in a folder."""

    name: str
    is_folder: bool


def partial_name(name: str) -> str:
    """The name that a small file of HDFS has until it is whole; a killed run may leave it."""
    return f".{name}.partial"


class HadoopFiles:
    """Files on the storage of an address. Every method raises a ServerError where the storage cannot be asked."""

    def __init__(self, session: SparkSession, address: Address) -> None:
        self._jvm: Any = session._jvm
        self._gateway: Any = session.sparkContext._gateway
        self._address = address
        self._configuration = self._jvm.org.apache.hadoop.conf.Configuration(
            session.sparkContext._jsc.hadoopConfiguration()
        )
        for name, value in _LIMITS.items():
            self._configuration.set(name, value)
        with self._asking():
            self._files = self._jvm.org.apache.hadoop.fs.FileSystem.newInstance(
                self._jvm.java.net.URI(f"{address.scheme}://{address.authority}/"), self._configuration
            )

    def entries(self, folder: str) -> list[Entry]:
        """What is in a folder; nothing where there is none."""
        with self._asking():
            path = self._path(folder)
            found = self._files.listStatus(path) if self._files.exists(path) else []
            return [Entry(one.getPath().getName(), bool(one.isDirectory())) for one in found]

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of all files below a folder, by their paths from there."""
        with self._asking():
            path = self._path(folder)
            sizes: dict[str, int] = {}
            if not self._files.exists(path):
                return sizes
            begin = len(self._files.makeQualified(path).toUri().getPath().rstrip("/")) + 1
            found = self._files.listFiles(path, True)
            while found.hasNext():
                one = found.next()
                sizes[one.getPath().toUri().getPath()[begin:]] = int(one.getLen())
            return sizes

    def read(self, name: str) -> bytes | None:
        """A whole small file; None where there is none."""
        with self._asking():
            path = self._path(name)
            if not self._files.exists(path):
                return None
            stream = self._files.open(path)
            try:
                return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
            finally:
                stream.close()

    def replace(self, name: str, content: bytes) -> None:
        """Write a small file so that a reader gets the old one or the new one."""
        with self._asking():
            if self._address.scheme == "s3a":  # an object is there when its upload ends, and not before
                self._write(self._path(name), content)
                return
            partial, options = self._path(partial_name(name)), self._jvm.org.apache.hadoop.fs.Options.Rename
            self._write(partial, content)
            overwrite = self._gateway.new_array(options, 1)
            overwrite[0] = options.OVERWRITE
            context = self._jvm.org.apache.hadoop.fs.FileContext.getFileContext(
                self._files.getUri(), self._configuration
            )
            context.rename(partial, self._path(name), overwrite)

    def remove(self, folder: str) -> None:
        """Remove a folder with all that is in it."""
        with self._asking():
            self._files.delete(self._path(folder), True)

    def close(self) -> None:
        """Let go of connections."""
        with self._asking():
            self._files.close()

    def _write(self, path: Any, content: bytes) -> None:
        stream = self._files.create(path, True)
        try:
            stream.write(bytearray(content))
        finally:
            stream.close()

    def _path(self, name: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(f"{self._address}/{name}".rstrip("/"))

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not type(error).__module__.startswith("py4j"):
                raise
            reason, hint = explained(str(error))
            raise ServerError(f"'{self._address}' cannot be reached: {reason}.", hint=hint) from error
