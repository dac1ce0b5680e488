"""Faults of our own code, injected into one stage, that only one transaction or label meets."""

from __future__ import annotations

import importlib
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from traceback import walk_stack
from types import CodeType
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest
from tests.call_trace import named_function

from zaslon.domain.events import Kind, LogBatch
from zaslon.domain.outcomes import Decision
from zaslon.domain.rejections import Reason
from zaslon.ports import Call
from zaslon.testing import SmallWorld

STAGES = ("clean", "apply", "score", "rules", "explain", "encode")
EMBEDDED_STAGES = (*STAGES, "record")  # where the log is a file
STREAM_STAGES = ("raw", *STAGES, "record_stream")  # where it is a topic
LABEL_STAGES = ("clean_label", "apply_label", "encode_label")
EMBEDDED_LABEL_STAGES = (*LABEL_STAGES, "record_label")
STREAM_LABEL_STAGES = ("raw", *LABEL_STAGES, "record_label_stream")
# Where records come from a file: until they are in the log, and, of labels, until they are cleaned.
FILE_STAGES = ("split", "fields", "clean", "stage", "by_day", "settle", "sort", "join")
LABEL_FILE_STAGES = ("split", "label_rows")
PRODUCE_STAGES = ("days", "as_json", "send_times")  # where records of a file are sent to a topic

# Behind the engine of a stream: where a rejection becomes a message, and where a gateway reads outcomes.
PUBLISH, GATEWAY_STAGES = "publish", ("read_gateway", "answer_gateway")
SUBMIT, SUBMIT_GATEWAY = "submit", "submit_gateway"  # a call, to the decision worker and to the topics
# Of a call: before its records are admitted, and after their outcomes are recorded.
CALL_STAGE, ANSWER_STAGES = "call", ("answer", "pack_answer")


class Place(NamedTuple):
    """A function that fails, and what it looks at: amounts or ids or bytes among what it is given."""

    module: str
    owner: str | None
    name: str
    looked_at: Callable[..., Any]


_IN_AMOUNTS = {
    "clean": Place("intake.cleaning", "_Reading", "result", lambda it: it.values["tx_amount"] / 100),
    "stage": Place("intake.chunk_cleaning", None, "frame_of", lambda rows: rows.amount_minor / 100),
    "by_day": Place("intake.staging", None, "_by_day", lambda rows: rows["amount_minor"] / 100),
    "settle": Place("intake.staging", None, "settle", lambda rows, *rest: rows["amount_minor"] / 100),
    "sort": Place("intake.staging", None, "_finished", lambda rows, *rest: rows["amount_minor"] / 100),
    "join": Place("admission.admit", None, "_joined", lambda rows, *rest: rows.amount_minor / 100),
    "apply": Place("features.history", "History", "apply", lambda _, rows, *rest: rows.amount_minor / 100),
    "score": Place("models.model", "Model", "score", lambda _, matrix: matrix[:, 0]),
    "rules": Place("engine.batch_outcomes", None, "decide", lambda _, scores, columns: columns["amount"]),
    "explain": Place("decisions.reasons", "ReasonWriter", "explain", lambda _, x, w, minor: minor / 100),
    "record": Place("adapters.embedded.sqlite_journal", None, "encode", lambda batch, *rest: _amounts(batch)),
    "record_stream": Place(
        "adapters.cluster.kafka.live_log", None, "encode", lambda batch, *rest: _amounts(batch)
    ),
}
_IN_IDS = {
    "encode": Place("domain.outcomes", "Decision", "to_json", lambda made: [made.transaction_id]),
    "clean_label": Place("intake.cleaning", None, "clean_labels", lambda batch, chosen, *rest: _ids(batch)),
    "apply_label": Place("features.history", "History", "apply", lambda _, rows, labels, *rest: _of(labels)),
    "encode_label": Place("domain.outcomes", "LabelAccepted", "to_json", lambda made: [made.transaction_id]),
    "record_label": Place(
        "adapters.embedded.sqlite_journal", None, "encode", lambda batch, *rest: _of(batch.labels)
    ),
    "record_label_stream": Place(
        "adapters.cluster.kafka.live_log", None, "encode", lambda batch, *rest: _of(batch.labels)
    ),
    "publish": Place(
        "adapters.cluster.kafka.messages", None, "_headers",
        lambda outcome, *rest: [] if outcome.reason == Reason.ENGINE_ERROR else [outcome.transaction_id],
    ),
    "raw": Place("adapters.cluster.kafka.live_log", None, "raw_batch", lambda *given: _ids_in(given[-1])),
    "answer": Place(
        "flows.serve", "EngineSession", "_answer", lambda it, outcome, *rest: [outcome.transaction_id]
    ),
    "pack_answer": Place(
        "adapters.process.worker_process", None, "_answer_terms", lambda answer: [answer.transaction_id]
    ),
    "read_gateway": Place(
        "adapters.cluster.kafka.outcome_reader", None, "recorded", lambda message: [_id_of(message.value())]
    ),
    "answer_gateway": Place(
        "domain.recorded", None, "_value", lambda members: [members.get("transaction_id")]
    ),
}  # fmt: skip
# A poison's amount is written in its row.
_IN_BYTES = {
    "split": Place("intake.record_blocks", None, "_block", lambda offset, line, content, *rest: content),
    "fields": Place("intake.chunks", None, "fields_of_lines", lambda *given: _lines(*given[:3])),
    "submit": Place(
        "adapters.process.worker_process",
        "WorkerProcess",
        "submit",
        lambda it, records, *rest: b" ".join(records),
    ),
    "days": Place("services.produced_dates", None, "clean_chunk", lambda chunk, *rest: _raws(chunk)),
    "as_json": Place("flows.produce", None, "_as_json", lambda names, values: b" ".join(values)),
    "send_times": Place("flows.produce", None, "clean_chunk", lambda chunk, *rest: _raws(chunk)),
    "call": Place("flows.serve", "EngineSession", "_batch", lambda it, group, now: _called(group)),
    "submit_gateway": Place("adapters.cluster.kafka.gateway", None, "_Sent", lambda body, *rest: body),
    "label_rows": Place("intake.label_files", None, "_labels", lambda chunk, *rest: _raws(chunk)),
}

# By stage, the functions in which its faults lay.
PASSED: defaultdict[str, set[CodeType | None]] = defaultdict(set)


class InjectedError(Exception):
    """No error of a user, a server or the machine."""


@dataclass(frozen=True)
class Poison:
    """A transaction whose amount no other one has, or the label of a transaction."""

    transaction_id: int
    amount: float


def stopped_poison(world: SmallWorld, batch: LogBatch) -> tuple[Poison, int]:
    """A transaction in the later part of a batch that is stopped, so that it is explained; its index."""
    outcomes = world.engine().process(batch).outcomes
    rows = zip(batch.transaction_index.tolist(), batch.transactions.amount_minor.tolist(), strict=True)
    amounts = dict(rows)
    counts = Counter(amounts.values())
    for index in range(len(batch) // 3, len(batch)):
        outcome = outcomes[index]
        if isinstance(outcome, Decision) and outcome.reasons and counts[amounts[index]] == 1:
            assert isinstance(outcome.transaction_id, int)
            return Poison(outcome.transaction_id, amounts[index] / 100), index
    raise AssertionError("no transaction in the log is stopped")


def inject(monkeypatch: pytest.MonkeyPatch, stage: str, poison: Poison | None) -> None:
    """Let a stage fail, after its work, when it meets the poison; for None whenever it meets a record."""
    if stage in _IN_BYTES:
        place, amount = _IN_BYTES[stage], b"" if poison is None else b"%.2f" % poison.amount
        _replace(monkeypatch, stage, place, lambda content: amount in content)
    elif stage in _IN_IDS:
        place = _IN_IDS[stage]
        _replace(
            monkeypatch, stage, place,
            lambda ids: len(ids) > 0 if poison is None else poison.transaction_id in ids,
        )  # fmt: skip
    else:
        place = _IN_AMOUNTS[stage]
        _replace(
            monkeypatch, stage, place, lambda amounts: poison is None or _has(amounts, poison.amount)
        )  # fmt: skip


def poisoned(monkeypatch: pytest.MonkeyPatch, stages: Sequence[str]) -> dict[str, Poison]:
    """A fault in each stage, each met by a record of its own."""
    poisons = {stage: Poison(900 + n, 1_000.25 + n) for n, stage in enumerate(stages)}
    for stage, poison in poisons.items():
        inject(monkeypatch, stage, poison)
    return poisons


def without_fault(names: Sequence[str]) -> set[str]:
    """The functions of dotted names in which no fault lay."""
    passed: set[CodeType | None] = set().union(*PASSED.values())
    return {name for name in names if code_of(named_function(name)) not in passed}


def _replace(monkeypatch: pytest.MonkeyPatch, stage: str, place: Place, meets: Callable[[Any], bool]) -> None:
    module = importlib.import_module(f"zaslon.{place.module}")
    owner = getattr(module, place.owner) if place.owner else module
    real = getattr(owner, place.name)

    def failing(*given: Any, **named: Any) -> Any:
        result = real(*given, **named)
        if meets(place.looked_at(*given)):
            PASSED[stage] |= {code_of(real), *(frame.f_code for frame, _ in walk_stack(sys._getframe()))}
            raise InjectedError
        return result

    failing.__wrapped__ = real  # type: ignore[attr-defined]
    monkeypatch.setattr(owner, place.name, failing)


def code_of(function: Any) -> CodeType | None:
    """The code of a function, also of one into which faults are injected."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return getattr(function, "__code__", None)


def _has(amounts: Any, amount: float) -> bool:
    return bool(np.isin(np.float32(amount), np.asarray(amounts, np.float32)))


def _amounts(batch: LogBatch) -> Any:
    return batch.transactions.amount_minor / 100


def _of(labels: Any) -> list[int]:
    found: list[int] = labels.transaction_id.tolist()
    return found


def _ids(batch: Any) -> list[int]:
    """The ids of labels in a batch of raw records."""
    labels = np.flatnonzero(batch.kind == int(Kind.LABEL_JSON)).tolist()
    return [int(orjson.loads(batch.raw(i) or b"{}").get("transaction_id", 0)) for i in labels]


def _ids_in(bodies: Sequence[bytes]) -> list[int]:
    """The ids of lines and JSON objects that are records."""
    words = [orjson.loads(b)["transaction_id"] if b[:1] == b"{" else b.split(b",")[0] for b in bodies]
    return [int(word) for word in words if isinstance(word, int) or word.isdigit()]


def _called(group: Sequence[Call]) -> bytes:
    return b" ".join(body for call in group for body in call.records)


def _id_of(outcome: bytes) -> object:
    return orjson.loads(outcome).get("transaction_id")


def _lines(buffer: Any, starts: Any, lengths: Any) -> bytes:
    places = zip(starts.tolist(), lengths.tolist(), strict=True)
    return b" ".join(buffer[at : at + size].tobytes() for at, size in places)


def _raws(chunk: Any) -> bytes:
    return b" ".join(chunk.originals(range(len(chunk))))
