"""Label records: verdicts on transactions, or a sentence about what is none."""

from __future__ import annotations

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.domain.events import ID_TEXT, Labels, RecordBatch
from zaslon.domain.rejections import Reason
from zaslon.intake.detail import shown
from zaslon.intake.identifiers import EXPECTED, is_identifier, numbers_of

Int64 = NDArray[np.int64]
INT64_MAX = 2**63 - 1


def read_labels(
    batch: RecordBatch, chosen: Int64, key: bytes, *, are_texts: bool
) -> tuple[Labels, Int64, list[tuple[int, Reason, str]]]:
    """Labels, their records, and (record, reason, sentence) of what is no label.

    Args:
        batch, chosen: which of the batch's records are read.
        key: secret for the numbers of ids that are texts.
        are_texts: whether ids are texts.
    """
    ids, verdicts, good = [], [], []
    bad: list[tuple[int, Reason, str]] = []
    for i in chosen.tolist():
        try:
            content = orjson.loads(batch.raw(i))
        except orjson.JSONDecodeError:
            bad.append((i, Reason.UNREADABLE_LABEL, "The label is not valid JSON."))
            continue
        problem = _label_problem(content, are_texts=are_texts)
        if problem is not None:
            bad.append((i, Reason.UNREADABLE_LABEL, problem))
            continue
        ids.append(content["transaction_id"])
        verdicts.append(bool(content["is_fraud"]))
        good.append(i)
    index = np.array(good, np.int64)
    arrivals = batch.arrival_time_seconds[index]
    if not are_texts:
        return Labels(np.array(ids, np.int64), np.array(verdicts, np.bool_), arrivals), index, bad
    words = [_word(text) for text in ids]
    numbers = np.array([numbers_of(word, key)[0] for word in words], np.int64)
    return Labels(numbers, np.array(verdicts, np.bool_), arrivals, np.array(words, ID_TEXT)), index, bad


def _word(text: str) -> bytes:
    """The id in a label's string, as it would be read in a transaction's."""
    return text.strip(" \t").encode()


def _label_problem(content: object, *, are_texts: bool) -> str | None:
    if not isinstance(content, dict):
        return "The label is no JSON object."
    identifier, verdict = content.get("transaction_id"), content.get("is_fraud")
    if are_texts:
        if not isinstance(identifier, str):
            is_not = "" if identifier is None else " and no JSON string"
            return f"Field 'transaction_id' is {_shown(identifier)}{is_not}; expected {EXPECTED}."
        if not is_identifier(_word(identifier)):
            return f"Field 'transaction_id' is {_shown(identifier)}; expected {EXPECTED}."
    elif isinstance(identifier, bool) or not isinstance(identifier, int):
        return f"Field 'transaction_id' is {_shown(identifier)}; expected a whole number within 64 bits."
    elif not -INT64_MAX <= identifier <= INT64_MAX:
        return f"Field 'transaction_id' is {identifier}; expected a whole number within 64 bits."
    if not isinstance(verdict, int) or verdict not in (0, 1):
        return f"Field 'is_fraud' is {_shown(verdict)}; expected true or false."
    return None


def _shown(value: object) -> str:
    """A JSON value as it can be printed: a list may be too deep, a text too long for that."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return "missing" if value is None else shown(str(value).encode())
