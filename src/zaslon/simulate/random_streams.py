"""Random streams: one for each thing that is drawn, so that none moves another."""

from __future__ import annotations

import numpy as np

WORLD, ATTACKS, DAY, DEFECTS = range(4)


def random_stream(seed: int, *stream: int) -> np.random.Generator:
    """The generator of one stream: the same numbers give the same draws, on every machine."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *stream])))
