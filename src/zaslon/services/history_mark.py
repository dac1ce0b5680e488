"""What distinguishes one remembered past from another."""

from __future__ import annotations

import hashlib

import numpy as np

from zaslon.domain.catalogue import Catalogue
from zaslon.features.history import History


def history_mark(catalogue: Catalogue, history: History) -> str:
    """16 hexadecimal digits of all that it holds, and of the catalogue."""
    digest = hashlib.blake2b(catalogue.hash.encode(), digest_size=8)
    for name, values in sorted(history.save().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
