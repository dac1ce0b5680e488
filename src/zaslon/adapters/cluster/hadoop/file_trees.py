"""Trees of files on S3, on HDFS through WebHDFS, and on this machine, all through fsspec (`foreign_files`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError

from zaslon.adapters.cluster.hadoop.addresses import Address
from zaslon.adapters.cluster.hadoop.foreign_files import HdfsFiles, WebAddresses, s3_arguments
from zaslon.domain.errors import InputError, ServerError
from zaslon.ports.copying import StoredFile

# Begins the name under which DistCp writes a file before it gets its own: RetriableFileCopyCommand.getTempFile.
UNFINISHED = ".distcp.tmp."
# WebHDFS says everything that it has no HTTP status for by `RuntimeError`.
_FAILURES = (OSError, RuntimeError, ValueError, BotoCoreError, ClientError, HttpError)
_PART_BYTES = 8 * 1024 * 1024


class StoredTree:
    """`zaslon.ports.copying.FileTree` over an fsspec file system.

    Args:
        files: the file system.
        root: the folder in it, without a slash at its end.
        address: the same for Hadoop.
        version_keys: of the properties of a file, those that change whenever it is written.
    """

    def __init__(self, files: Any, root: str, address: Address, version_keys: tuple[str, ...]) -> None:
        self._files, self._root, self._address, self._version_keys = files, root, address, version_keys

    @property
    def address(self) -> str:
        """The address as Hadoop takes it."""
        return str(self._address)

    def files(self) -> Mapping[str, StoredFile]:
        """All files by their names, but for unfinished ones (see the port)."""
        return {
            name: StoredFile(int(info["size"]), " ".join(_plain(info.get(key)) for key in self._version_keys))
            for name, info in self._found().items()
            if not _is_unfinished(name)
        }

    def sha256(self, name: str, size_bytes: int) -> str:
        """SHA-256 of a file (see the port)."""
        digest, read = hashlib.sha256(), 0
        with self._asking(), self._files.open(f"{self._root}/{name}", "rb", block_size=_PART_BYTES) as file:
            while part := file.read(_PART_BYTES):
                digest.update(part)
                read += len(part)
        if read != size_bytes:
            raise ServerError(
                f"'{self.address}/{name}' gave {read:,} of {size_bytes:,} bytes: it has changed, or was cut.",
                hint="Wait until nobody writes there, and copy again.",
            )
        return digest.hexdigest()

    def remove_unfinished(self) -> int:
        """Remove what killed copies left (see the port)."""
        left = [name for name in self._found() if _is_unfinished(name)]
        with self._asking():
            for name in left:
                self._files.rm_file(f"{self._root}/{name}")
        return len(left)

    def put(self, name: str, path: Path) -> None:
        """Write a file of this machine under a name, in place of what has it. It appears when it is complete.

        Raises:
            ServerError: the storage refused it, or has not kept it.
        """
        target, is_object = f"{self._root}/{name}", self._address.scheme == "s3a"
        partial = target if is_object else f"{self._root}/{UNFINISHED}{name}"
        with self._asking("written"):
            self._files.put_file(str(path), partial)
            if not is_object:
                if self._files.exists(target):
                    self._files.rm_file(target)
                self._files.mv(partial, target)  # WebHDFS does not say whether it did
        kept = self.files().get(name)
        if kept is None or kept.size_bytes != path.stat().st_size:
            raise ServerError(f"'{self.address}/{name}' was written, and is not there.", hint="Try again.")

    def _found(self) -> dict[str, Mapping[str, Any]]:
        """All files by their names."""
        with self._asking():
            try:
                found = self._listed()
            except FileNotFoundError as error:
                if self._address.scheme != "s3a":
                    return self._nothing(error)
                raise InputError(
                    f"The bucket '{self._address.authority}' does not exist.",
                    hint="Create it, or check its name.",
                ) from error
        if self._root in found:
            raise InputError(f"'{self.address}' is a file.", hint="Name the folder that it is in.")
        begin = len(self._root) + 1
        return {path[begin:]: info for path, info in found.items() if not path.endswith("/")}

    def _listed(self) -> Mapping[str, Mapping[str, Any]]:
        """All files by their paths, and on S3 perhaps folders. What cannot be listed is an error, however deep."""
        if self._address.scheme == "s3a":
            objects: Mapping[str, Mapping[str, Any]] = self._files.find(self._root or "/", detail=True)
            return objects
        found: dict[str, Mapping[str, Any]] = {}
        folders = [self._root or "/"]
        while folders:  # fsspec's own walk leaves out a folder below the first that it could not list
            for info in self._files.ls(folders.pop(), detail=True):
                path = info["name"].rstrip("/")
                if info["type"] == "directory":
                    folders.append(path)
                else:
                    found[path] = info
        return found

    def _nothing(self, error: FileNotFoundError) -> dict[str, Mapping[str, Any]]:
        """No files, if there is no such folder. A folder in it that goes while it is listed says the same."""
        try:
            self._files.info(self._root or "/")
        except FileNotFoundError:
            return {}
        raise error

    @contextmanager
    def _asking(self, what: str = "read") -> Iterator[None]:
        """What the storage or the way to it does wrong is a `ServerError`."""
        try:
            yield
        except _FAILURES as error:
            raise ServerError(
                f"'{self.address}' cannot be {what}: {_short(error)}.",
                hint=_hint(self._address.scheme, error),
            ) from error


def s3_tree(address: Address) -> StoredTree:
    """A tree on S3."""
    files = fsspec.filesystem("s3", skip_instance_cache=True, **s3_arguments())
    files.retries = 1  # the attempts of the client below are enough
    root = f"{address.authority}/{address.path}".rstrip("/")
    return StoredTree(files, root, address, ("ETag", "LastModified"))


def hdfs_tree(address: Address, web: WebAddresses, user: str) -> StoredTree:
    """A tree on HDFS.

    Args:
        address: of the tree.
        web: where WebHDFS answers.
        user: name of the user there; HDFS believes it where Kerberos is off.
    """
    host, _, port = address.authority.partition(":")
    files = HdfsFiles(host, int(port or 0), web=web, user=user, skip_instance_cache=True)
    root = f"/{address.path}".rstrip("/")
    return StoredTree(files, root, address, ("fileId", "modificationTime"))


def local_tree(address: Address) -> StoredTree:
    """A tree on this machine."""
    return StoredTree(fsspec.filesystem("file"), f"/{address.path}".rstrip("/"), address, ("ino", "mtime"))


def _plain(value: Any) -> str:
    """A property as text that does not depend on the zone of this machine."""
    return str(value.timestamp() if isinstance(value, datetime) else value).strip('"')


def _is_unfinished(name: str) -> bool:
    return name.rpartition("/")[2].startswith(UNFINISHED)


def _short(error: Exception) -> str:
    """The reason at the end of a chain of causes, on one line."""
    cause: BaseException = error
    while isinstance(inner := getattr(cause, "reason", None) or (cause.args or (None,))[0], BaseException):
        cause = inner
    return " ".join(str(cause).split()).rstrip(".")[:300] or type(cause).__name__


def _hint(scheme: str, error: Exception) -> str:
    if scheme == "s3a":
        if isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError":
            return "Check the keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or their file) and what they may do."
        return "Check AWS_ENDPOINT_URL, AWS_REGION and whether the server answers."
    if isinstance(error, PermissionError):
        return "Check HADOOP_USER_NAME and the permissions."
    if scheme == "hdfs":
        return "Check the NameNode's address, and ZASLON_HADOOP_WEBHDFS for its web port."
    return "Check the path."
