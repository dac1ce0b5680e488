"""SipHash of 64-bit words, compiled: a hash that only the holder of a secret can compute.

Aumasson and Bernstein, "SipHash: a fast short-input PRF", Indocrypt 2012. Messages here are whole
words, little-endian, so the last block holds their length in bytes alone. Digests are SipHash-2-4;
hash tables use SipHash-1-3, as those of Rust and CPython do: its values are never visible.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zaslon.system.compiled import Integer, compiled, inlined

SECRET_BYTES = 16

_State = tuple[np.uint64, np.uint64, np.uint64, np.uint64]


def secret_words(secret: bytes) -> NDArray[np.uint64]:
    """uint64[2]: a secret as the compiled functions take it.

    Raises:
        ValueError: it is not SECRET_BYTES long.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret of {SECRET_BYTES} bytes is needed, not of {len(secret)}")
    return np.frombuffer(secret, "<u8").astype(np.uint64)


@inlined
def _turned(word: np.uint64, bits: int) -> np.uint64:
    """The word rotated to the left."""
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))


@inlined
def _round(v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64) -> _State:
    v0 += v1
    v2 += v3
    v1 = _turned(v1, 13) ^ v0
    v3 = _turned(v3, 16) ^ v2
    v0 = _turned(v0, 32) + v3
    v2 += v1
    v1 = _turned(v1, 17) ^ v2
    v3 = _turned(v3, 21) ^ v0
    return v0, v1, _turned(v2, 32), v3


@inlined
def _begun(secret: NDArray[np.uint64]) -> _State:
    return (
        secret[0] ^ np.uint64(0x736F6D6570736575), secret[1] ^ np.uint64(0x646F72616E646F6D),
        secret[0] ^ np.uint64(0x6C7967656E657261), secret[1] ^ np.uint64(0x7465646279746573),
    )  # fmt: skip


@inlined
def hash_of(word: Integer, secret: NDArray[np.uint64]) -> np.uint64:
    """SipHash-1-3 of one word, for a hash table; `secret` is uint64[2]."""
    message, length = np.uint64(word), np.uint64(8 << 56)
    v0, v1, v2, v3 = _begun(secret)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3 ^ message)
    v0, v1, v2, v3 = _round(v0 ^ message, v1, v2, v3 ^ length)
    v0, v1, v2, v3 = _round(v0 ^ length, v1, v2 ^ np.uint64(0xFF), v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


def hashes_of(words: NDArray[np.int64], secret: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """uint64[n]: the hash of each word. Several at once take a tenth of the time of one by one."""
    hashes = np.empty(len(words), np.uint64)
    _hash_words(words, secret, hashes)
    return hashes


@compiled
def _hash_words(words: NDArray[np.int64], secret: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> None:
    for i in range(words.size):
        hashes[i] = hash_of(words[i], secret)


@compiled
def digest_columns(
    columns: NDArray[np.int64], secret: NDArray[np.uint64], digest: NDArray[np.uint64]
) -> None:
    """SipHash-2-4 with 128 bits of output.

    Args:
        columns: int64[words, n]; message i is columns[:, i].
        secret: uint64[2].
        digest: uint64[n, 2], filled with the two output words of each message.
    """
    length = np.uint64(columns.shape[0] * 8) << np.uint64(56)
    for i in range(columns.shape[1]):
        v0, v1, v2, v3 = _begun(secret)
        v1 ^= np.uint64(0xEE)  # marks the longer output
        for number in range(columns.shape[0] + 1):
            word = np.uint64(columns[number, i]) if number < columns.shape[0] else length
            v3 ^= word
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
            v0 ^= word
        v2 ^= np.uint64(0xEE)
        for half in range(2):
            for _ in range(4):
                v0, v1, v2, v3 = _round(v0, v1, v2, v3)
            digest[i, half] = v0 ^ v1 ^ v2 ^ v3
            v1 ^= np.uint64(0xDD)
