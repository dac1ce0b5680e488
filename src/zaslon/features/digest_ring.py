"""Digests of the newest rows of the deduplication index, in a ring."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zaslon.system.compiled import Integer, compiled, inlined

Digests = NDArray[np.uint64]  # [n, 2]
NO_DIGEST: Digests = np.zeros((1, 2), np.uint64)  # of a label that waits for its transaction


@inlined
def has_digest(ring: Digests, row: Integer, digests: Digests, number: Integer) -> bool:
    """Whether a row's digest is `digests[number]`."""
    place = row % ring.shape[0]
    return bool(ring[place, 0] == digests[number, 0] and ring[place, 1] == digests[number, 1])


@inlined
def put_digest(ring: Digests, row: Integer, digests: Digests, number: Integer) -> None:
    """Let a row's digest be `digests[number]`."""
    place = row % ring.shape[0]
    ring[place, 0], ring[place, 1] = digests[number, 0], digests[number, 1]


@compiled
def _put_all(ring: Digests, first: Integer, digests: Digests) -> None:
    for number in range(digests.shape[0]):
        put_digest(ring, first + number, digests, number)


def digest_ring(capacity: int, digests: Digests = NO_DIGEST[:0], first: int = 0) -> Digests:
    """A ring that holds `digests`, those of row `first` and the next ones."""
    ring = np.zeros((capacity, 2), np.uint64)
    _put_all(ring, first, digests)
    return ring


def ring_content(ring: Digests, first: int, end: int) -> Digests:
    """The digests of rows `first` to before `end`: a view if they are contiguous, else a copy."""
    begin = first % len(ring)
    beyond = begin + end - first - len(ring)
    return ring[begin : begin + end - first] if beyond <= 0 else np.concatenate([ring[begin:], ring[:beyond]])
