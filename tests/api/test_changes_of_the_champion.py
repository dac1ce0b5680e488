"""Another model or policy takes over while the service decides: at a log position, for every replay too."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.api.serving import Caller, serving, transaction
from tests.waiting import until

from zaslon.decisions.policy import Policy
from zaslon.domain.errors import SystemRefusedError
from zaslon.domain.events import Change
from zaslon.features.plan import plan_features
from zaslon.flows import serve
from zaslon.flows.promotion import history, promote_by_hand, roll_back
from zaslon.flows.reconcile import reconcile
from zaslon.flows.replay import replay
from zaslon.models.artefact import save_model
from zaslon.models.model import Model
from zaslon.services import changes
from zaslon.services.context import Context
from zaslon.services.home import keep_champion, load_champion, named_champion
from zaslon.testing import SmallWorld

WITH_RULE = """[[rules]]
name = "large"
action = "review"
when = "amount > 400"
reason = "a large amount"
"""


pytestmark = pytest.mark.usefixtures("looking_often")


@pytest.fixture
def caller(own_callers: Callable[[str | None], Caller]) -> Caller:
    return own_callers("admin")


@pytest.fixture
def warned(capfd: pytest.CaptureFixture[str]) -> Callable[[str], bool]:
    """Whether such words were logged so far."""
    logged: list[str] = []

    def look(words: str) -> bool:
        logged.append(capfd.readouterr().err)
        return words in "".join(logged)

    return look


def champion(context: Context) -> tuple[Model, Policy]:
    return load_champion(context, plan_features(context.catalogue))


def promoted(caller: Caller, model: Model, policy: Policy) -> list[dict[str, Any]]:
    """Make them the champion and send transactions until one is decided by them; all decisions."""
    context = caller.service.context
    save_model(model, context.home / "models" / model.artefact_id)
    keep_champion(context, model, policy, by="me", reason="because")
    decisions: list[dict[str, Any]] = []

    def is_decided_so() -> bool:
        decisions.append(caller.post("/v1/transactions", transaction()).json())
        newest = decisions[-1]
        return bool((newest["model"], newest["policy"]) == (model.artefact_id, policy.hash))

    until(is_decided_so)
    return decisions


def outcomes(context: Context) -> list[dict[str, Any]]:
    with closing(context.open_journal_for_reading()) as journal:
        return [json.loads(outcome) for _, outcome in journal.outcomes()]


def changes_in(context: Context) -> list[dict[str, Any]]:
    return [outcome for outcome in outcomes(context) if outcome["outcome"] == "change"]


def test_champions_change_while_deciding_and_replays_agree(caller: Caller, challenger: Model) -> None:
    context = caller.service.context
    model, policy = champion(context)
    stricter = policy.with_thresholds(0.001, 0.5)
    sent = 0
    for turn in range(10):
        sent += len(promoted(caller, (challenger, model)[turn % 2], (policy, stricter)[turn // 2 % 2]))
    recorded = outcomes(context)
    assert [outcome["position"] for outcome in recorded] == list(range(sent + 10))
    serving_now = (model.artefact_id, policy.hash)
    for outcome in recorded:
        if outcome["outcome"] == "change":
            serving_now = outcome["model"], outcome["policy"]
        assert (outcome["model"], outcome["policy"]) == serving_now
        assert replay(context, outcome["position"]).identical
    made = changes_in(context)
    assert [change["number"] for change in made] == list(range(made[0]["number"], made[0]["number"] + 10))
    assert {(change["by"], change["reason"]) for change in made} == {("me", "because")}
    found = reconcile(context)
    assert (found.is_whole, found.changes, found.rejections) == (True, 10, {})


def test_promotion_and_rollback_reach_a_running_service(caller: Caller, challenger: Model) -> None:
    context = caller.service.context
    first, _ = champion(context)
    save_model(challenger, context.home / "models" / challenger.artefact_id)

    def is_decided_by(model: str) -> bool:
        return bool(caller.post("/v1/transactions", transaction()).json()["model"] == model)

    promote_by_hand(context, challenger.artefact_id, None, guarded=False)
    until(lambda: is_decided_by(challenger.artefact_id))
    roll_back(context, None)
    until(lambda: is_decided_by(first.artefact_id))
    entries = history(context).entries
    assert [entry.promotion.action for entry in entries] == ["import", "promote", "rollback"]
    assert [change["model"] for change in changes_in(context)] == [
        entry.promotion.model for entry in entries[1:]
    ]
    assert [change["reason"] for change in changes_in(context)] == ["promote, entry 2", "rollback, entry 3"]


def test_what_serves_is_shown_after_a_change(caller: Caller, challenger: Model) -> None:
    _, policy = champion(caller.service.context)
    stricter = policy.with_thresholds(0.002, 0.5)
    promoted(caller, challenger, stricter)
    until(lambda: caller.get("/v1/model").json()["model"] == challenger.artefact_id)
    assert caller.get("/v1/policy").json()["policy"] == stricter.hash


def test_a_model_that_cannot_be_loaded_changes_nothing(
    caller: Caller, challenger: Model, warned: Callable[[str], bool]
) -> None:
    context = caller.service.context
    _, policy = champion(context)
    before = caller.post("/v1/transactions", transaction()).json()
    directory = context.home / "models" / challenger.artefact_id
    save_model(challenger, directory)
    whole = (directory / "model.txt").read_bytes()
    (directory / "model.txt").write_bytes(whole[:-10])
    keep_champion(context, challenger, policy)
    until(lambda: warned("is not taken over"))
    after = caller.post("/v1/transactions", transaction()).json()
    assert (after["model"], after["position"]) == (before["model"], before["position"] + 1)
    assert changes_in(context) == []
    (directory / "model.txt").write_bytes(whole)
    promoted(caller, challenger, policy)
    assert len(changes_in(context)) == 1


def decided_after_failure(caller: Caller, challenger: Model) -> dict[str, Any]:
    """A decision after a change that failed at first has been made."""
    context = caller.service.context
    _, policy = champion(context)
    caller.post("/v1/transactions", transaction())
    save_model(challenger, context.home / "models" / challenger.artefact_id)
    keep_champion(context, challenger, policy)
    until(lambda: len(changes_in(context)) == 1)
    until(lambda: caller.post("/v1/transactions", transaction()).status_code == 200)
    decided: dict[str, Any] = caller.post("/v1/transactions", transaction()).json()
    return decided


def test_a_change_that_the_log_refuses_is_made_later(
    caller: Caller, challenger: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = changes.make_change
    failures: list[int] = []

    def failing_once(*given: Any) -> Any:
        if not failures:
            failures.append(1)
            raise SystemRefusedError("no space")
        return make(*given)

    monkeypatch.setattr(serve, "make_change", failing_once)
    decided = decided_after_failure(caller, challenger)
    assert failures and decided["model"] == challenger.artefact_id
    assert reconcile(caller.service.context).is_whole


def test_a_commit_that_lasts_although_it_raises_makes_one_change(
    caller: Caller, challenger: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = caller.service.context
    make = changes.make_change
    made: list[Any] = []

    def raising_once(*given: Any) -> Any:
        made.append(make(*given))
        if len(made) == 1:
            raise SystemRefusedError("the answer was lost")
        return made[-1]

    monkeypatch.setattr(serve, "make_change", raising_once)
    decided = decided_after_failure(caller, challenger)
    assert made and decided["model"] == challenger.artefact_id
    assert [change["model"] for change in changes_in(context)] == [challenger.artefact_id]
    assert replay(context, decided["position"]).identical


def test_a_policy_that_cannot_be_read_for_a_moment_delays_the_change(
    caller: Caller, challenger: Model, warned: Callable[[str], bool]
) -> None:
    context = caller.service.context
    _, policy = champion(context)
    stricter = policy.with_thresholds(0.001, 0.5)
    caller.post("/v1/transactions", transaction())
    kept = context.home / "policies" / f"{stricter.hash}.toml"
    kept.write_text("[[[")
    save_model(challenger, context.home / "models" / challenger.artefact_id)
    keep_champion(context, challenger, stricter)
    until(lambda: warned("is not taken over"))
    assert caller.post("/v1/transactions", transaction()).json()["model"] != challenger.artefact_id
    kept.write_text(stricter.to_toml())
    until(lambda: len(changes_in(context)) == 1)


def test_an_older_champion_is_taken_over_with_a_warning(
    caller: Caller, challenger: Model, warned: Callable[[str], bool]
) -> None:
    context = caller.service.context
    first, policy = champion(context)
    backup = (context.home / "champion.json").read_bytes()
    promoted(caller, challenger, policy)
    (context.home / "champion.json").write_bytes(backup)
    until(lambda: warned("is not above promotion 2 that decides: it is taken over"))
    until(lambda: caller.post("/v1/transactions", transaction()).json()["model"] == first.artefact_id)


def test_a_promotion_is_served_as_promoted_after_an_edit(caller: Caller, challenger: Model) -> None:
    context = caller.service.context
    _, policy = champion(context)
    caller.post("/v1/transactions", transaction())
    (context.home / "policy.toml").write_text(WITH_RULE)
    promoted(caller, challenger, policy)
    assert [change["policy"] for change in changes_in(context)] == [policy.hash]


def test_an_edited_policy_is_a_change_of_its_own(small_world: SmallWorld, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(small_world, home) as callers:
        context = callers(None).service.context
        callers("scorer").post("/v1/transactions", transaction())
    before = named_champion(context)
    (home / "policy.toml").write_text(WITH_RULE)
    for _ in range(2):
        with serving(replace(small_world, context=context), home) as callers:
            decided = callers("scorer").post("/v1/transactions", transaction()).json()
    (change,) = changes_in(context)
    assert change["policy"] == decided["policy"] != before.policy
    assert (change["number"], change["by"], change["reason"]) == (
        before.number + 1, "edited file", "policy.toml"
    )  # fmt: skip
    again = promote_by_hand(context, before.model, None, guarded=False)
    actions = [(e.promotion.action, e.promotion.policy) for e in history(context).entries]
    assert actions == [("import", change["policy"]), ("promote", again.entry.promotion.policy)]


@pytest.mark.parametrize(
    "content",
    [
        None, b"", b"[]", b"{", b'{"model":"a","policy":"b"}', b'{"model":"a","policy":"b","number":-1}',
        b'{"model":"a","policy":"b","number":18446744073709551616,"by":"","reason":""}',
        b'{"model":"a","policy":"b","number":1,"by":"","reason":"","entry":"3"}',
    ],
)  # fmt: skip
def test_whatever_the_home_named_before_is_replaced_while_it_serves(
    caller: Caller, challenger: Model, content: bytes | None
) -> None:
    context = caller.service.context
    _, policy = champion(context)
    path = context.home / "champion.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert caller.post("/v1/transactions", transaction()).status_code == 200
    promoted(caller, challenger, policy)


@pytest.mark.parametrize(
    ("reason", "members", "entry"),
    [
        ("promote, entry 4", {}, 4),
        ("training", {}, None),
        ("promote, entry 4", {"entry": None}, None),
        ("", {"entry": 4}, 4),
    ],
)
def test_a_home_of_an_earlier_release_names_its_entry_in_words(
    small_world: SmallWorld, tmp_path: Path, reason: str, members: dict[str, Any], entry: int | None
) -> None:
    named = {"model": "m", "policy": "p", "number": 7, "by": "anna", "reason": reason, **members}
    (tmp_path / "champion.json").write_text(json.dumps(named))
    found = named_champion(small_world.context.in_home(tmp_path))
    assert found == Change("m", "p", 7, "anna", reason, entry)


def test_a_champion_written_meanwhile_takes_over_at_the_start(
    small_world: SmallWorld, challenger: Model, tmp_path: Path
) -> None:
    with serving(small_world, tmp_path / "home") as callers:
        caller = callers("admin")
        first = caller.post("/v1/transactions", transaction()).json()
        context = caller.service.context
    _, policy = champion(context)
    save_model(challenger, context.home / "models" / challenger.artefact_id)
    keep_champion(context, challenger, policy)
    for starts in range(2):
        with serving(replace(small_world, context=context), context.home) as callers:
            decided = callers("admin").post("/v1/transactions", transaction()).json()
        assert decided["model"] == challenger.artefact_id
        assert decided["position"] == first["position"] + 2 + starts
    (change,) = changes_in(context)
    assert change["position"] == first["position"] + 1
    assert replay(context, decided["position"]).identical
