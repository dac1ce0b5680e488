"""What the time budget left out is in the log, so that every path leaves out the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zaslon.decisions.policy import parse_policy
from zaslon.domain.events import Degradation, LogBatch
from zaslon.engine import Engine
from zaslon.flows.replay import replay
from zaslon.testing import SmallWorld

ROWS = 400


def decided(engine: Engine, batch: LogBatch) -> list[dict[str, Any]]:
    outcomes = [json.loads(outcome.to_json()) for outcome in engine.process(batch).outcomes]
    return [o for o in outcomes if o["outcome"] == "decision"]


def batch_without(world: SmallWorld, degradation: Degradation, begin: int = 0, end: int = ROWS) -> LogBatch:
    whole = world.batch(begin, end)
    return replace(whole, degradation=np.full(len(whole), degradation, np.uint8))


def test_without_the_explanation_all_else_is_unchanged(small_world: SmallWorld) -> None:
    full = decided(small_world.engine(), batch_without(small_world, Degradation.NOTHING))
    short = decided(small_world.engine(), batch_without(small_world, Degradation.EXPLANATION))
    assert any(d["reasons"] for d in full)
    assert short == [{**d, "reasons": [], "degraded": "explanation"} for d in full]


def test_without_the_model_rules_decide_then_the_fallback(
    small_world: SmallWorld,
) -> None:
    policy = parse_policy(
        'fallback = "allow"\n[[rules]]\nname = "much"\nwhen = "amount > 50"\naction = "block"\n'
        'reason = "amount {amount}"\n[[rules]]\nname = "seen"\nwhen = "amount > 0"\naction = "block"\n'
        'reason = "any"\nshadow = true\n',
        ["amount"],
    )
    engine = small_world.engine()
    engine.policy = policy
    found = decided(engine, batch_without(small_world, Degradation.MODEL))
    assert all(d["score"] is None and d["degraded"] == "model" for d in found)
    assert {(d["action"], "much" in d["rules"]) for d in found} == {("block", True), ("allow", False)}


def test_without_rules_the_fallback_of_the_policy_decides(small_world: SmallWorld) -> None:
    found = decided(small_world.engine(), batch_without(small_world, Degradation.RULES))
    assert {(d["action"], d["score"], tuple(d["rules"])) for d in found} == {("review", None, ())}


def test_a_record_that_was_left_out_changes_no_decision(small_world: SmallWorld) -> None:
    engines = [small_world.engine(), small_world.engine()]
    engines[0].process(batch_without(small_world, Degradation.NOTHING))
    engines[1].process(batch_without(small_world, Degradation.RULES))
    rest = small_world.batch(ROWS, 2 * ROWS)
    assert engines[0].process(rest) == engines[1].process(rest)


def test_batches_of_one_leave_out_the_same(small_world: SmallWorld) -> None:
    levels = [Degradation(i % 4) for i in range(ROWS)]
    whole = small_world.batch(0, ROWS)
    mixed = replace(whole, degradation=np.array(levels, np.uint8))
    together = small_world.engine().process(mixed).outcomes
    engine = small_world.engine()
    for i, level in enumerate(levels):
        (exclusive,) = engine.process(batch_without(small_world, level, i, i + 1)).outcomes
        assert exclusive.to_json() == together[i].to_json()


@pytest.mark.parametrize("degradation", list(Degradation))
def test_a_replay_leaves_out_what_was_left_out(
    small_world: SmallWorld, tmp_path: Path, degradation: Degradation
) -> None:
    world = small_world.in_home(tmp_path)
    engine, journal = world.engine(), world.context.open_journal()
    engine.save(world.context.open_snapshots(journal))
    journal.serve(engine.versions)
    batch = batch_without(world, degradation, 0, 20)
    journal.record(batch, engine.process(batch).outcomes, None)
    replayed = replay(world.context, 10)
    assert replayed.identical
    assert json.loads(replayed.recorded)["degraded"] == (degradation.code if degradation else None)
