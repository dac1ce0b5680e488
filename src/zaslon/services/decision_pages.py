"""Decisions as recorded, looked through page by page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from zaslon.domain.outcomes import Decision
from zaslon.domain.recorded import Recorded
from zaslon.domain.time import parse_time
from zaslon.ports import Outcomes

_CHUNK = 500
_NEAR = 20  # outcomes in which a decision is looked for


def _is_time(text: str) -> str:
    parse_time(text)  # raises ValueError for the 31st of February
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
    entity: str | None = Field(
        default=None, max_length=64, description="with `entity_value`: of whom", examples=["customer"]
    )
    entity_value: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="which one, as transactions name it",
        examples=["4961"],
    )
    before: int | None = Field(default=None, ge=0, lt=2**63, description="`next` of the page before")
    limit: int = Field(default=100, ge=1, description="decisions on a page")

    @model_validator(mode="after")
    def _has_both(self) -> DecisionFilter:
        if (self.entity is None) != (self.entity_value is None):
            raise ValueError("entity and entity_value are given together")
        return self

    @cached_property
    def from_seconds(self) -> int | None:
        """`time_from` since 1970."""
        return None if self.time_from is None else parse_time(self.time_from)

    @cached_property
    def before_seconds(self) -> int | None:
        """`time_before` since 1970."""
        return None if self.time_before is None else parse_time(self.time_before)

    def wants(self, decision: Decision) -> bool:
        """Whether a decision meets everything that is asked. No score is at least or at most anything."""
        return (
            self.action in (None, decision.action.code)
            and (self.score_min is None or decision.score >= self.score_min)
            and (self.score_max is None or decision.score <= self.score_max)
            and (self.from_seconds is None or decision.event_time_seconds >= self.from_seconds)
            and (self.before_seconds is None or decision.event_time_seconds < self.before_seconds)
            and (self.degraded is None or (decision.degraded is not None) == self.degraded)
            and (self.rule is None or self.rule in decision.rules)
        )


@dataclass(frozen=True)
class DecisionsPage:
    """Recorded JSON of decisions, newest first; `following` is `before` of the next page, if any."""

    decisions: list[bytes]
    following: int | None


Page = Callable[[int | None, int], Sequence[Recorded]]


def decisions_page(
    outcomes: Outcomes, wanted: DecisionFilter, *, limit_max: int, scan_max: int, late_within_seconds: int,
    page: Page | None = None,
) -> DecisionsPage:  # fmt: skip
    """The newest decisions before `wanted.before` that are wanted.

    At most `scan_max` outcomes are looked through, so a page may hold few although more follow. What lies outside
    the wanted times is not looked through: positions are nearly in the order of time.

    Args:
        outcomes: of the log.
        wanted: the filter.
        limit_max: decisions on a page.
        scan_max: outcomes looked through.
        page: up to so many outcomes before a position (None: the end), newest first, where not all of the log are
            meant: those of an entity.
        late_within_seconds: the catalogue's `late_within`, by which a decision may be older than one before it.
    """
    limit = min(wanted.limit, limit_max)
    found: list[bytes] = []
    before, seen = _end_of_wanted(outcomes, wanted, late_within_seconds), 0
    oldest = None if wanted.from_seconds is None else wanted.from_seconds - late_within_seconds
    while seen < scan_max:
        chunk = (page or outcomes.page)(before, min(_CHUNK, scan_max - seen))
        for recorded in chunk:
            before, decision = recorded.position, recorded.outcome
            if not isinstance(decision, Decision):
                continue
            if oldest is not None and decision.event_time_seconds < oldest:
                return DecisionsPage(found, None)  # no earlier record can be so much newer
            if wanted.wants(decision):
                found.append(recorded.json)
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
    newest = outcomes.page(wanted.before, 1)
    if wanted.before_seconds is None or not newest:
        return wanted.before
    too_new = wanted.before_seconds + late_within_seconds
    low, high, end = 0, newest[0].position, wanted.before
    while high - low > _CHUNK:
        middle = (low + high) // 2
        position, moment = _decision_before(outcomes, middle)
        if moment >= too_new:
            high = end = position
        else:
            low = middle
    return end


def _decision_before(outcomes: Outcomes, position: int) -> tuple[int, int]:
    """Position and event time of the nearest decision before a position, -1 where none is near."""
    for recorded in outcomes.page(position, _NEAR):
        if isinstance(recorded.outcome, Decision):
            return recorded.position, recorded.outcome.event_time_seconds
    return position, -1
