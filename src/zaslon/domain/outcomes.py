"""Outcomes: for every record exactly one decision, accepted label, change or named rejection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

import orjson

from zaslon.domain.events import Change, TransactionId
from zaslon.domain.rejections import Reason, RecordProblem
from zaslon.domain.time import time_text


class Action(IntEnum):
    """What happens to a transaction; a higher number is stricter."""

    ALLOW = 0
    REVIEW = 1
    BLOCK = 2

    @property
    def code(self) -> str:
        """`allow`, `review` or `block`."""
        return _ACTION_CODES[self]


_ACTION_CODES = ("allow", "review", "block")


@dataclass(frozen=True)
class ReasonGiven:
    """Why a transaction is not simply allowed: `code` for machines, `text` for people.

    `code` is `rule:<name>` or `feature:<name>`; `weight` is the contribution to the score in
    log-odds (0.0 for rules).
    """

    code: str
    text: str
    weight: float = 0.0


@dataclass(frozen=True)
class Versions:
    """What decided: short hashes of model, policy and catalogue, and the engine's version."""

    model: str
    policy: str
    catalogue: str
    engine: int

    def decides_as(self, other: Versions) -> bool:
        """Whether model, policy and catalogue are the same: another release of the engine is no other champion."""
        return (self.model, self.policy, self.catalogue) == (other.model, other.policy, other.catalogue)


class Decision(NamedTuple):
    """The outcome of a transaction that could be decided.

    A named tuple, because one is made for every transaction and a frozen dataclass takes three
    times as long.

    `score` is the probability of fraud, NaN (in JSON null) where there was no time for the model.
    `degraded` names what was left out for lack of time: `explanation`, `model` or `rules`, each
    with those before it; None for nothing.
    `rules` fired and may act; `shadow_rules` fired and only count.
    """

    position: int
    transaction_id: TransactionId
    event_time_seconds: int
    action: Action
    score: float
    reasons: tuple[ReasonGiven, ...]
    rules: tuple[str, ...]
    flags: tuple[str, ...]
    versions: Versions
    shadow_rules: tuple[str, ...] = ()
    degraded: str | None = None

    def to_json(self) -> bytes:
        """Canonical bytes: the same decision always gives the same bytes."""
        versions = self.versions
        return orjson.dumps(
            {
                "outcome": "decision",
                "position": self.position,
                "transaction_id": self.transaction_id,
                "event_time": time_text(self.event_time_seconds),
                "action": _ACTION_CODES[self.action],
                "score": self.score,
                "reasons": [{"code": r.code, "text": r.text, "weight": r.weight} for r in self.reasons],
                "rules": self.rules,
                "shadow_rules": self.shadow_rules,
                "flags": self.flags,
                "model": versions.model,
                "policy": versions.policy,
                "catalogue": versions.catalogue,
                "engine": versions.engine,
                "degraded": self.degraded,
            }
        )

    @property
    def counted_as(self) -> tuple[str, str]:
        """What metrics count it as: its kind, and its action."""
        return "decision", _ACTION_CODES[self.action]


@dataclass(frozen=True)
class Rejection:
    """The outcome of a record that cannot be decided: named reasons and what was expected.

    Attributes:
        problems: at least one, the primary one first: everything that cleaning found wrong, or why a record that
            itself is fine is not applied.
        raw: the record's original bytes, cut where it is too long; None where they are not kept.
        transaction_id: of a record that itself is fine, else None.
    """

    position: int
    problems: tuple[RecordProblem, ...]
    raw: bytes | None
    transaction_id: TransactionId | None = None

    @property
    def reason(self) -> Reason:
        """Of the primary problem."""
        return self.problems[0].reason

    @property
    def code(self) -> str:
        """The primary problem as `reason` or `reason:field`."""
        return self.problems[0].code

    @property
    def detail(self) -> str:
        """The primary problem as one sentence."""
        return self.problems[0].detail

    @property
    def repeats(self) -> bool:
        """Whether the record is a transaction that has its outcome already."""
        return self.reason == Reason.DUPLICATE

    @property
    def counted_as(self) -> tuple[str, str]:
        """What metrics count it as: its kind, and its reason without a field."""
        return "rejection", self.reason.code

    def to_json(self) -> bytes:
        """Canonical bytes; `raw` is written as text where it is UTF-8 and as hex where not.

        A record that itself is fine has its id instead of `problems`: `reason` and `detail` say all about it.
        """
        is_wrong = self.transaction_id is None
        problems = {"problems": [p.to_json_dict() for p in self.problems]} if is_wrong else {}
        return orjson.dumps(
            {
                "outcome": "rejection",
                "position": self.position,
                "reason": self.code,
                "detail": self.detail,
                **problems,
                "transaction_id": self.transaction_id,
                **_raw_as_json(self.raw),
            }
        )

    def forgotten(self) -> Rejection:
        """The same without the original bytes and what quotes them."""
        if self.transaction_id is not None:
            return replace(self, raw=None)
        return replace(self, raw=None, problems=tuple(problem.forgotten() for problem in self.problems))


@dataclass(frozen=True)
class LabelAccepted:
    """The outcome of a label. `waiting`: its transaction has not come yet; it takes effect then."""

    position: int
    transaction_id: TransactionId
    is_fraud: bool
    waiting: bool = False

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return orjson.dumps(
            {
                "outcome": "label",
                "position": self.position,
                "transaction_id": self.transaction_id,
                "is_fraud": self.is_fraud,
                "waiting": self.waiting,
            }
        )

    @property
    def counted_as(self) -> tuple[str, str]:
        """What metrics count it as: its kind, and its verdict."""
        return "label", "fraud" if self.is_fraud else "good"


@dataclass(frozen=True)
class ChangeMade:
    """The outcome of a change: `versions` decide from the next position on. The others as in `Change`."""

    position: int
    versions: Versions
    number: int
    by: str
    reason: str

    transaction_id: ClassVar[None] = None

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return orjson.dumps(
            {
                "outcome": "change",
                "position": self.position,
                "model": self.versions.model,
                "policy": self.versions.policy,
                "catalogue": self.versions.catalogue,
                "engine": self.versions.engine,
                "number": self.number,
                "by": self.by,
                "reason": self.reason,
            }
        )

    @property
    def counted_as(self) -> tuple[str, str]:
        """What metrics count it as."""
        return "change", "made"


@dataclass(frozen=True)
class Serving:
    """What decides from a log position on.

    Attributes:
        position: of the change, or of the first record where none made it so.
        seconds: when that record arrived, since 1970; None where the log does not have it.
        versions: what decides.
        change: the record that made it so; None for the beginning of a log, or another release of the engine.
    """

    position: int
    seconds: int | None
    versions: Versions
    change: Change | None = None


Outcome = Decision | Rejection | LabelAccepted | ChangeMade


def _raw_as_json(raw: bytes | None) -> dict[str, Any]:
    if raw is None:
        return {"raw": None}
    try:
        return {"raw": raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {"raw_hex": raw.hex()}
