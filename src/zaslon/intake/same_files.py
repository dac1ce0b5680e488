"""Sources with the same content under two names, however they are packed."""

from __future__ import annotations

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from zaslon.domain.errors import InputError
from zaslon.system.opening import local_path, opened, unpacked
from zaslon.system.zstd import zstd

# What two sources must share before all of them is read again to compare it.
_BEGINNING_BYTES = 64 * 1024
_PIECE_BYTES = 1 << 20
# What keeps a source from being read.
UNREADABLE = (InputError, OSError, ValueError, ImportError, EOFError, zlib.error, zstd.ZstdError)


class SameFiles(NamedTuple):
    """What was found among sources.

    Attributes:
        pairs: sources of which the second has the content of the first, unpacked.
        not_compared: why a source could not be read for it, by its address.
    """

    pairs: list[tuple[str, str]]
    not_compared: dict[str, str]


def same_files(sources: Sequence[str]) -> SameFiles:
    """Compare sources. Those that can be read once only, such as pipes, are left out."""
    found = SameFiles([], {})
    if len(sources) < 2:
        return found
    by_beginning: dict[bytes, list[str]] = defaultdict(list)
    for source in filter(_is_lasting, sources):
        if (beginning := _digest(source, _BEGINNING_BYTES, found)) is not None:
            by_beginning[beginning].append(source)
    for alike in by_beginning.values():
        first: dict[bytes, str] = {}
        for source in alike if len(alike) > 1 else ():
            if (content := _digest(source, None, found)) is None:
                continue
            if content in first:
                found.pairs.append((first[content], source))
            first.setdefault(content, source)
    return found


def _is_lasting(source: str) -> bool:
    path = local_path(source)
    return path is None or path.is_file() or not path.exists()


def _digest(source: str, bytes_max: int | None, found: SameFiles) -> bytes | None:
    """As `_digest_of`; None for a source that can no longer be read, which is noted."""
    try:
        return content_digest(source, bytes_max)
    except UNREADABLE as error:
        found.not_compared[source] = str(error) or type(error).__name__
        return None


def content_digest(source: str, bytes_max: int | None = None) -> bytes:
    """SHA-256 of the unpacked content, or of its beginning.

    Raises:
        any of `UNREADABLE`.
    """
    digest = hashlib.sha256()
    left = bytes_max
    with opened(source) as file, closing(unpacked(file)) as content:
        while left is None or left > 0:
            piece = content.read(_PIECE_BYTES if left is None else min(left, _PIECE_BYTES))
            if not piece:
                break
            digest.update(piece)
            left = None if left is None else left - len(piece)
    return digest.digest()
