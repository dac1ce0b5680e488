"""Answers of the service as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reason:
    """Why a transaction is not simply allowed."""

    code: str
    text: str
    weight: float


@dataclass(frozen=True)
class Decision:
    """A decision as recorded; `score` is None where there was no time for the model.

    `repeated`: it was answered from the log and nothing was changed.
    """

    position: int
    transaction_id: int | str
    event_time: str
    action: str
    score: float | None
    reasons: tuple[Reason, ...]
    rules: tuple[str, ...]
    flags: tuple[str, ...]
    model: str
    policy: str
    catalogue: str
    engine: int
    degraded: str | None
    shadow_rules: tuple[str, ...] = ()
    repeated: bool = False
    time_used_ms: float | None = None


@dataclass(frozen=True)
class RecordProblem:
    """One thing that is wrong with a record; `field` is None if it concerns the whole record."""

    reason: str
    field: str | None
    problem: str
    expected: str | None


@dataclass(frozen=True)
class Rejection:
    """A rejection as recorded: a named reason and what was expected.

    `problems`: all that is wrong with the record, the primary one first.
    """

    position: int
    reason: str
    detail: str
    problems: tuple[RecordProblem, ...] = ()


@dataclass(frozen=True)
class LabelAccepted:
    """A label as recorded; `waiting`: its transaction has not come yet."""

    position: int
    transaction_id: int | str
    is_fraud: bool
    waiting: bool


def read_decision(content: Mapping[str, Any]) -> Decision:
    """The decision in an answer."""
    return Decision(
        content["position"], content["transaction_id"], content["event_time"], content["action"],
        content["score"], tuple(Reason(r["code"], r["text"], r["weight"]) for r in content["reasons"]),
        tuple(content["rules"]), tuple(content["flags"]), content["model"], content["policy"],
        content["catalogue"], content["engine"], content["degraded"], tuple(content["shadow_rules"]), content.get("repeated", False),
        content.get("time_used_ms"),
    )  # fmt: skip


def read_rejection(content: Mapping[str, Any]) -> Rejection:
    """The rejection in an answer."""
    problems = tuple(
        RecordProblem(p["reason"], p["field"], p["problem"], p["expected"])
        for p in content.get("problems", ())
    )
    return Rejection(content["position"], content["reason"], content["detail"], problems)


def read_outcome(content: Mapping[str, Any]) -> Decision | Rejection:
    """The outcome of one transaction of a batch."""
    return read_decision(content) if content["outcome"] == "decision" else read_rejection(content)


def read_label(content: Mapping[str, Any]) -> LabelAccepted | Rejection:
    """The outcome of one label."""
    if content["outcome"] == "rejection":
        return read_rejection(content)
    return LabelAccepted(
        content["position"], content["transaction_id"], content["is_fraud"], content["waiting"]
    )
