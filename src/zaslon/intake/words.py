"""Words with a special meaning: a value that is absent or not known, a yes or a no."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from zaslon.intake.characters import plain_text
from zaslon.intake.text import Int64, UInt8, find_listed


class Words:
    """A list of words, in which upper and lower case are the same."""

    def __init__(self, words: Iterable[str]) -> None:
        found = [plain_text(word.encode())[0].lower() for word in words]
        self._all = frozenset(found)
        self._joined = np.frombuffer(b"".join(found), np.uint8)
        self._ends = np.cumsum([0] + [len(word) for word in found])
        self._begins = np.zeros(256, np.uint8)
        self._begins[[byte for word in found for byte in word[:1].lower() + word[:1].upper()]] = 1

    def __contains__(self, word: bytes) -> bool:
        """Whether a word is in the list."""
        return word.lower() in self._all

    def find(self, buffer: UInt8, start: Int64, length: Int64) -> NDArray[np.bool_] | None:
        """bool, as `start`: which fields, as views into the buffer, are words of the list; None: not one."""
        if not self._all:
            return None
        found = np.zeros(start.size, np.bool_)
        is_any = find_listed(
            buffer, start.ravel(), length.ravel(), self._joined, self._ends, self._begins, found
        )
        return found.reshape(start.shape) if is_any else None


# How verdicts are written besides 1 and 0.
ANSWERS = {
    1: Words(("true", "yes", "chargeback", "confirmed_fraud")),
    0: Words(("false", "no", "confirmed_good")),
}
