"""An outcome that is read back from its bytes is the one that was written, and gives the same bytes."""

from __future__ import annotations

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.parity.golden_log import golden_engine, golden_records

from zaslon.admission import admit
from zaslon.domain.answers import Answer
from zaslon.domain.events import RecordBatch
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
from zaslon.domain.recorded import Recorded, read_outcome
from zaslon.domain.rejections import PROBLEMS_MAX, Reason, RecordProblem
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.just('"position":7,')
POSITIONS = st.integers(0, 2**63 - 1)
IDS = st.integers(-(2**63), 2**63 - 1) | TEXTS
SCORES = st.floats(0, 1) | st.just(math.nan)
VERSIONS = st.builds(Versions, TEXTS, TEXTS, TEXTS, st.integers(1, 99))
REASONS = st.builds(ReasonGiven, TEXTS, TEXTS, st.floats(-9, 9))
NAMES = st.lists(TEXTS, max_size=3).map(tuple)
DEGRADED = st.sampled_from([None, "explanation", "model", "rules"])
WRONG = st.builds(RecordProblem, st.sampled_from(Reason), st.none() | TEXTS, TEXTS, st.none() | TEXTS)
NOT_APPLIED = st.builds(RecordProblem, st.sampled_from(Reason), st.none(), TEXTS, st.none())
RAW = st.none() | st.binary(max_size=9)
DECISIONS = st.builds(
    Decision, POSITIONS, IDS, st.integers(0, EVENT_TIME_SECONDS_MAX), st.sampled_from(Action), SCORES,
    st.lists(REASONS, max_size=3).map(tuple), NAMES, NAMES, VERSIONS, NAMES, DEGRADED,
)  # fmt: skip
OUTCOMES = st.one_of(
    DECISIONS,
    st.builds(Rejection, POSITIONS, st.lists(WRONG, min_size=1, max_size=PROBLEMS_MAX).map(tuple), RAW),
    st.builds(Rejection, POSITIONS, st.tuples(NOT_APPLIED), RAW, IDS),
    st.builds(LabelAccepted, POSITIONS, IDS, st.booleans(), st.booleans()),
    st.builds(ChangeMade, POSITIONS, VERSIONS, st.integers(0, 2**53), TEXTS, TEXTS),
)


@pytest.mark.law
@given(OUTCOMES)
def test_an_outcome_is_read_as_it_was_written(outcome: Outcome) -> None:
    content = outcome.to_json()
    found = read_outcome(content)
    assert found.to_json() == content
    if not (isinstance(outcome, Decision) and math.isnan(outcome.score)):  # which equals nothing
        assert found == outcome
    recorded, of_value = Recorded.read(content), Recorded.of(outcome, content)
    assert (recorded.position, recorded.outcome.to_json()) == (outcome.position, content)
    decided = outcome.transaction_id if isinstance(outcome, Decision) else None
    assert recorded.decided == of_value.decided == decided
    assert recorded == of_value == (outcome.position, content)
    assert of_value.outcome is outcome


def test_every_outcome_of_the_golden_log_is_read_back() -> None:
    engine, (records, kinds, arrivals) = golden_engine(), golden_records()
    outcomes = engine.process(
        admit(RecordBatch.of(records, kinds, arrivals), engine.catalogue, engine.key)
    ).outcomes
    assert {type(outcome) for outcome in outcomes} == {Decision, Rejection, LabelAccepted}
    read = [read_outcome(outcome.to_json()) for outcome in outcomes]
    assert [outcome.to_json() for outcome in read] == [outcome.to_json() for outcome in outcomes]


@pytest.mark.law
@given(OUTCOMES, st.booleans(), st.none() | st.floats(0, 1e6))
def test_an_answer_is_its_outcome_with_members_behind(
    outcome: Outcome, repeated: bool, used: float | None
) -> None:
    content = outcome.to_json()
    found = orjson.loads(Answer.of(outcome, content, repeated=repeated).to_json(used))
    more = {} if used is None else {"time_used_ms": pytest.approx(used, abs=0.001)}
    assert found == {**orjson.loads(content), "repeated": repeated, **more}
    assert list(found)[: len(orjson.loads(content))] == list(orjson.loads(content))
