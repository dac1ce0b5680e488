"""Pseudonyms: what stands for a text identifier, and how one is written so that only we can write it.

A text identifier becomes the keyed hash of its bytes. The log of a file names it by that hash, and
whoever could write such a name by hand could act in another customer's history. So it carries a
proof that only the holder of the key can compute: see docs/decisions/0008.
"""

from __future__ import annotations

import hashlib
import hmac

_PREFIX = b"key:"
KEY_BYTES_MAX = 64  # what BLAKE2b takes
# These set proofs and the key's mark apart from pseudonyms, which are made with the same key.
_OF_PROOFS, _OF_MARKS = b"zaslon proof", b"zaslon mark"


def pseudonym(word: bytes, key: bytes) -> int | None:
    """The int64 that stands for a text identifier.

    A word that `pseudonym_text` wrote with this key stands for the pseudonym in it. Any other word
    with the same beginning is nobody's: None.
    """
    if not word.startswith(_PREFIX):
        return _signed(hashlib.blake2b(word, digest_size=8, key=key[:KEY_BYTES_MAX]).digest())
    try:
        found = _signed(bytes.fromhex(word[len(_PREFIX) : len(_PREFIX) + 16].decode()))
    except ValueError:
        return None
    return found if hmac.compare_digest(word, pseudonym_text(found, key).encode()) else None


def pseudonym_text(value: int, key: bytes) -> str:
    """`key:`, the pseudonym in sixteen hex digits, `:`, and its proof in sixteen more."""
    digits = value.to_bytes(8, "big", signed=True)
    proof = hashlib.blake2b(digits, digest_size=8, key=key[:KEY_BYTES_MAX], person=_OF_PROOFS)
    return f"{_PREFIX.decode()}{digits.hex()}:{proof.hexdigest()}"


def key_mark(key: bytes) -> bytes:
    """Eight bytes by which a key is known again, and that tell nothing of it."""
    return hashlib.blake2b(digest_size=8, key=key[:KEY_BYTES_MAX], person=_OF_MARKS).digest()


def derived_secret(key: bytes, purpose: bytes) -> bytes:
    """Sixteen bytes for one purpose, named in up to 16 bytes; they tell nothing of the key or of others."""
    return hashlib.blake2b(digest_size=16, key=key[:KEY_BYTES_MAX], person=purpose).digest()


def _signed(digits: bytes) -> int:
    return int.from_bytes(digits, "big", signed=True)
