"""Sources with the same content under two names, however they are packed."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing

from zaslon.system.opening import local_path, opened, unpacked

# What two sources must share before all of them is read again to compare it.
_BEGINNING_BYTES = 64 * 1024
_PIECE_BYTES = 1 << 20


def same_files(sources: Sequence[str]) -> list[list[str]]:
    """Pairs of sources of which the second has the content of the first, unpacked.

    Sources that can be read once only, such as pipes, are left out.

    Raises:
        InputError, OSError, ValueError, EOFError: a source can no longer be read.
    """
    if len(sources) < 2:
        return []
    by_beginning: dict[bytes, list[str]] = defaultdict(list)
    for source in filter(_is_lasting, sources):
        by_beginning[_digest(source, _BEGINNING_BYTES)].append(source)
    pairs = []
    for alike in by_beginning.values():
        first: dict[bytes, str] = {}
        for source in alike if len(alike) > 1 else ():
            content = _digest(source, None)
            if content in first:
                pairs.append([first[content], source])
            first.setdefault(content, source)
    return pairs


def _is_lasting(source: str) -> bool:
    path = local_path(source)
    return path is None or path.is_file()


def _digest(source: str, bytes_max: int | None) -> bytes:
    """Of the beginning, or of everything for None."""
    digest = hashlib.blake2b(digest_size=16)
    left = bytes_max
    with opened(source) as file, closing(unpacked(file)) as content:
        while left is None or left > 0:
            piece = content.read(_PIECE_BYTES if left is None else min(left, _PIECE_BYTES))
            if not piece:
                break
            digest.update(piece)
            left = None if left is None else left - len(piece)
    return digest.digest()
