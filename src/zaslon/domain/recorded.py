"""Outcomes as a log has them: canonical JSON, parsed once by whoever needs the value."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import orjson

from zaslon.domain.events import TransactionId
from zaslon.domain.outcomes import (
    Action,
    ChangeMade,
    Decision,
    LabelAccepted,
    Outcome,
    ReasonGiven,
    Rejection,
    Versions,
)
from zaslon.domain.rejections import RecordProblem
from zaslon.domain.time import parse_time

_ACTIONS = {action.code: action for action in Action}


class _InLog(NamedTuple):
    position: int
    json: bytes


class Recorded(_InLog):
    """An outcome as a log has it: (position, canonical JSON).

    Most are only passed on or counted. So the bytes are parsed where more is asked, once, and a value is made of
    them where the value is asked: it takes twice as long as the parsing.
    """

    @cached_property
    def outcome(self) -> Outcome:
        """The value of which these are the bytes."""
        return _value(self._members)

    @cached_property
    def _members(self) -> dict[str, Any]:
        members: dict[str, Any] = orjson.loads(self.json)
        return members

    @property
    def decided(self) -> TransactionId | None:
        """The transaction that it decides; None where it is no decision."""
        members = self._members
        decided: TransactionId | None = (
            members["transaction_id"] if members["outcome"] == "decision" else None
        )
        return decided

    @staticmethod
    def of(outcome: Outcome, json: bytes) -> Recorded:
        """A value together with its bytes."""
        recorded = Recorded(outcome.position, json)
        recorded.__dict__["outcome"] = outcome
        return recorded

    @staticmethod
    def read(json: bytes) -> Recorded:
        """From the bytes alone.

        Raises:
            KeyError, TypeError, ValueError: they are no outcome.
        """
        members = orjson.loads(json)
        recorded = Recorded(members["position"], json)
        recorded.__dict__["_members"] = members
        return recorded


def read_outcome(content: bytes) -> Outcome:
    """The outcome of which `to_json` gave these bytes.

    Raises:
        KeyError, TypeError, ValueError: `to_json` gave other bytes.
    """
    return _value(orjson.loads(content))


def read_rejection(content: bytes) -> Rejection:
    """The same for bytes that are known to be a rejection's."""
    return _rejection(orjson.loads(content))


def _value(members: dict[str, Any]) -> Outcome:
    return _READERS[members["outcome"]](members)


def _decision(found: dict[str, Any]) -> Decision:
    score = found["score"]
    return Decision(
        found["position"], found["transaction_id"], parse_time(found["event_time"]), _ACTIONS[found["action"]],
        math.nan if score is None else score,
        tuple([ReasonGiven(given["code"], given["text"], given["weight"]) for given in found["reasons"]]),
        tuple(found["rules"]), tuple(found["flags"]), _versions(found), tuple(found["shadow_rules"]), found["degraded"],
    )  # fmt: skip


def _rejection(found: dict[str, Any]) -> Rejection:
    problems = tuple(RecordProblem.from_json_dict(problem) for problem in found.get("problems", ()))
    problems = problems or (RecordProblem.of_record(found["reason"], found["detail"]),)
    return Rejection(found["position"], problems, _raw_of_json(found), found["transaction_id"])


def _label(found: dict[str, Any]) -> LabelAccepted:
    return LabelAccepted(found["position"], found["transaction_id"], found["is_fraud"], found["waiting"])


def _change(found: dict[str, Any]) -> ChangeMade:
    return ChangeMade(found["position"], _versions(found), found["number"], found["by"], found["reason"])


_READERS: dict[str, Callable[[dict[str, Any]], Outcome]] = {
    "decision": _decision, "rejection": _rejection, "label": _label, "change": _change,
}  # fmt: skip
_known_versions = lru_cache(maxsize=64)(Versions)  # thousands of decisions name the same


def _versions(found: dict[str, Any]) -> Versions:
    return _known_versions(found["model"], found["policy"], found["catalogue"], found["engine"])


def _raw_of_json(content: dict[str, Any]) -> bytes | None:
    if "raw_hex" in content:
        return bytes.fromhex(content["raw_hex"])
    raw: str | None = content["raw"]
    return None if raw is None else raw.encode()
