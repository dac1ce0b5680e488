"""Repeats across all input of a run, found exactly and in bounded memory.

A blocked Bloom filter (Putze, Sanders and Singler, "Cache-, hash- and space-efficient Bloom
filters", 2007) over transaction ids never forgets an id, so what it has not seen is new. What it
may have seen is a suspect: few rows, kept aside with their bytes, and looked up exactly at the
end. Its size only decides how many suspects there are, never the result. Its hash is keyed: nobody
can choose ids that make suspects of others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zaslon.system.compiled import Integer, compiled, inlined
from zaslon.system.intrinsics import prefetch
from zaslon.system.siphash import hashes_of, secret_words

_BITS_PER_ID = 6
_WORDS_PER_BLOCK = 8  # of 64 bits: one cache line
_AHEAD = 16  # ids between asking memory for a block and looking into it


@inlined
def _block_of(hashed: np.uint64, words: NDArray[np.uint64]) -> Integer:
    """Where the block of an id begins."""
    blocks = np.uint64(words.size // _WORDS_PER_BLOCK)
    return np.int64(((hashed >> np.uint64(32)) * blocks) >> np.uint64(32)) * _WORDS_PER_BLOCK


@compiled
def _mark(words: NDArray[np.uint64], hashes: NDArray[np.uint64], suspect: NDArray[np.bool_]) -> None:
    """Enter ids by their hashes; `suspect[i]`: all bits of the i-th were set before."""
    for i in range(hashes.size):
        if i + _AHEAD < hashes.size:
            prefetch(words, _block_of(hashes[i + _AHEAD], words))
        hashed = hashes[i]
        block = _block_of(hashed, words)
        bits = hashed * np.uint64(0xD6E8FEB86659FD93)
        seen = True
        for _ in range(_BITS_PER_ID):
            bit = bits >> np.uint64(55)  # nine bits name one of the block's 512
            word = block + np.int64(bit >> np.uint64(6))
            mask = np.uint64(1) << (bit & np.uint64(63))
            seen = seen and (words[word] & mask) != np.uint64(0)
            words[word] |= mask
            bits <<= np.uint64(9)
        suspect[i] = seen


class RepeatFilter:
    """Finds ids that may have been seen before. Memory: `filter_bytes`, as it is used.

    `secret` has 16 bytes.
    """

    def __init__(self, filter_bytes: int, secret: bytes) -> None:
        self._secret = secret_words(secret)
        blocks = max(1, filter_bytes // (8 * _WORDS_PER_BLOCK))
        self._words = np.zeros(blocks * _WORDS_PER_BLOCK, np.uint64)

    def suspects(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool[n]; False means certainly new. Every id counts as seen from here on."""
        suspect = np.zeros(len(ids), np.bool_)
        _mark(self._words, hashes_of(ids, self._secret), suspect)
        return suspect
