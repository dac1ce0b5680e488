"""Another policy decides under calls, without a restart, and a rollback brings the one before it back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.api.serving import Caller, serving, transaction
from tests.api.test_changes_of_the_champion import changes_in, outcomes
from tests.waiting import until

from zaslon.domain.errors import DataError, PolicyError
from zaslon.features.plan import plan_features
from zaslon.flows.policy_change import apply_policy
from zaslon.flows.promotion import history, promote_by_hand, roll_back
from zaslon.flows.replay import replay
from zaslon.models.artefact import save_model
from zaslon.models.model import Model
from zaslon.services.context import Context
from zaslon.services.home import keep_champion, load_champion, named_champion
from zaslon.services.promotion_ledger import record_champion
from zaslon.testing import SmallWorld

RULE = """# Written by hand.
[[rules]]
name = "large"
action = "review"
when = "amount > {amount}"
reason = "a large amount"
"""


pytestmark = pytest.mark.usefixtures("looking_often")


@pytest.fixture
def caller(own_callers: Callable[[str | None], Caller]) -> Caller:
    return own_callers("scorer")


@contextmanager
def calls(caller: Caller) -> Iterator[None]:
    """Two clients that pay 600.00 again and again."""
    over = threading.Event()

    def pay() -> None:
        while not over.is_set():
            caller.post("/v1/transactions", transaction(tx_amount=600.0))

    clients = [threading.Thread(target=pay) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        over.set()
        for client in clients:
            client.join()


def decided(caller: Caller) -> dict[str, Any]:
    answer: dict[str, Any] = caller.post("/v1/transactions", transaction(tx_amount=600.0)).json()
    return answer


def wait_for(caller: Caller, policy: str) -> None:
    until(lambda: decided(caller)["policy"] == policy)


def written(tmp_path: Path, amount: int = 400) -> Path:
    path = tmp_path / f"over-{amount}.toml"
    path.write_text(RULE.format(amount=amount))
    return path


def test_a_policy_takes_over_at_a_position_and_is_rolled_back(caller: Caller, tmp_path: Path) -> None:
    context = caller.service.context
    before = named_champion(context)
    with calls(caller):
        applied = apply_policy(context, written(tmp_path), why="an attack")
        wait_for(caller, applied.entry.promotion.policy)
        assert (context.home / "policy.toml").read_text() == RULE.format(amount=400)
        back = roll_back(context, None)
        wait_for(caller, before.policy)
    assert (back.entry.promotion.serving[:2], back.policy_before) == (
        (before.model, before.policy), applied.entry.promotion.policy,
    )  # fmt: skip
    serving_now, has_rule = before.policy, False
    recorded = outcomes(context)
    for outcome in recorded:
        if outcome["outcome"] == "change":
            serving_now, has_rule = outcome["policy"], not has_rule
        else:
            assert (outcome["policy"], "large" in outcome["rules"]) == (serving_now, has_rule)
    for outcome in [o for change in changes_in(context) for o in recorded[change["position"] - 2 :][:5]]:
        assert replay(context, outcome["position"]).identical
    entry = applied.entry.to_json_dict()
    assert (entry["action"], entry["model"], entry["evidence"]["why"]) == (
        "policy", before.model, "an attack",
    )  # fmt: skip
    assert (entry["evidence"]["policy_before"], applied.policy_before) == (before.policy, before.policy)
    assert [change["reason"] for change in changes_in(context)] == ["policy, entry 2", "rollback, entry 3"]


def test_a_rolled_back_policy_stays_back_after_a_restart(small_world: SmallWorld, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(small_world, home) as callers:
        context = callers(None).service.context
        record_champion(context)
        first = decided(callers("scorer"))
    (home / "policy.toml").write_text(RULE.format(amount=300))
    with serving(replace(small_world, context=context), home) as callers:
        edited = decided(callers("scorer"))
    apply_policy(context, written(tmp_path))
    roll_back(context, None)
    for expected in (edited, first):
        with serving(replace(small_world, context=context), home) as callers:
            assert decided(callers("scorer"))["policy"] == expected["policy"]
        if expected is edited:
            assert (home / "policy.toml").read_text() == RULE.format(amount=300)
            assert (home / "policy.toml.before").read_text() == RULE.format(amount=400)
            roll_back(context, None, entry_number=1)
    again = promote_by_hand(context, first["model"], None, guarded=False)  # as the next training would
    assert again.entry.promotion.policy == first["policy"]


def everything_in(context: Context) -> dict[str, bytes]:
    files = [path for path in context.home.rglob("*") if path.is_file() and "log" not in path.parts]
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "content",
    [
        "[[[", "[thresholds]\nreview = 0.9\nblock = 0.1", "[limits]\nx = 1", RULE.replace("amount >", "amuont >"),
        RULE.replace("{amount}", "'a'"), RULE.replace('"review"', '"refuse"'),
    ],
)  # fmt: skip
def test_an_invalid_policy_is_refused_before_anything_is_written(
    small_world: SmallWorld, tmp_path: Path, content: str
) -> None:
    context = small_world.in_home(tmp_path / "home").context
    record_champion(context)
    path = tmp_path / "new.toml"
    path.write_text(content.replace("{amount}", "5"))
    before = everything_in(context)
    with pytest.raises(PolicyError):
        apply_policy(context, path)
    with pytest.raises(PolicyError):
        apply_policy(context, None)  # there is no policy.toml
    assert everything_in(context) == before


def test_a_rollback_names_any_entry_that_served(
    small_world: SmallWorld, challenger: Model, tmp_path: Path
) -> None:
    context = small_world.in_home(tmp_path / "home").context
    _, policy = load_champion(context, plan_features(context.catalogue))
    first = named_champion(context)
    apply_policy(context, written(tmp_path, 300))
    save_model(challenger, context.home / "models" / challenger.artefact_id)
    promote_by_hand(context, challenger.artefact_id, None, guarded=False)
    apply_policy(context, written(tmp_path, 500))
    served = [entry.promotion.serving[:2] for entry in history(context).entries]
    assert len(set(served)) == 4 and served[0] == (first.model, policy.hash)
    for number, serving_then in enumerate(served[:3], 1):
        back = roll_back(context, None, entry_number=number)
        assert back.entry.promotion.serving[:2] == serving_then
        assert load_champion(context, plan_features(context.catalogue))[1].hash == serving_then[1]
    assert roll_back(context, first.model).entry.promotion.serving[:2] == served[1], "the newest of it"
    for wrong in (99, history(context).entries[-1].number):
        with pytest.raises(DataError):
            roll_back(context, None, entry_number=wrong)
    with pytest.raises(DataError, match="decides already"):
        apply_policy(context, None)


def test_a_policy_that_never_served_is_not_rolled_back_to(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = small_world.in_home(tmp_path / "home").context
    apply_policy(context, written(tmp_path, 300))
    served = named_champion(context)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("zaslon.services.promotion_ledger.keep_champion", killed)
        with pytest.raises(KeyboardInterrupt):
            apply_policy(context, written(tmp_path, 500))
    assert named_champion(context) == served
    never = history(context).entries[-1].number
    record_champion(context)
    with pytest.raises(DataError, match=f"Entry {never} has never served"):
        roll_back(context, None, entry_number=never)
    first = history(context).entries[0].promotion
    assert roll_back(context, None).entry.promotion.serving == first.serving


def test_a_policy_is_kept_as_it_was_written(small_world: SmallWorld, tmp_path: Path) -> None:
    context = small_world.in_home(tmp_path / "home").context
    model, policy = load_champion(context, plan_features(context.catalogue))
    apply_policy(context, written(tmp_path))
    keep_champion(context, model, policy.with_thresholds(0.11, 0.77))  # of an older home: without its text
    record_champion(context)
    apply_policy(context, written(tmp_path, 500))
    roll_back(context, None)
    assert "review = 0.11" in (context.home / "policy.toml").read_text()
    chosen = roll_back(context, None, entry_number=2).entry.promotion.policy
    assert (context.home / "policy.toml").read_text() == RULE.format(amount=400)
    assert named_champion(context).policy == chosen
