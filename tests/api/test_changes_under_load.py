"""The champion changes ten times while transactions keep coming at a fixed rate, as the benchmark does it."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.champion_changes import RATE, service

from zaslon.features.plan import plan_features
from zaslon.models.model import Model
from zaslon.services.home import load_champion
from zaslon.testing import SmallWorld

SECONDS = 20.0


@pytest.mark.slow
def test_changes_under_load_fail_no_call_and_replay_the_same(
    small_world: SmallWorld, challenger: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZASLON_API_BUDGET_MS", "60000")  # a busy machine fails no call
    world = small_world.in_home(tmp_path / "home")
    _, policy = load_champion(world.context, plan_features(world.context.catalogue))
    second = challenger, policy.with_thresholds(0.001, 0.5)
    found = service(world, second, alone=1.0, changing=SECONDS, turns=1)  # a call that fails raises
    assert found["changes"] >= 10
    assert found["decisions"] == RATE * SECONDS
    assert (found["wrong_versions"], found["differing"]) == (0, 0)
