"""Addresses as plain bytes: local paths and fsspec addresses, unpacked where they are packed."""

from __future__ import annotations

import glob
import gzip
import io
import os
import stat
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, cast

import fsspec

from zaslon.domain.errors import InputError, ZaslonError
from zaslon.system.zstd import zstd

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after a first byte of 0x50 … 0x5f
_LOCAL = "file://"
_ON_CLUSTER = ("s3://", "s3a://", "hdfs://")
# What changes with every write of a file, by the names that file systems of fsspec have for it.
_VERSION = (
    "size", "ETag", "etag", "LastModified", "Last-Modified", "last_modified", "mtime", "fileId",
    "modificationTime", "updated", "generation",
)  # fmt: skip


def local_path(address: str) -> Path | None:
    """The path of a local file, or None for an address that fsspec has to open."""
    if "://" in address and not address.startswith(_LOCAL):
        return None
    return Path(address.removeprefix(_LOCAL))


def is_on_cluster(address: str) -> bool:
    """Whether it is an address of S3 or HDFS, which a process reaches once it was told how."""
    return address.startswith(_ON_CLUSTER)


def is_read_once(address: str) -> bool:
    """Whether it is a pipe or a device, which has nothing more once it was read."""
    path = local_path(address)
    return path is not None and path.exists() and not (path.is_file() or path.is_dir())


def expanded(addresses: Iterable[str]) -> list[str]:
    """The addresses, with the files that a pattern such as `in/*.txt` matches in its place, by name.

    Raises:
        InputError: a pattern matches no file, or a file system cannot be listed.
    """
    return [found for address in addresses for found in _matching(address)]


def _matching(address: str) -> list[str]:
    path = local_path(address)
    if not glob.has_magic(address) or (path is not None and os.path.lexists(path)):
        return [address]
    if path is None:
        found = _foreign_matching(address)
    else:
        found = sorted(name for name in glob.glob(str(path)) if Path(name).is_file())  # noqa: PTH207  an absolute one too
    if not found:
        raise InputError(f"No file matches '{address}'.", hint="Check the path.")
    return found


def _foreign_matching(address: str) -> list[str]:
    """As for local patterns: an address that is a file's is no pattern, and hidden files match none."""
    try:
        files, pattern = fsspec.url_to_fs(address)
        if files.isfile(pattern):
            return [address]
        found = sorted(_files_like(files, pattern))
    except FileNotFoundError:
        return []
    except Exception as error:  # whatever the library of the file system raises
        raise InputError(
            f"'{address}' cannot be listed: {type(error).__name__}: {str(error).rstrip('.')}.",
            hint="Check the address, and whether its server answers.",
        ) from error
    # A path may lack what the address says of the server: webhdfs.
    before, held, after = address.partition(pattern)
    return [f"{before}{name}{after}" if held else files.unstrip_protocol(name) for name in found]


def _files_like(files: Any, pattern: str) -> Iterable[str]:
    """Level by level: fsspec's own `glob` leaves out, in silence, the folders that it cannot list."""
    parts = pattern.split("/")
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    level = ["/".join(parts[:fixed])]
    for part in parts[fixed:-1]:
        level = [name for folder in level for name in _entries(files, folder, part, "directory")]
    return (name for folder in level for name in _entries(files, folder, parts[-1], "file"))


def _entries(files: Any, folder: str, pattern: str, kind: str) -> Iterator[str]:
    for info in files.ls(folder, detail=True):
        path = info["name"].rstrip("/")
        name = path.rpartition("/")[2]
        hidden = name.startswith(".") and not pattern.startswith(".")
        # S3 may list a folder as an object in itself.
        if info["type"] == kind and path != folder and not hidden and fnmatchcase(name, pattern):
            yield path


def opened(address: str) -> io.BufferedReader:
    """The bytes of a file or an fsspec address.

    Raises:
        InputError: missing, a directory, or not allowed.
        OSError, ValueError, ImportError: anything else that keeps it from being opened.
    """
    path = local_path(address)
    try:
        if path is None:
            return io.BufferedReader(_Foreign(_opened_by_fsspec(address)))
        return path.open("rb")
    except FileNotFoundError as error:
        raise InputError(f"'{address}' does not exist.", hint="Check the path.") from error
    except IsADirectoryError as error:
        raise InputError(f"'{address}' is a directory.", hint="Name its files: DIR/*.txt.") from error
    except PermissionError as error:
        if path is not None:
            raise InputError(f"'{address}' may not be read.", hint="Check its permissions.") from error
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(
            f"'{address}' may not be read: {reason}.",
            hint="Check the keys or the user that its storage is asked with, and what they may do.",
        ) from error


def _opened_by_fsspec(address: str) -> IO[bytes]:
    try:
        return cast(IO[bytes], fsspec.open(address, "rb").open())
    except (OSError, ValueError, ImportError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


class _Foreign(io.RawIOBase):
    """A file of an fsspec file system, whose errors are `OSError`s whatever its library raises."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            piece = self._file.read(len(buffer))
        except (OSError, ValueError):
            raise
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def version_of(file: IO[bytes]) -> tuple[int, int] | None:
    """Size in bytes and time of the last change, in nanoseconds, of an open file; None for what has none, as a pipe."""
    try:
        found = os.fstat(file.fileno())
    except (OSError, ValueError):  # not a file of the system
        return None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def content_version(address: str) -> tuple[str, ...] | None:
    """What changes with the content of a file or an fsspec address; None where nothing says.

    Raises:
        ZaslonError: it is missing, or cannot be looked at.
    """
    try:
        with opened(address) as file:
            if (version := version_of(file)) is not None:
                return tuple(map(str, version))
        if local_path(address) is not None:
            return None
        files, place = fsspec.core.url_to_fs(address)
        info = files.info(place)
    except ZaslonError:
        raise
    except Exception as error:  # whatever a file system of fsspec raises
        reason = str(error) or type(error).__name__
        raise InputError(f"'{address}' cannot be read: {reason}.") from error
    return tuple(str(info[name]) for name in _VERSION if name in info)


def check_unchanged(address: str, file: IO[bytes], version: tuple[int, int] | None) -> None:
    """Refuse a file that was written to while it was read: its last record may be half a one.

    Raises:
        InputError: its version is another one.
    """
    if version_of(file) != version:
        raise InputError(
            f"'{address}' changed while it was read.", hint="Wait until it is complete, and give it again."
        )


def unpacked(file: io.BufferedReader) -> IO[bytes]:
    """The content of a gzip or zstd file of any number of parts; any other file as it is."""
    start = file.peek(4)[:4]
    if start.startswith(_GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start == _ZSTD or (start[1:] == _ZSTD_SKIPPABLE and start[0] >> 4 == 5):
        return cast(IO[bytes], zstd.ZstdFile(file))
    return file
