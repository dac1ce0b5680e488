"""A directory as a tar.gz whose bytes depend on nothing but names, contents and the right to execute."""

from __future__ import annotations

import gzip
import hashlib
import stat
import tarfile
from pathlib import Path

_TIME_SECONDS = (
    315_532_800  # 1980-01-01: no time is earlier in any format that a file may be packed into next
)
_LEVEL = 3  # a twelfth larger than at the highest, in a quarter of the time


def write_archive(directory: Path, archive: Path) -> int:
    """Write all files below a directory, in the order of their names; returns how many there are.

    Links are followed. The same zlib gives the same bytes.
    """
    files = sorted(
        (path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.as_posix()
    )
    with (
        archive.open("xb") as raw,
        gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for path in files:
            member = tarfile.TarInfo(path.relative_to(directory).as_posix())
            found = path.stat()
            member.size, member.mtime = found.st_size, _TIME_SECONDS
            member.mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
            with path.open("rb") as content:
                tar.addfile(member, content)
    return len(files)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
