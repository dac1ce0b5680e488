"""The log's typed records beside Arrow IPC: bytes, and CPU microseconds to write and to read a batch.

    python benchmarks/log_encoding.py

The same columns of the built-in catalogue go through `admission.log_format` and, where they are
installed, through Arrow IPC streams as Polars and as pyarrow write them. Reading gives NumPy arrays.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from zaslon.admission import from_clean
from zaslon.admission.log_format import decode, encode
from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.events import Labels, LogBatch, Transactions

Columns = dict[str, NDArray[Any]]
SIZES = (1, 64, 5_000)
MOMENT = 1_600_000_000


def batch_of(count: int) -> LogBatch:
    """Transactions of the built-in catalogue."""
    random, catalogue = np.random.default_rng(1), load_catalogue()
    number = np.arange(count, dtype=np.int64)
    digests = random.integers(0, 2**64, (count, 2), dtype=np.uint64)
    none = np.full(count, -1, np.int8)
    transactions = Transactions(
        number + 10**9, number + MOMENT, random.integers(1, 10**6, count),
        {name: random.integers(1, 10**6, count) for name in catalogue.entities}, {},
        np.zeros(count, np.uint32), digests, none, none,
    )  # fmt: skip
    labels = Labels(number[:0], np.zeros(0, np.bool_), number[:0])
    return from_clean(transactions, labels, np.zeros(count, np.bool_), 0)[0]


def columns_of(batch: LogBatch) -> Columns:
    """What is written of it."""
    transactions = batch.transactions
    return {
        "kind": batch.kind, "degradation": batch.degradation, "arrival": batch.arrival_time_seconds,
        "transaction_id": transactions.transaction_id, "event_time": transactions.event_time_seconds,
        "amount": transactions.amount_minor, **transactions.entity_keys, "flags": transactions.flags,
        "digest_0": transactions.digest[:, 0], "digest_1": transactions.digest[:, 1],
        "is_fraud": transactions.is_fraud, "scenario": transactions.scenario,
    }  # fmt: skip


def ways(batch: LogBatch) -> Iterator[tuple[str, Callable[[], bytes], Callable[[bytes], object]]]:
    """(name, writes the batch, reads it)."""
    catalogue, columns = load_catalogue(), columns_of(batch)
    yield "zaslon", lambda: encode(batch, catalogue), lambda content: decode(content, catalogue)
    yield "polars", lambda: _polars(columns), _from_polars
    if find_spec("pyarrow") is not None:
        import pyarrow as pa  # noqa: PLC0415  only for the comparison

        schema = pa.schema([(name, pa.from_numpy_dtype(c.dtype)) for name, c in columns.items()])

        def write() -> bytes:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, schema) as writer:
                arrays = [pa.array(column) for column in columns.values()]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            return bytes(sink.getvalue().to_pybytes())

        def read(content: bytes) -> object:
            read = pa.ipc.open_stream(content).read_next_batch()
            return [column.to_numpy() for column in read.columns]

        yield "pyarrow", write, read


def _polars(columns: Columns) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(columns).write_ipc_stream(out, compression="uncompressed")
    return out.getvalue()


def _from_polars(content: bytes) -> object:
    return [column.to_numpy() for column in pl.read_ipc_stream(io.BytesIO(content)).get_columns()]


def _microseconds(work: Callable[[], object]) -> float:
    """CPU time of a call: best of five rounds of at least 20 ms each."""
    work()
    begin = time.process_time()
    work()
    calls = max(1, round(0.02 / (time.process_time() - begin)))
    best = float("inf")
    for _ in range(5):
        begin = time.process_time()
        for _ in range(calls):
            work()
        best = min(best, (time.process_time() - begin) / calls)
    return best * 1e6


def main() -> None:
    """Print the table."""
    print(f"{'records':>7} {'format':8} {'bytes':>9} {'write us':>9} {'read us':>9}")
    for count in SIZES:
        for name, write, read in ways(batch_of(count)):
            content = write()
            reading = _microseconds(lambda read=read, content=content: read(content))  # type: ignore[misc]
            print(f"{count:7} {name:8} {len(content):9,} {_microseconds(write):9.1f} {reading:9.1f}")


if __name__ == "__main__":
    main()
