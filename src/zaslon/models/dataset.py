"""Samples to train and evaluate on, and the split in time that keeps the future out of the past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import DataError
from zaslon.domain.time import day_text, parse_day

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """Transactions with their features and answers, n of them. All arrays are in the same order.

    Attributes:
        names: feature names, F of them, in the order of the columns.
        x: float32[n, F], the features as the engine served them, NaN for null.
        is_fraud: int8[n], 0 or 1.
        weight: float32[n], how many transactions each represents: 1 / its sampling rate.
        event_time_seconds: int64[n], seconds since 1970.
        amount_minor: int64[n].
        transaction_id: int64[n].
        entity_keys: int64[n, E], of the catalogue's E entities in its order; `NO_KEY` where there is none.
        scenario: int8[n], the simulator's fraud scenario, -1 where unknown.

    Raises:
        DataError: arrays of different lengths, or an answer that is neither 0 nor 1.
    """

    names: tuple[str, ...]
    x: Float32
    is_fraud: NDArray[np.int8]
    weight: Float32
    event_time_seconds: Int64
    amount_minor: Int64
    transaction_id: Int64
    entity_keys: Int64
    scenario: NDArray[np.int8]

    def __post_init__(self) -> None:
        """Check that the arrays belong together."""
        if self.x.ndim != 2 or self.x.shape[1] != len(self.names):
            raise DataError(
                f"The feature matrix has shape {self.x.shape}, but there are {len(self.names)} feature names."
            )
        for name in _PER_ROW[1:]:
            if len(getattr(self, name)) != len(self.x):
                raise DataError(
                    f"The sample has {len(self.x)} rows of features, "
                    f"but {len(getattr(self, name))} values of {name}."
                )
        if not np.isin(self.is_fraud, (0, 1)).all():
            raise DataError(
                "Some answers in the sample are neither fraud (1) nor good (0).",
                hint="Leave out transactions whose label is not known yet.",
            )
        if not (np.isfinite(self.weight) & (self.weight > 0)).all():
            raise DataError("Some weights in the sample are not positive numbers.")

    def __len__(self) -> int:
        """How many transactions."""
        return len(self.x)

    @property
    def customer_key(self) -> Int64:
        """int64[n]: whose card it is, the catalogue's first entity."""
        return self.entity_keys[:, 0]

    @property
    def frauds(self) -> int:
        """How many of the transactions are frauds, not weighted."""
        return int(np.count_nonzero(self.is_fraud))

    def take(self, chosen: Int64 | NDArray[np.bool_] | slice) -> Sample:
        """The chosen rows, in the order given."""
        return Sample(self.names, *(getattr(self, name)[chosen] for name in _PER_ROW))

    def without_features(self) -> Sample:
        """The same transactions without their features."""
        return replace(self, names=(), x=np.empty((len(self), 0), np.float32))

    @staticmethod
    def concatenate(parts: Sequence[Sample]) -> Sample:
        """All rows of `parts`, in order.

        Raises:
            DataError: there are no parts, or their features differ.
        """
        if not parts:
            raise DataError("There is nothing to put together: no part of a sample was given.")
        for part in parts:
            check_names(part.names, parts[0].names)
        return Sample(
            parts[0].names, *(np.concatenate([getattr(p, name) for p in parts]) for name in _PER_ROW)
        )


_PER_ROW = tuple(field.name for field in fields(Sample) if field.name != "names")


class SampleFiles:
    """Parts of a sample on disk, because replaying the history needs the memory.

    Args:
        directory: made if it is not there; nothing else may write into it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._parts = directory, 0

    def add(self, part: Sample) -> None:
        """Append a part."""
        if not len(part):
            return
        content: dict[str, NDArray[Any]] = {name: getattr(part, name) for name in _PER_ROW}
        np.savez(self._path(self._parts), allow_pickle=False, names=np.array(part.names), **content)
        self._parts += 1

    def joined(self) -> Sample | None:
        """All parts in order, None if there is none."""
        if not self._parts:
            return None
        return Sample.concatenate([self._read(number) for number in range(self._parts)])

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:06d}.npz"

    def _read(self, number: int) -> Sample:
        path = self._path(number)
        with np.load(path, allow_pickle=False) as content:
            return Sample(tuple(content["names"].tolist()), *(content[name] for name in _PER_ROW))


def check_names(given: Sequence[str], expected: Sequence[str]) -> None:
    """Check that features are the expected ones in the expected order.

    Raises:
        DataError: names the first difference.
    """
    if len(given) != len(expected):
        odd = sorted(set(expected) ^ set(given))
        raise DataError(
            f"{len(given)} features were given, {len(expected)} are expected"
            + (f"; '{odd[0]}' is on one side only." if odd else ".")
        )
    for column, (name, wanted) in enumerate(zip(given, expected, strict=True)):
        if name != wanted:
            raise DataError(
                f"Feature {column} is '{name}', expected is '{wanted}': "
                "features must be the same in the same order."
            )


def keep_by_id(transaction_id: Int64, share: float, seed: int) -> NDArray[np.bool_]:
    """bool[n]: whether each transaction is among the `share` that a seed keeps.

    It depends on id and seed alone: not on the order, the batch or the machine.
    """
    return _mixed(transaction_id, seed) < np.uint64(min(share * 2.0**64, 2.0**64 - 2048))


def _mixed(transaction_id: Int64, seed: int) -> NDArray[np.uint64]:
    """Steele, Lea and Flood's SplitMix64 finaliser (OOPSLA 2014) of id and seed, uint64[n]."""
    start = (seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = transaction_id.astype(np.uint64) * np.uint64(0xD1342543DE82EF95) + np.uint64(start)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass(frozen=True)
class Days:
    """Consecutive days, both ends included, as day numbers since 1970-01-01."""

    first: int
    last: int

    def __len__(self) -> int:
        """How many days."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        """`2018-07-25 … 2018-07-31`."""
        return f"{day_text(self.first)} … {day_text(self.last)}"

    @staticmethod
    def parse(text: str) -> Days:
        """The days that `str` has written.

        Raises:
            ZaslonError: the text is something else.
        """
        first, _, last = text.partition(" … ")
        return Days(parse_day(first), parse_day(last))

    def shared_with(self, other: Days) -> int:
        """How many days lie in both."""
        return max(0, min(self.last, other.last) - max(self.first, other.first) + 1)
