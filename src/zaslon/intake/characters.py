"""Invisible characters: where they are ignored, and where they are refused.

The list is ours, not Python's, whose list of printable characters changes with its version. It holds the
default ignorable code points of Unicode, the separators of lines and paragraphs, interlinear annotations
and the blank of Braille. See docs/decisions/0024.
"""

from __future__ import annotations

import re
import unicodedata

INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
BLANKS = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"  # besides space and tab
# From here on a float represents several integers.
EXACT_INTEGER_LIMIT = 2**53
_EXACT_DIGITS = len(str(-EXACT_INTEGER_LIMIT))
_WHOLE_FLOAT = re.compile(rb"(-?(?:0|[1-9][0-9]*))\.0+")
_ROUNDED = re.compile(rb"-?[0-9](?:\.[0-9]+)?[eE]\+[0-9]+")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_VALUE_CHARACTERS_MAX = 60
_BLANKS = re.compile(f"[ \t{BLANKS}]+")


def display_text(value: bytes) -> str:
    """A value as it can be printed: escaped, and cut where it is long."""
    text = value.decode("utf-8", "backslashreplace")
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(printable) > _VALUE_CHARACTERS_MAX:
        printable = printable[:_VALUE_CHARACTERS_MAX] + "…"
    return f"'{printable}'"


def plain_text(word: bytes) -> tuple[bytes, bool]:
    """The visible content of a text, and whether it had invisible characters.

    Without invisible characters, in Unicode's form NFKC (ｋ is k, and é is é however it is composed),
    with one space for any run of blanks and none at the ends. Upper and lower case stay. May be empty.

    Args:
        word: UTF-8 without control characters.
    """
    if word.isascii():
        return b" ".join(word.split()), False
    text = word.decode("utf-8")
    seen = _INVISIBLE.sub("", text)
    return _BLANKS.sub(" ", unicodedata.normalize("NFKC", seen)).strip(" ").encode(), seen != text


def key_text(word: bytes) -> tuple[bytes | None, bool]:
    """The text by which an entity is known, and whether it had invisible characters.

    An integer that went through a float, as in a column with gaps, is that integer: 41.0 is 41. None for one
    that has lost digits there, 2**53 or more, or that a spreadsheet has rounded: 1.23E+15 represents many.
    """
    text, has_unseen = plain_text(word)
    if _ROUNDED.fullmatch(text):
        return None, has_unseen
    if whole := _WHOLE_FLOAT.fullmatch(text):
        is_exact = len(whole[1]) <= _EXACT_DIGITS and abs(int(whole[1])) < EXACT_INTEGER_LIMIT
        return whole[1] if is_exact else None, has_unseen
    return text, has_unseen
