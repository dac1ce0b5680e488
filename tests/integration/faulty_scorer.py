"""`zaslon stream` whose own code fails at a stage on chosen transactions.

    python faulty_scorer.py STAGE IDS HOME

STAGE is one of `STAGES`; IDS are transaction ids, separated by commas.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from zaslon.domain.events import LogBatch, RecordBatch
from zaslon.domain.outcomes import Decision
from zaslon.engine import Engine
from zaslon.engine.batch_outcomes import BatchOutcomes

admission = importlib.import_module("zaslon.admission.admit")  # its name is also that of a function
STAGES = ("admission", "features", "score", "outcomes", "encoding")


def fault_at(stage: str, ids: Sequence[int]) -> tuple[Any, str, Callable[..., Any]]:
    """What to replace by what, so that a stage fails whenever one of the transactions is there."""
    if stage == "admission":
        return _failing(admission, "clean_batch", lambda batch, *_: _raw_ids(batch), ids)
    if stage == "features":
        return _failing(Engine, "apply", lambda _, found, *__: found.transaction_id.tolist(), ids)
    if stage == "score":
        return _failing(Engine, "process", lambda _, batch: _log_ids(batch), ids, after=True)
    if stage == "outcomes":
        return _failing(BatchOutcomes, "assemble", lambda outcomes: _log_ids(outcomes.batch), ids)
    return _failing(Decision, "to_json", lambda decision: [decision.transaction_id], ids)


def _failing(
    owner: Any, name: str, ids_of: Callable[..., list[int]], ids: Sequence[int], *, after: bool = False
) -> tuple[Any, str, Callable[..., Any]]:
    call, chosen = getattr(owner, name), set(ids)

    def failing(*given: Any) -> Any:
        found = call(*given) if after else None  # after it, the state has changed already
        if chosen & set(ids_of(*given)):
            raise ZeroDivisionError("a fault that a test has put here")
        return found if after else call(*given)

    return owner, name, failing


def _log_ids(batch: LogBatch) -> list[int]:
    return [int(n) for n in batch.transactions.transaction_id]


def _raw_ids(batch: RecordBatch) -> list[int]:
    ids = []
    for index in range(len(batch)):
        raw = batch.raw(index)
        word = raw.split(b",")[0] if not raw.startswith(b"{") else b"%d" % orjson.loads(raw)["transaction_id"]
        if word.isdigit():
            ids.append(int(word))
    return ids


if __name__ == "__main__":
    from zaslon.entrypoints.cli import main

    stage, ids, home = sys.argv[1:]
    setattr(*fault_at(stage, [int(word) for word in ids.split(",")]))
    sys.argv[1:] = ["stream", "--home", home, "--json"]
    sys.exit(main())
