"""A promotion in a standby's home at the moment of its takeover is taken over, or people are told that it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.waiting import until

from zaslon.domain.events import Change, LogBatch
from zaslon.features.plan import plan_features
from zaslon.flows.stream import stream
from zaslon.models.artefact import save_model
from zaslon.models.model import Model
from zaslon.ports.streams import Stream
from zaslon.services.changes import ChampionWatch
from zaslon.services.context import Context
from zaslon.services.home import Champion, keep_champion, keep_policy, load_champion, named_champion
from zaslon.testing import SmallWorld

LOG_NUMBER = 3


class TakenOver:
    """A stream whose other scorer has gone, and whose log ends with a champion of that one's home."""

    def __init__(self, serving: tuple[str, str, int], at_takeover: Callable[[], object]) -> None:
        self.serving, self._at_takeover = serving, at_takeover
        self.checkpoint = b""
        self.lag_records, self.commit_seconds = 0, 0.0
        self.recorded: list[Change | None] = []
        self.is_over = False

    def open(self, checkpoint: bytes) -> None:
        """Nothing was recorded."""

    def replay(self, _: object) -> Iterator[LogBatch | None]:
        self._at_takeover()
        return iter(())

    def take(self, *_: object) -> Iterator[LogBatch | None]:
        yield from (None, None)
        self.is_over = True

    def insert(self, change: LogBatch) -> None:
        self.recorded.append(change.change)

    def record(self, *_: object) -> None:
        """It is durable at once."""

    def settle(self) -> None:
        """It is durable already."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def home(small_world: SmallWorld, challenger: Model, tmp_path: Path) -> Context:
    context = small_world.in_home(tmp_path / "home").context
    save_model(challenger, context.home / "models" / challenger.artefact_id)
    return context


@pytest.fixture
def champions(home: Context, challenger: Model) -> Sequence[Champion]:
    """What the home names, what the log has from elsewhere, and what is promoted at the takeover."""
    model, policy = load_champion(home, plan_features(home.catalogue))
    stricter, strictest = policy.with_thresholds(0.1, 0.5), policy.with_thresholds(0.05, 0.5)
    for kept in (stricter, strictest):
        keep_policy(home, kept)
    return (model, policy), (challenger, stricter), (model, strictest)


def taken_over(
    context: Context, log: Champion, at_takeover: Callable[[], object]
) -> tuple[TakenOver, list[str]]:
    """A standby that takes over; the stream that it has then, and what it said."""
    scripted = TakenOver((log[0].artefact_id, log[1].hash, LOG_NUMBER), at_takeover)
    said: list[str] = []
    adapters = replace(context.adapters, open_stream=lambda _: cast("Stream", scripted))
    stream(replace(context, adapters=adapters), lambda: scripted.is_over, said.append)
    return scripted, said


def watched(monkeypatch: pytest.MonkeyPatch, *, looks: bool) -> list[ChampionWatch]:
    """The watches of scorers to come, which look at their homes often or never."""
    made: list[ChampionWatch] = []

    class Watch(ChampionWatch):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

        def look(self) -> None:
            if looks:
                super().look()

    monkeypatch.setattr("zaslon.services.changes._LOOK_SECONDS", 0.001)
    monkeypatch.setattr("zaslon.flows.stream.ChampionWatch", Watch)
    return made


@pytest.mark.parametrize("is_noticed", [False, True])
@pytest.mark.parametrize("number", [2, LOG_NUMBER])
def test_a_promotion_that_is_overtaken_is_named(
    home: Context, champions: Sequence[Champion], number: int, is_noticed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    watches = watched(monkeypatch, looks=is_noticed)
    _, log, promoted = champions

    def promote() -> None:
        keep_champion(home, *promoted, by="anna", entry=number)
        if is_noticed:
            until(lambda: watches[0].ready() is not None)

    _, said = taken_over(home, log, promote)
    assert named_champion(home).model == log[0].artefact_id
    (warning,) = [sentence for sentence in said if "not above promotion" in sentence]
    assert f"policy {promoted[1].hash} as promotion {number}, which is not above promotion 3" in warning
    assert "promote it again" in warning


def test_a_promotion_above_that_of_the_log_is_taken_over(
    home: Context, champions: Sequence[Champion], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched(monkeypatch, looks=False)
    _, log, promoted = champions
    _, said = taken_over(home, log, lambda: keep_champion(home, *promoted, entry=LOG_NUMBER + 1))
    assert named_champion(home).policy == promoted[1].hash, "the watch takes it from there"
    assert not [sentence for sentence in said if "not above promotion" in sentence]
