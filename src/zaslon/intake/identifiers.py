"""Transaction ids that are texts: what such a text may be, and the internal numbers for them.

See docs/decisions/0014. Which characters are refused is a list of its own, because what Python calls
printable changes with its version, and a log must read the same permanently.
"""

from __future__ import annotations

import hashlib
import re
import struct

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import ID_BYTES_MAX, TransactionId
from zaslon.intake.characters import BLANKS, INVISIBLE
from zaslon.intake.pseudonyms import KEY_BYTES_MAX

EXPECTED = f"text of 1 to {ID_BYTES_MAX} bytes in visible characters"
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_PLAIN = re.compile(rb"[ -~]+")
_UNSEEN = re.compile(f"[\x00-\x1f\x7f-\x9f{INVISIBLE}{BLANKS}]")
# Separates these numbers from pseudonyms, which use the same key.
_OF_IDS = b"zaslon id"
_TWO_NUMBERS = struct.Struct(">qq")


def is_identifier(word: bytes) -> bool:
    """Whether a text, without blanks at its ends, can be the id of a transaction."""
    if not 1 <= len(word) <= ID_BYTES_MAX:
        return False
    if _PLAIN.fullmatch(word):
        return True
    try:
        return _UNSEEN.search(word.decode("utf-8")) is None
    except UnicodeDecodeError:
        return False


def numbers_of(word: bytes, key: bytes) -> tuple[int, int]:
    """Two int64: the transaction's number inside, and what its digest knows the text by."""
    digest = hashlib.blake2b(word, digest_size=16, key=key[:KEY_BYTES_MAX], person=_OF_IDS).digest()
    number, beside = _TWO_NUMBERS.unpack(digest)
    return number, beside


def named_by(text: str, catalogue: Catalogue) -> TransactionId | None:
    """The transaction that a person, a command or a line of a list names; None if it can name none."""
    text = text.strip(" \t")
    if not catalogue.has_text_ids:
        return int(text) if _INTEGER.fullmatch(text) else None
    return text if is_identifier(text.encode("utf-8", "surrogateescape")) else None
