"""Typed batches of every kind for tests, and what makes two of them the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.text_ids import TEXT_MISSION
from tests.unit.intake_cases import MISSION, SHOP

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import (
    ID_TEXT,
    Degradation,
    EntryKind,
    IdText,
    Labels,
    LogBatch,
    Originals,
    Rejected,
    Transactions,
)
from zaslon.domain.rejections import Reason, RecordProblem

CATALOGUES = (MISSION, TEXT_MISSION, SHOP)
_INT64 = st.integers(-(2**63), 2**63 - 1)
_ID_TEXTS = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=16)


@st.composite
def log_batches(draw: st.DrawFn, catalogue: Catalogue) -> LogBatch:
    """Any mix of transactions, labels and rejections, with their original bytes."""
    kinds = draw(st.lists(st.sampled_from(list(EntryKind)), max_size=12))
    kind = np.array(kinds, np.uint8)
    arrival = _drawn(draw, _INT64, len(kinds), np.int64)
    degradation = _drawn(draw, st.sampled_from(list(Degradation)), len(kinds), np.uint8)
    raw = draw(st.lists(st.binary(max_size=20), min_size=len(kinds), max_size=len(kinds)))
    ends = np.cumsum([len(r) for r in raw], dtype=np.int64)
    lengths = np.array([len(r) for r in raw], np.int64)
    return LogBatch(
        draw(st.integers(0, 2**62)), kind, degradation, arrival,
        _transactions(draw, catalogue, kinds.count(EntryKind.TRANSACTION)),
        _labels(draw, catalogue, arrival[kind == EntryKind.LABEL]),
        _rejected(draw, np.flatnonzero(kind == EntryKind.REJECTED)),
        Originals(np.frombuffer(b"".join(raw), np.uint8), ends - lengths, lengths),
    )  # fmt: skip


def _drawn(draw: st.DrawFn, values: st.SearchStrategy[Any], count: int, dtype: Any) -> NDArray[Any]:
    return np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype)


def _transactions(draw: st.DrawFn, catalogue: Catalogue, count: int) -> Transactions:
    def integers() -> NDArray[np.int64]:
        return _drawn(draw, _INT64, count, np.int64)

    def small() -> NDArray[np.int8]:
        return _drawn(draw, st.integers(-1, 127), count, np.int8)

    def flags() -> NDArray[np.uint32]:
        return _drawn(draw, st.integers(0, 2**32 - 1), count, np.uint32)

    def digests() -> NDArray[np.uint64]:
        return _drawn(draw, st.integers(0, 2**64 - 1), 2 * count, np.uint64).reshape(count, 2)

    numbers = {name: _drawn(draw, st.floats(), count, np.float64) for name in catalogue.number_fields}
    return Transactions(
        integers(), integers(), integers(), {name: integers() for name in catalogue.entities}, numbers,
        flags(), digests(), small(), small(), _id_text(draw, catalogue, count),
    )  # fmt: skip


def _labels(draw: st.DrawFn, catalogue: Catalogue, arrival: NDArray[np.int64]) -> Labels:
    count = len(arrival)
    verdicts = _drawn(draw, st.booleans(), count, np.bool_)
    ids, texts = _drawn(draw, _INT64, count, np.int64), _id_text(draw, catalogue, count)
    return Labels(ids, verdicts, arrival, texts, draw(st.booleans()))


def _id_text(draw: st.DrawFn, catalogue: Catalogue, count: int) -> IdText | None:
    if not catalogue.has_text_ids:
        return None
    texts = draw(st.lists(_ID_TEXTS, min_size=count, max_size=count))
    return np.array([text.encode() for text in texts], ID_TEXT)


def _rejected(draw: st.DrawFn, index: NDArray[np.int64]) -> Rejected:
    texts = st.text(max_size=20)
    problem = st.builds(
        RecordProblem,
        st.sampled_from(list(Reason)),
        st.none() | st.just("tx_amount"),
        texts,
        st.none() | texts,
    )
    problems = st.lists(problem, min_size=1, max_size=3).map(tuple)
    return Rejected(index, draw(st.lists(problems, min_size=len(index), max_size=len(index))))


def content_of(batch: LogBatch) -> dict[str, object]:
    """Everything in a batch, as values that can be compared; not-a-number equals itself."""
    originals = [batch.original(i) for i in range(len(batch))]
    return {
        "first_position": batch.first_position, "originals": originals,
        "problems": batch.rejected.problems, "labels_are_live": batch.labels.are_live,
        **{name: _plain(array) for name, array in _arrays(batch).items()},
    }  # fmt: skip


def _arrays(batch: LogBatch) -> dict[str, NDArray[Any] | None]:
    transactions, labels = batch.transactions, batch.labels
    return {
        "kind": batch.kind, "degradation": batch.degradation, "arrival": batch.arrival_time_seconds,
        **{f"transactions.{name}": value for name, value in vars(transactions).items()
           if not isinstance(value, dict)},
        **{f"entity.{name}": keys for name, keys in transactions.entity_keys.items()},
        **{f"number.{name}": values for name, values in transactions.numbers.items()},
        **{f"labels.{name}": value for name, value in vars(labels).items() if name != "are_live"},
        "rejected.index": batch.rejected.index,
    }  # fmt: skip


def _plain(array: NDArray[Any] | None) -> object:
    return None if array is None else (str(array.dtype), array.shape, array.tobytes())
