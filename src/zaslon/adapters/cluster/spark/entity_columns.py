"""What a task does with its partition of the clean rows: one entity's columns, day after day.

Rows come in log order and leave in log order. The features of the entities that were passed travel with
them as float32 in one binary column, so that an exchange moves few and narrow columns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zaslon.adapters.cluster.spark.software import Software
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import ID_TEXT, NO_KEY, Transactions
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.engine.entity_pass import EntityPass
from zaslon.features.plan import FeaturePlan, plan_features

FEATURES = "_features"  # no field of a catalogue can have this name
_SECRET_BYTES = 16


def row_schema(catalogue: Catalogue) -> pa.Schema:
    """The columns of clean rows that features are made of, and FEATURES."""
    identifier = (
        [("transaction_id", pa.string()), ("transaction_key", pa.int64())]
        if catalogue.has_text_ids
        else [("transaction_id", pa.int64())]
    )
    return pa.schema(
        [
            *identifier,
            ("event_time_seconds", pa.int64()),
            ("amount_minor", pa.int64()),
            *((f"{entity}_key", pa.int64()) for entity in catalogue.entities),
            *((name, pa.float64()) for name in catalogue.number_fields),
            ("flags", pa.int32()),
            ("is_fraud", pa.int8()),
            (FEATURES, pa.binary()),
        ]
    )


def feature_schema(plan: FeaturePlan) -> pa.Schema:
    """The columns of the result: those of `zaslon features`."""
    identifier = pa.string() if plan.catalogue.has_text_ids else pa.int64()
    return pa.schema(
        [
            ("transaction_id", identifier),
            ("event_time_seconds", pa.int64()),
            ("is_fraud", pa.int8()),
            *((name, pa.float32()) for name in plan.names),
        ]
    )


def width_after(plan: FeaturePlan, number: int) -> int:
    """Columns of the matrix that are known once entity `number` has been passed; -1: none has."""
    own = sum(info.kind in ("transaction", "flag") for info in plan.infos)
    return own + sum(len(entity.columns) for entity in plan.entities[: number + 1])


@dataclass(frozen=True)
class EntityColumns:
    """The task: computes the columns of one entity for all rows of some of its keys.

    `mapInArrow` calls it on an executor with the batches of one partition, in log order.
    """

    catalogue: Catalogue
    number: int
    label_delay_seconds: int
    software: Software

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same rows with the columns of this entity; behind the last entity, the result's columns."""
        self.software.check_here()
        plan = plan_features(self.catalogue)
        run = EntityPass(plan, self.number, os.urandom(_SECRET_BYTES), self.label_delay_seconds)
        for day, rows in by_day(batches):
            yield from self._of_day(run, plan, day, rows).to_batches()

    def _of_day(self, run: EntityPass, plan: FeaturePlan, day: int, rows: pa.Table) -> pa.Table:
        known = np.zeros((len(rows), len(plan.names)), np.float32)
        before = width_after(plan, self.number - 1)
        if self.number:
            known[:, :before] = matrix_of(rows[FEATURES], before)
        matrix = run.day(day, transactions_of(rows, self.catalogue), known)
        if self.number == len(plan.entities) - 1:
            return _result(rows, matrix, plan)
        column = binary_of(matrix[:, : width_after(plan, self.number)])
        return rows.set_column(rows.schema.get_field_index(FEATURES), FEATURES, column)


def by_day(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """Day numbers and all rows of each, from batches in the order of time."""
    held: list[pa.RecordBatch] = []
    current = -1
    for batch in batches:
        day = batch.column("event_time_seconds").to_numpy(zero_copy_only=False) // SECONDS_PER_DAY
        begins = [0, *(np.flatnonzero(np.diff(day)) + 1).tolist(), len(day)]
        for begin, end in pairwise(begins):
            if begin == end:
                continue
            if held and day[begin] != current:
                yield current, pa.Table.from_batches(held)
                held = []
            current = int(day[begin])
            held.append(batch.slice(begin, end - begin))
    if held:
        yield current, pa.Table.from_batches(held)


def transactions_of(rows: pa.Table, catalogue: Catalogue) -> Transactions:
    """Rows of `row_schema` as transactions. Their digests are not needed: no id is there twice."""
    column = {name: rows[name] for name in rows.column_names}
    id_text = None
    if catalogue.has_text_ids:
        id_text = np.array([text.encode() for text in column["transaction_id"].to_pylist()], ID_TEXT)
    ids = column["transaction_key" if catalogue.has_text_ids else "transaction_id"]
    return Transactions(
        ids.to_numpy(), column["event_time_seconds"].to_numpy(), column["amount_minor"].to_numpy(),
        {e: column[f"{e}_key"].fill_null(NO_KEY).to_numpy() for e in catalogue.entities},
        {name: column[name].to_numpy() for name in catalogue.number_fields},
        column["flags"].to_numpy().view(np.uint32), np.zeros((len(rows), 2), np.uint64),
        column["is_fraud"].to_numpy(), np.full(len(rows), -1, np.int8), id_text,
    )  # fmt: skip


def binary_of(matrix: NDArray[np.float32]) -> pa.Array:
    """Each row of a matrix as bytes."""
    rows, width = matrix.shape
    content = pa.py_buffer(np.ascontiguousarray(matrix).tobytes())
    offsets = np.arange(rows + 1, dtype=np.int64) * (4 * width)
    if offsets[-1] > np.iinfo(np.int32).max:  # more than a binary column holds: in two parts
        half = rows // 2
        return pa.chunked_array([*_chunks(matrix[:half]), *_chunks(matrix[half:])])
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets.astype(np.int32)), content])


def _chunks(matrix: NDArray[np.float32]) -> Sequence[pa.Array]:
    part = binary_of(matrix)
    return part.chunks if isinstance(part, pa.ChunkedArray) else [part]


def matrix_of(column: pa.ChunkedArray, width: int) -> NDArray[np.float32]:
    """The inverse of `binary_of`: float32[rows, width]."""
    parts = [_matrix_of_chunk(chunk, width) for chunk in column.chunks if len(chunk)]
    return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)


def _matrix_of_chunk(chunk: pa.Array, width: int) -> NDArray[np.float32]:
    _, offsets, content = chunk.buffers()
    begin = int(np.frombuffer(offsets, np.int32, 1, 4 * chunk.offset)[0])
    return np.frombuffer(content, np.float32, len(chunk) * width, begin).reshape(len(chunk), width)


def _result(rows: pa.Table, matrix: NDArray[np.float32], plan: FeaturePlan) -> pa.Table:
    own = [rows[name].combine_chunks() for name in ("transaction_id", "event_time_seconds", "is_fraud")]
    columns = [pa.array(np.ascontiguousarray(matrix[:, k])) for k in range(matrix.shape[1])]
    return pa.table([*own, *columns], schema=feature_schema(plan))
