"""Pseudonyms: numbers in place of text identifiers, which the log never holds.

A text identifier becomes the keyed hash of its bytes, once, at admission. See docs/decisions/0008.
"""

from __future__ import annotations

import hashlib

from zaslon.domain.events import NO_KEY

KEY_BYTES_MAX = 64  # what BLAKE2b takes
_OF_MARKS = b"zaslon mark"  # separates the key's mark from pseudonyms, which use the same key
_OF_TABLES = b"zaslon tables"


def pseudonym(word: bytes, key: bytes) -> int:
    """The int64 for a text identifier."""
    digest = hashlib.blake2b(word, digest_size=8, key=key[:KEY_BYTES_MAX]).digest()
    return max(int.from_bytes(digest, "big", signed=True), NO_KEY + 1)


def key_mark(key: bytes) -> bytes:
    """Eight bytes that identify a key and reveal nothing of it."""
    return hashlib.blake2b(digest_size=8, key=key[:KEY_BYTES_MAX], person=_OF_MARKS).digest()


def derived_secret(key: bytes, purpose: bytes) -> bytes:
    """Sixteen bytes for one purpose, named in up to 16 bytes; they reveal nothing of the key or of others."""
    return hashlib.blake2b(digest_size=16, key=key[:KEY_BYTES_MAX], person=purpose).digest()


def table_secret(key: bytes) -> bytes:
    """Sixteen bytes that key the hash tables of what a client may choose."""
    return derived_secret(key, _OF_TABLES)
