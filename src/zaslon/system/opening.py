"""Addresses as plain bytes: local paths and fsspec addresses, unpacked where they are packed."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import IO, Any, cast

import fsspec
import zstandard

from zaslon.domain.errors import InputError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after a first byte of 0x50 … 0x5f
_LOCAL = "file://"
# One packed byte can be thirty thousand: what is unpacked at once must stay small.
_PACKED_BYTES = 8 * 1024


def local_path(address: str) -> Path | None:
    """The path of a local file, or None for an address that fsspec has to open."""
    if "://" in address and not address.startswith(_LOCAL):
        return None
    return Path(address.removeprefix(_LOCAL))


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
        raise InputError(f"'{address}' may not be read.", hint="Check its permissions.") from error


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


def unpacked(file: io.BufferedReader) -> IO[bytes]:
    """The content of a gzip or zstd file of any number of parts; any other file as it is."""
    start = file.peek(4)[:4]
    if start.startswith(_GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start == _ZSTD or (start[1:] == _ZSTD_SKIPPABLE and start[0] >> 4 == 5):
        return io.BufferedReader(_Zstd(file))
    return file


class _Zstd(io.RawIOBase):
    """zstd frames one after the other. Zstandard's own reader takes a cut-off file for a whole one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._packed, self._ready = file, b"", memoryview(b"")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._is_inside = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if not self._unpack():
                return 0
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _unpack(self) -> bool:
        """Unpack some more; False at the end of the file."""
        packed = self._packed or self._file.read(_PACKED_BYTES)
        if not packed:
            if self._is_inside:
                raise EOFError("it ends inside a zstd frame")
            return False
        self._ready = memoryview(self._frame.decompress(packed))
        self._is_inside, self._packed = not self._frame.eof, b""
        if self._frame.eof:
            self._packed = self._frame.unused_data
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        return True
