"""Decisions as recorded, looked through page by page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from zaslon.ports import Outcomes

_CHUNK = 500
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$"


class DecisionFilter(BaseModel):
    """Which decisions are wanted; what is not given does not matter. Times are event times."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["allow", "review", "block"] | None = None
    score_min: float | None = Field(default=None, ge=0, le=1, description="at least this score")
    score_max: float | None = Field(default=None, ge=0, le=1, description="at most this score")
    time_from: str | None = Field(
        default=None, pattern=_TIME, description="from this event time on", examples=["2019-08-22 00:00:00"]
    )
    time_before: str | None = Field(default=None, pattern=_TIME, description="before this event time")
    degraded: bool | None = Field(default=None, description="whether anything was left out")
    rule: str | None = Field(default=None, max_length=64, description="a rule that fired")
    before: int | None = Field(default=None, ge=0, lt=2**63, description="`next` of the page before")
    limit: int = Field(default=100, ge=1, description="decisions on a page")

    def wants(self, decision: dict[str, Any]) -> bool:
        """Whether a decision meets everything that is asked."""
        score = decision["score"]
        return (
            self.action in (None, decision["action"])
            and (self.score_min is None or (score is not None and score >= self.score_min))
            and (self.score_max is None or (score is not None and score <= self.score_max))
            and (self.time_from is None or decision["event_time"] >= self.time_from)
            and (self.time_before is None or decision["event_time"] < self.time_before)
            and (self.degraded is None or (decision["degraded"] is not None) == self.degraded)
            and (self.rule is None or self.rule in decision["rules"])
        )


@dataclass(frozen=True)
class DecisionsPage:
    """Recorded JSON of decisions, newest first; `following` is `before` of the next page, if any."""

    decisions: list[bytes]
    following: int | None


def decisions_page(
    outcomes: Outcomes, wanted: DecisionFilter, *, limit_max: int, scan_max: int
) -> DecisionsPage:
    """The newest decisions before `wanted.before` that are wanted.

    At most `scan_max` outcomes are looked through, so a page may hold few although more follow.
    """
    limit = min(wanted.limit, limit_max)
    found: list[bytes] = []
    before, seen = wanted.before, 0
    while seen < scan_max:
        chunk = outcomes.page(before, min(_CHUNK, scan_max - seen))
        for position, outcome in chunk:
            before = position
            content = orjson.loads(outcome)
            if content["outcome"] == "decision" and wanted.wants(content):
                found.append(outcome)
                if len(found) == limit:
                    return DecisionsPage(found, before or None)
        if not chunk:
            return DecisionsPage(found, None)
        seen += len(chunk)
    return DecisionsPage(found, before or None)
