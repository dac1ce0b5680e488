"""Label records: verdicts on transactions, or a sentence about what is none."""

from __future__ import annotations

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.domain.events import Labels, RecordBatch
from zaslon.domain.rejections import Reason
from zaslon.intake.detail import shown

Int64 = NDArray[np.int64]
INT64_MAX = 2**63 - 1


def read_labels(batch: RecordBatch, chosen: Int64) -> tuple[Labels, Int64, list[tuple[int, Reason, str]]]:
    """Labels, their records, and (record, reason, sentence) of what is no label."""
    ids, verdicts, good = [], [], []
    bad: list[tuple[int, Reason, str]] = []
    for i in chosen.tolist():
        try:
            content = orjson.loads(batch.raw(i))
        except orjson.JSONDecodeError:
            bad.append((i, Reason.UNREADABLE_LABEL, "The label is not valid JSON."))
            continue
        problem = _label_problem(content)
        if problem is not None:
            bad.append((i, Reason.UNREADABLE_LABEL, problem))
            continue
        ids.append(content["transaction_id"])
        verdicts.append(bool(content["is_fraud"]))
        good.append(i)
    index = np.array(good, np.int64)
    arrivals = batch.arrival_time_seconds[index]
    return Labels(np.array(ids, np.int64), np.array(verdicts, np.bool_), arrivals), index, bad


def _label_problem(content: object) -> str | None:
    if not isinstance(content, dict):
        return "The label is no JSON object."
    identifier, verdict = content.get("transaction_id"), content.get("is_fraud")
    if isinstance(identifier, bool) or not isinstance(identifier, int):
        return f"Field 'transaction_id' is {_shown(identifier)}; expected a whole number within 64 bits."
    if not -INT64_MAX <= identifier <= INT64_MAX:
        return f"Field 'transaction_id' is {identifier}; expected a whole number within 64 bits."
    if not isinstance(verdict, int) or verdict not in (0, 1):
        return f"Field 'is_fraud' is {_shown(verdict)}; expected true or false."
    return None


def _shown(value: object) -> str:
    """A JSON value as it can be printed: a list may be too deep, a text too long for that."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return "missing" if value is None else shown(str(value).encode())
