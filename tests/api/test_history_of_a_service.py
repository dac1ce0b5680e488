"""`zaslon history --at` after what the promotion ledger alone does not know: edits, refusals and crashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from tests.api.serving import Caller, serving, transaction
from tests.waiting import until

from zaslon.adapters.embedded.clock import SystemClock
from zaslon.features.plan import plan_features
from zaslon.flows.promotion import promote_by_hand
from zaslon.flows.serving_history import Served, served_at
from zaslon.models.artefact import save_model
from zaslon.models.model import Model
from zaslon.services import changes
from zaslon.services.context import Context
from zaslon.services.home import load_champion, load_versions
from zaslon.services.promotion_ledger import record_champion
from zaslon.testing import SmallWorld

HOUR = 3600
RULE = """[[rules]]
name = "large"
action = "review"
when = "amount > 400"
reason = "a large amount"
"""


class HourClock:
    """A clock that moves by whole hours when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1_600_000_000

    def __call__(self, _: Any = None) -> float:
        return self.seconds

    def passes(self) -> int:
        """An hour is over; the time before it."""
        self.seconds += HOUR
        return self.seconds - HOUR


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, looking_often: None) -> HourClock:
    clock = HourClock()
    monkeypatch.setattr(SystemClock, "now_seconds", clock)
    return clock


@pytest.fixture
def caller(clock: HourClock, own_callers: Callable[[str | None], Caller]) -> Caller:
    return own_callers("scorer")


@pytest.fixture
def saved(caller: Caller, challenger: Model) -> Model:
    """A model that the home has and that does not serve."""
    save_model(challenger, caller.service.context.home / "models" / challenger.artefact_id)
    return challenger


def policy_at(context: Context, seconds: int) -> tuple[str, int | None, int | None]:
    found = served_at(context, seconds)
    return found.policy, found.since_seconds, found.until_seconds


def test_an_edited_policy_is_in_the_history_from_the_restart(
    small_world: SmallWorld, tmp_path: Path, clock: HourClock
) -> None:
    home = tmp_path / "home"
    with serving(small_world, home) as callers:
        context = callers(None).service.context
        record_champion(context)
        before = callers("scorer").post("/v1/transactions", transaction()).json()
    begun = clock.passes()
    (home / "policy.toml").write_text(RULE)
    edited = clock.passes()
    restarted = clock.seconds
    with serving(replace(small_world, context=context), home) as callers:
        after = callers("scorer").post("/v1/transactions", transaction()).json()
    clock.passes()
    assert before["policy"] != after["policy"]
    promote_by_hand(context, before["model"], None, guarded=False)  # this records the edit, an hour late
    for moment in (begun, edited):
        assert policy_at(context, moment) == (before["policy"], begun, restarted)
    found = served_at(context, restarted)
    assert (found.policy, found.since_seconds, found.until_seconds) == (after["policy"], restarted, None)
    assert found.position == after["position"] - 1
    assert (found.by, found.reason, found.note) == ("edited file", "policy.toml", None)
    assert served_at(context, clock.seconds).policy == after["policy"]


def decided_by(caller: Caller) -> str:
    return str(caller.post("/v1/transactions", transaction()).json()["model"])


def at_once(context: Context, clock: HourClock) -> Served:
    return served_at(context, clock.seconds)


def test_a_model_that_the_service_refuses_did_not_serve(
    caller: Caller, saved: Model, clock: HourClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = caller.service.context
    first = decided_by(caller)
    clock.passes()
    directory = context.home / "models" / saved.artefact_id
    whole = (directory / "model.txt").read_bytes()
    refused = Event()

    def damaged(*given: Any) -> Any:
        (directory / "model.txt").write_bytes(whole[:-10])
        refused.set()
        return load_versions(*given)

    monkeypatch.setattr(changes, "_LOOKS_AFTER_FAILURE", 1)
    monkeypatch.setattr("zaslon.services.changes.load_versions", damaged)
    entry = promote_by_hand(context, saved.artefact_id, None, guarded=False).entry
    until(refused.is_set)
    assert decided_by(caller) == first
    found = at_once(context, clock)
    assert (found.model, found.until_seconds, found.waiting) == (first, None, entry)
    assert found.to_json_dict()["entry_not_taken_over"] == entry.number
    clock.passes()
    monkeypatch.setattr("zaslon.services.changes.load_versions", load_versions)
    (directory / "model.txt").write_bytes(whole)
    until(lambda: decided_by(caller) == saved.artefact_id)
    found = at_once(context, clock)
    assert (found.model, found.entry, found.since_seconds) == (
        saved.artefact_id, entry, clock.seconds,
    )  # fmt: skip
    assert found.waiting is None


def test_a_crash_after_the_ledger_changes_no_history(
    caller: Caller, saved: Model, clock: HourClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = caller.service.context
    first = decided_by(caller)
    clock.passes()

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("zaslon.services.promotion_ledger.keep_champion", killed)
        with pytest.raises(KeyboardInterrupt):
            promote_by_hand(context, saved.artefact_id, None, guarded=False)
    newest = context.open_ledger().newest()
    assert newest is not None and newest.promotion.model == saved.artefact_id
    assert decided_by(caller) == first
    found = at_once(context, clock)
    assert (found.model, found.until_seconds, found.waiting) == (first, None, newest)


def test_promotions_of_an_idle_home_are_changes_of_its_log(
    small_world: SmallWorld, challenger: Model, tmp_path: Path, clock: HourClock
) -> None:
    with serving(small_world, tmp_path / "home") as callers:
        context = callers(None).service.context
        first = callers("scorer").post("/v1/transactions", transaction()).json()
    save_model(challenger, context.home / "models" / challenger.artefact_id)
    times = []
    for model in (challenger.artefact_id, first["model"], challenger.artefact_id):
        clock.passes()
        promote_by_hand(context, model, None, guarded=False)
        times.append(clock.seconds)
    found = [served_at(context, seconds) for seconds in times]
    assert [served.position for served in found] == [first["position"] + 1 + turn for turn in range(3)]
    assert [served.until_seconds for served in found] == [*times[1:], None]
    assert [served.reason for served in found] == [f"promote, entry {number}" for number in (2, 3, 4)]
    with serving(replace(small_world, context=context), context.home) as callers:
        again = callers("scorer").post("/v1/transactions", transaction()).json()
    assert (again["model"], again["position"]) == (challenger.artefact_id, first["position"] + 4)


def test_the_log_of_a_stream_that_is_away_is_answered_by_the_ledger(
    small_world: SmallWorld, tmp_path: Path, clock: HourClock
) -> None:
    context = small_world.in_home(tmp_path / "home").context
    record_champion(context)
    (context.home / "stream").mkdir()
    found = at_once(context, clock).to_json_dict()
    model, _ = load_champion(context, plan_features(context.catalogue))
    assert (found["model"], found["source"], found["since"]) == (
        model.artefact_id, "ledger", "2020-09-13 12:26:40",
    )  # fmt: skip
    assert "No Kafka broker is named" in found["note"]


def test_an_edited_policy_that_began_a_log_is_its_own_from_the_start(
    small_world: SmallWorld, tmp_path: Path, challenger: Model, clock: HourClock
) -> None:
    """The ledger has the edit hours later, but the log knows what decided."""
    home = tmp_path / "home"
    context = small_world.in_home(home).context
    record_champion(context)
    clock.passes()
    (home / "policy.toml").write_text(RULE)
    with serving(replace(small_world, context=context), home) as callers:
        decided = callers("scorer").post("/v1/transactions", transaction()).json()
    begun = clock.passes()
    between = clock.passes()
    save_model(challenger, home / "models" / challenger.artefact_id)
    promote_by_hand(context, challenger.artefact_id, None, guarded=False)
    for moment in (begun, between):
        found = served_at(context, moment)
        assert (found.model, found.policy, found.since_seconds, found.until_seconds, found.note) == (
            decided["model"], decided["policy"], begun, clock.seconds, None,
        )  # fmt: skip
