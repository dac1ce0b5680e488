"""The fingerprint of clean days: which data a model has learned from, in 64 hex digits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from zaslon.domain.errors import InputError

# Derived from the other columns with the secret of the home.
_DERIVED = "digest_"


def clean_fingerprint(days: Sequence[tuple[int, Path]]) -> str:
    """SHA-256 of the content of clean days, as 64 hex digits.

    The same rows give the same fingerprint, however their files are compressed or divided. So they do in another
    home, unless ids are texts: pseudonyms of texts are made with the secret of the home.

    Args:
        days: (day number, Parquet file), oldest first, as `clean_days` gives them.

    Raises:
        InputError: a file is missing or damaged.
    """
    whole = hashlib.sha256()
    for day, path in days:
        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InputError(
                f"Clean day '{path}' cannot be read: {error}.", hint="Clean the files again."
            ) from error
        whole.update(f"{day} {len(frame)}\n".encode())
        for column in sorted(frame.get_columns(), key=lambda column: column.name):
            if not column.name.startswith(_DERIVED):
                _add(whole, column)
    return whole.hexdigest()


def _add(whole: hashlib._Hash, column: pl.Series) -> None:
    """Name, type, which values are null, and the values: lengths and bytes of texts, little-endian numbers."""
    whole.update(f"{column.name} {column.dtype}\n".encode())
    whole.update(np.packbits(column.is_null().to_numpy()).tobytes())
    if column.dtype in (pl.String, pl.Binary):
        texts = column.cast(pl.Binary).fill_null(b"")
        whole.update(texts.bin.size().to_numpy().astype("<i8").tobytes())
        whole.update(b"".join(texts.to_list()))
        return
    values = column.to_physical().fill_null(0).to_numpy()
    whole.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
