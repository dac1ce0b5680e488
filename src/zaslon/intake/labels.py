"""Label records: verdicts on transactions, or what is wrong with those that are none."""

from __future__ import annotations

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.domain.events import ID_TEXT, Labels, RecordBatch
from zaslon.domain.rejections import Reason, RecordProblem
from zaslon.intake.detail import shown
from zaslon.intake.identifiers import EXPECTED, is_identifier, numbers_of
from zaslon.intake.json_members import member_counts, names_twice

Int64 = NDArray[np.int64]
INT64_MAX = 2**63 - 1
_READ = ("transaction_id", "is_fraud")


def read_labels(
    batch: RecordBatch, chosen: Int64, key: bytes, *, are_texts: bool
) -> tuple[Labels, Int64, list[tuple[int, tuple[RecordProblem, ...]]]]:
    """Labels, their records, and the problems of each record that is not a label.

    Args:
        batch, chosen: which of the batch's records are read.
        key: secret for the numbers of ids that are texts.
        are_texts: whether ids are texts.
    """
    ids, verdicts, good = [], [], []
    bad: list[tuple[int, tuple[RecordProblem, ...]]] = []
    records = [batch.raw(i) for i in chosen.tolist()]
    for i, record, members in zip(chosen.tolist(), records, member_counts(records), strict=True):
        try:
            content = orjson.loads(record)
        except orjson.JSONDecodeError:
            bad.append((i, (_problem(None, "The label is not valid JSON"),)))
            continue
        problems = _label_problems(content, are_texts=are_texts)
        if not problems and members != len(content):
            problems = tuple(
                _problem(n, "is named twice", "it once") for n in names_twice(record) if n in _READ
            )
        if problems:
            bad.append((i, problems))
            continue
        ids.append(content["transaction_id"])
        verdicts.append(bool(content["is_fraud"]))
        good.append(i)
    index = np.array(good, np.int64)
    arrivals = batch.arrival_time_seconds[index]
    if not are_texts:
        found = Labels(np.array(ids, np.int64), np.array(verdicts, np.bool_), arrivals, are_live=True)
        return found, index, bad
    words = [_word(text) for text in ids]
    numbers = np.array([numbers_of(word, key)[0] for word in words], np.int64)
    found = Labels(numbers, np.array(verdicts, np.bool_), arrivals, np.array(words, ID_TEXT), are_live=True)
    return found, index, bad


def _word(text: str) -> bytes:
    """The id in a label's string, as it would be read in a transaction's."""
    return text.strip(" \t").encode()


def _problem(field: str | None, problem: str, expected: str | None = None) -> RecordProblem:
    return RecordProblem(Reason.UNREADABLE_LABEL, field, problem, expected)


def _label_problems(content: object, *, are_texts: bool) -> tuple[RecordProblem, ...]:
    if not isinstance(content, dict):
        return (_problem(None, "The label is not a JSON object"),)
    identifier, verdict = content.get("transaction_id"), content.get("is_fraud")
    problem = _text_id_problem(identifier) if are_texts else _number_problem(identifier)
    found = [] if problem is None else [problem]
    if not isinstance(verdict, int) or verdict not in (0, 1):
        found.append(_problem("is_fraud", f"is {_shown(verdict)}", "true or false"))
    return tuple(found)


def _text_id_problem(identifier: object) -> RecordProblem | None:
    if not isinstance(identifier, str):
        is_not = "" if identifier is None else " and not a JSON string"
        return _problem("transaction_id", f"is {_shown(identifier)}{is_not}", EXPECTED)
    if not is_identifier(_word(identifier)):
        return _problem("transaction_id", f"is {_shown(identifier)}", EXPECTED)
    return None


def _number_problem(identifier: object) -> RecordProblem | None:
    if isinstance(identifier, int) and not isinstance(identifier, bool) and abs(identifier) <= INT64_MAX:
        return None
    return _problem("transaction_id", f"is {_shown(identifier)}", "a whole number within 64 bits")


def _shown(value: object) -> str:
    """A JSON value as it can be printed: a list may be too deep, a text too long for that."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return "missing" if value is None else shown(str(value).encode())
