"""Decisions as recorded, looked through page by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from zaslon.domain.time import EVENT_TIME_SECONDS_MAX, time_text
from zaslon.ports import Outcomes

_CHUNK = 500
_NEAR = 20  # outcomes in which a decision is looked for


def _is_time(text: str) -> str:
    datetime.fromisoformat(text)  # raises ValueError for the 31st of February
    return text


Time = Annotated[
    str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$"), AfterValidator(_is_time)
]


class DecisionFilter(BaseModel):
    """Which decisions are wanted; what is not given does not matter. Times are event times."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["allow", "review", "block"] | None = None
    score_min: float | None = Field(default=None, ge=0, le=1, description="at least this score")
    score_max: float | None = Field(default=None, ge=0, le=1, description="at most this score")
    time_from: Time | None = Field(
        default=None, description="from this event time on", examples=["2019-08-22 00:00:00"]
    )
    time_before: Time | None = Field(default=None, description="before this event time")
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
    outcomes: Outcomes, wanted: DecisionFilter, *, limit_max: int, scan_max: int, late_within_seconds: int
) -> DecisionsPage:
    """The newest decisions before `wanted.before` that are wanted.

    At most `scan_max` outcomes are looked through, so a page may hold few although more follow. What lies outside
    the wanted times is not looked through: positions are nearly in the order of time.

    Args:
        outcomes: of the log.
        wanted: the filter.
        limit_max: decisions on a page.
        scan_max: outcomes looked through.
        late_within_seconds: the catalogue's `late_within`, by which a decision may be older than one before it.
    """
    limit = min(wanted.limit, limit_max)
    found: list[bytes] = []
    before, seen = _end_of_wanted(outcomes, wanted, late_within_seconds), 0
    oldest = _shifted(wanted.time_from, -late_within_seconds)
    while seen < scan_max:
        chunk = outcomes.page(before, min(_CHUNK, scan_max - seen))
        for position, outcome in chunk:
            before = position
            content = orjson.loads(outcome)
            if content["outcome"] != "decision":
                continue
            if oldest is not None and content["event_time"] < oldest:
                return DecisionsPage(found, None)  # no earlier record can be so much newer
            if wanted.wants(content):
                found.append(outcome)
                if len(found) == limit:
                    return DecisionsPage(found, before or None)
        if not chunk:
            return DecisionsPage(found, None)
        seen += len(chunk)
    return DecisionsPage(found, before or None)


def _end_of_wanted(outcomes: Outcomes, wanted: DecisionFilter, late_within_seconds: int) -> int | None:
    """A position from which on no decision is before `wanted.time_before`, found by halving; None for the end.

    After a decision at some time, none comes that is older by more than `late_within`.
    """
    too_new = _shifted(wanted.time_before, late_within_seconds)
    newest = outcomes.page(wanted.before, 1)
    if too_new is None or not newest:
        return wanted.before
    low, high, end = 0, newest[0][0], wanted.before
    while high - low > _CHUNK:
        middle = (low + high) // 2
        position, event_time = _decision_before(outcomes, middle)
        if event_time >= too_new:
            high = end = position
        else:
            low = middle
    return end


def _decision_before(outcomes: Outcomes, position: int) -> tuple[int, str]:
    """Position and event time of the nearest decision before a position, "" where none is near."""
    for at, outcome in outcomes.page(position, _NEAR):
        content = orjson.loads(outcome)
        if content["outcome"] == "decision":
            return at, content["event_time"]
    return position, ""


def _shifted(time: str | None, seconds: int) -> str | None:
    """A time so many seconds later, within what event times can be."""
    if time is None:
        return None
    moment = int(datetime.fromisoformat(f"{time}+00:00").timestamp()) + seconds
    return time_text(min(max(0, moment), EVENT_TIME_SECONDS_MAX))
