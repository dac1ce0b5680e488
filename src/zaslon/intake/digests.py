"""Digests: what a repeat is recognised by. See docs/decisions/0017."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from zaslon.intake.pseudonyms import derived_secret
from zaslon.system.siphash import digest_columns, secret_words

_OF_DIGESTS = b"zaslon digest"


def digests_of(
    integers: Sequence[NDArray[np.int64]], numbers: Sequence[NDArray[np.float64]], key: bytes
) -> NDArray[np.uint64]:
    """uint64[n, 2]: a keyed digest of 128 bits of each record's content.

    Records are equal if and only if their digests are, unless somebody who knows the key made them.

    Args:
        integers: at least one column of n integers.
        numbers: columns of n numbers; NaN is one value, and so is zero.
        key: the home's key.
    """
    columns = np.empty((len(integers) + len(numbers), len(integers[0])), np.int64)
    for place, column in enumerate(integers):
        columns[place] = column
    for place, number in enumerate(numbers, start=len(integers)):
        columns[place] = np.where(np.isnan(number), np.nan, number + 0.0).view(np.int64)
    digests = np.empty((columns.shape[1], 2), np.uint64)
    digest_columns(columns, _secret(key), digests)
    return digests


@lru_cache(maxsize=8)
def _secret(key: bytes) -> NDArray[np.uint64]:
    return secret_words(derived_secret(key, _OF_DIGESTS))
