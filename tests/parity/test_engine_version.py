"""The engine version is recorded: in decisions, in the log, in snapshots, at a replay."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zaslon.domain.errors import ArtefactError
from zaslon.engine import ENGINE_VERSION, Engine, restore_engine
from zaslon.features.history import STATE_VERSION
from zaslon.flows.replay import replay
from zaslon.services.changes import champion_of_home
from zaslon.services.context import Silent
from zaslon.services.home import recover_engine
from zaslon.testing import SmallWorld

ROWS = 20
OTHER = ENGINE_VERSION + 1
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "engine-versions.md"


def decided_by(world: SmallWorld, home: Path, engine_version: int) -> SmallWorld:
    """A home whose log says that this engine version has decided it."""
    world = world.in_home(home)
    engine = world.engine()
    with closing(world.context.open_journal()) as journal:
        engine.save(world.context.open_snapshots(journal))
        journal.serve(replace(engine.versions, engine=engine_version))
        batch = world.batch(0, ROWS)
        journal.record(batch, engine.process(batch).outcomes, None)
    return world


def restored(world: SmallWorld, content: dict[str, NDArray[Any]]) -> Engine:
    return restore_engine(world.context.catalogue, ROWS, content, key=world.context.key)


def test_every_decision_names_the_engine_version(small_world: SmallWorld) -> None:
    outcomes = [
        json.loads(o.to_json()) for o in small_world.engine().process(small_world.batch(0, ROWS)).outcomes
    ]
    decisions = [o for o in outcomes if o["outcome"] == "decision"]
    assert decisions
    assert {d["engine"] for d in decisions} == {ENGINE_VERSION}


def test_a_replay_by_another_engine_version_is_refused(small_world: SmallWorld, tmp_path: Path) -> None:
    world = decided_by(small_world, tmp_path, OTHER)
    with pytest.raises(ArtefactError, match=f"decided by engine version {OTHER}.*version {ENGINE_VERSION},"):
        replay(world.context, 3)


def test_a_home_continues_under_a_new_engine_version(small_world: SmallWorld, tmp_path: Path) -> None:
    warnings: list[str] = []

    class Hearing(Silent):
        def warn(self, sentence: str) -> None:
            warnings.append(sentence)

    for version, expected in ((ENGINE_VERSION, 0), (OTHER, 1)):
        world = decided_by(small_world, tmp_path / str(version), version)
        context = replace(world.context, progress=Hearing())
        with closing(context.open_journal()) as journal:
            engine = recover_engine(
                context, journal, context.open_snapshots(journal), champion_of_home(context).champion
            )
        assert engine.position == ROWS
        assert len(warnings) == expected
    assert f"from position {ROWS} on" in warnings[0]


def test_a_snapshot_of_another_engine_version_is_taken_over(small_world: SmallWorld) -> None:
    engine = small_world.engine()
    engine.process(small_world.batch(0, ROWS))
    state = {name: array.copy() for name, array in engine.state().items()}
    assert state["engine"].tolist() == [ENGINE_VERSION]
    assert restored(small_world, {**state, "engine": np.array([OTHER])}).position == ROWS


def test_a_snapshot_of_another_state_version_is_refused_by_name(small_world: SmallWorld) -> None:
    state = {**small_world.engine().state(), "layout": np.array([STATE_VERSION - 1])}
    named = f"state version {STATE_VERSION - 1}, made by engine version {ENGINE_VERSION}"
    with pytest.raises(ArtefactError, match=named):
        restored(small_world, state)


def test_the_current_versions_are_in_the_reference() -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert rows[-1] == (str(ENGINE_VERSION), str(STATE_VERSION))
