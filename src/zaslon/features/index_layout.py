"""The index of remembered transactions: how large it is, in buckets of one line of the cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import DataError
from zaslon.features.entity_keys import EMPTY
from zaslon.system.compiled import Integer, inlined

BUCKET_SHIFT = 4
BUCKET = 1 << BUCKET_SHIFT
_LOAD_MAX = 0.84


@inlined
def rows_of(places: NDArray[np.uint32]) -> Integer:
    """How many rows an index of that size may name."""
    return np.int64(_LOAD_MAX * places.size)


def empty_index(entries: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Places and `passed` of an index that may name `entries` rows, all free."""
    buckets = int(entries / (_LOAD_MAX * BUCKET)) + 1
    places = np.full((buckets + 1) * BUCKET, EMPTY, np.uint32)
    at_line = -places.ctypes.data % 64 // places.itemsize  # a bucket is one line of the cache
    return places[at_line:][: buckets * BUCKET], np.zeros(buckets, np.uint8)


def row_bits(rows: int) -> int:
    """Bits of an index place that number the rows. One bit is left to distinguish EMPTY.

    Raises:
        DataError: the rows are too many to be numbered.
    """
    bits = max(int(rows).bit_length(), 8)
    if bits > 31:
        raise DataError(
            f"More than {2**31 - 1:,} transactions would have to be remembered.",
            hint="Shorten `remember` in the catalogue.",
        )
    return bits
