"""Room: a restored array is given some, so that its first growth does not need it twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROOM_SHIFT = 4  # a 16th


def with_room(array: NDArray[Any]) -> NDArray[Any]:
    """A copy with room to grow for a while: growing a large array may need it twice for a moment.

    The room takes no memory until it is used, and is zero: equal logs have equal snapshots.
    """
    rows = len(array)
    roomy = np.zeros((rows + (rows >> _ROOM_SHIFT) + 1, *array.shape[1:]), array.dtype)
    roomy[:rows] = array
    return roomy
