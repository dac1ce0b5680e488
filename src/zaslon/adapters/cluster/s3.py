"""Snapshots in an S3 bucket: of Amazon, Yandex Object Storage, MinIO or a compatible server.

Endpoint, region, keys and authority are looked up by the client where every S3 client looks: in the
environment (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_CA_BUNDLE`)
and in the files that `AWS_SHARED_CREDENTIALS_FILE` and `AWS_CONFIG_FILE` name. No secret passes through
Zaslon. Objects get no access rights of their own: the bucket's apply.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError
from s3fs import S3FileSystem

from zaslon.adapters.embedded.snapshots import ArchiveSnapshots, Fill
from zaslon.domain.errors import ServerError

_FAILURES = (OSError, BotoCoreError, ClientError, HttpError)
# A state is sent and read in parts of this size; S3 takes 5 MiB or more, and 10,000 of them.
_PART_BYTES = 8 * 1024 * 1024
# A server that is silent holds up a stop, or a start, for as long as all attempts take.
_CONNECT_SECONDS, _ANSWER_SECONDS, _ATTEMPTS = 10, 30, 3


class S3Snapshots(ArchiveSnapshots):
    """Archives as objects below `s3://bucket/prefix`.

    An object appears when its upload is complete. Parts that a killed process uploaded are not an object;
    a lifecycle rule of the bucket (`AbortIncompleteMultipartUpload`) removes them.
    """

    def __init__(self, address: str, *, keep: int = 3) -> None:
        super().__init__(address.rstrip("/"), keep)
        self._files = S3FileSystem(
            use_listings_cache=False, skip_instance_cache=True,
            config_kwargs={
                "connect_timeout": _CONNECT_SECONDS, "read_timeout": _ANSWER_SECONDS,
                "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
                # Not everyone knows the checksums that newer clients add; the archive has its own.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        )  # fmt: skip
        self._files.retries = 1  # the attempts of the client below are enough

    def _names(self) -> Iterable[str]:
        with self._asking():
            found: list[str] = self._files.find(self._place, prefix="snapshot-")
        return [path.rpartition("/")[2] for path in found]

    def _write(self, name: str, fill: Fill) -> None:
        with self._asking():
            file = self._files.open(f"{self._place}/{name}", "wb", block_size=_PART_BYTES, autocommit=False)
            try:
                fill(cast(IO[bytes], _Upload(file)))
                file.close()
                file.commit()
            except BaseException:
                file.closed = True  # otherwise it sends what it has when it is forgotten
                with suppress(*_FAILURES):
                    file.discard()
                raise

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        with self._asking():
            file = self._files.open(f"{self._place}/{name}", "rb", block_size=_PART_BYTES)
        with file:
            yield cast(IO[bytes], _Object(self, file))

    def _remove(self, name: str) -> None:
        with self._asking():
            self._files.rm_file(f"{self._place}/{name}")

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """What the server or the way to it does wrong is a `ServerError`."""
        try:
            yield
        except _FAILURES as error:
            raise ServerError(
                f"Snapshots in '{self._place}' cannot be read or written: {error or type(error).__name__}.",
                hint=_hint(error),
            ) from error


class _Upload(io.RawIOBase):
    """An object that is written. After a failure nothing more is sent, whatever the archive's end still writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._failure: Exception | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self._failure is not None:
            raise self._failure
        try:
            return self._file.write(data)
        except _FAILURES as error:
            self._failure = error
            raise


class _Object(io.RawIOBase):
    """An object that is read, with errors that cannot be taken for damage."""

    def __init__(self, snapshots: S3Snapshots, file: IO[bytes]) -> None:
        self._snapshots, self._file = snapshots, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        with self._snapshots._asking():
            piece = self._file.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _hint(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "Create the bucket, or name another one in ZASLON_STREAM_SNAPSHOTS."
    if isinstance(error, PermissionError):
        return "Check the keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or their file) and what they may do."
    return "Check AWS_ENDPOINT_URL, AWS_REGION, AWS_CA_BUNDLE, the keys, and whether the server answers."
