"""`policy.toml` stays the text of what serves, whoever changes it and whatever comes between."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zaslon.domain.errors import BusyError, DataError
from zaslon.domain.ledger import RETRAIN
from zaslon.features.plan import plan_features
from zaslon.flows.policy_change import apply_policy
from zaslon.flows.promotion import history, promote_by_hand, roll_back
from zaslon.models.artefact import save_model
from zaslon.models.model import Model
from zaslon.services.changes import champion_of_home
from zaslon.services.context import Context
from zaslon.services.home import EDITED_FILE, Champion, adopt_champion, load_champion, named_champion
from zaslon.services.promotion_ledger import promote
from zaslon.testing import SmallWorld

RULE = '[[rules]]\nname = "large"\naction = "review"\nwhen = "amount > {amount}"\nreason = "large"\n'
THRESHOLDS = "[thresholds]\nreview = 0.3\nblock = 0.6\n"


@pytest.fixture
def context(small_world: SmallWorld, tmp_path: Path) -> Context:
    return small_world.in_home(tmp_path / "home").context


def champion(context: Context) -> Champion:
    return load_champion(context, plan_features(context.catalogue))


def written(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "new.toml"
    path.write_text(content)
    return path


def over(amount: int) -> str:
    return RULE.format(amount=amount)


def meanwhile(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Let somebody work between the time when a command looks at the ledger and when it writes into it."""

    def late(*arguments: Any, **named: Any) -> Any:
        monkeypatch.undo()
        work()
        return promote(*arguments, **named)

    for flow in ("promotion", "policy_change"):
        monkeypatch.setattr(f"zaslon.flows.{flow}.promote", late)


def test_a_training_does_not_undo_a_policy_applied_meanwhile(
    context: Context, challenger: Model, tmp_path: Path
) -> None:
    model, policy_of_its_start = champion(context)
    save_model(challenger, context.home / "models" / challenger.artefact_id)
    applied = apply_policy(context, written(tmp_path, over(300)), why="an attack")
    with pytest.raises(BusyError, match="policy.toml gives another one"):
        promote(context, challenger, policy_of_its_start, RETRAIN, {}, against=model.artefact_id)
    assert named_champion(context).policy == applied.entry.promotion.policy
    assert len(history(context).entries) == applied.entry.number


def test_a_training_begun_again_takes_the_applied_policy(
    context: Context, challenger: Model, tmp_path: Path
) -> None:
    save_model(challenger, context.home / "models" / challenger.artefact_id)
    apply_policy(context, written(tmp_path, over(300)))
    done = promote_by_hand(context, challenger.artefact_id, None, guarded=False)
    assert done.entry.promotion.model == challenger.artefact_id
    assert [rule.name for rule in champion(context)[1].rules] == ["large"]


@pytest.mark.parametrize("command", ["rollback", "policy"])
def test_of_two_changes_at_once_the_second_changes_nothing(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for amount in (300, 400):
        apply_policy(context, written(tmp_path, over(amount)))
    new, other = written(tmp_path, over(500)), tmp_path / "other.toml"
    other.write_text(over(600))
    meanwhile(monkeypatch, lambda: apply_policy(context, other))
    with pytest.raises(BusyError, match="at the same time"):
        roll_back(context, None) if command == "rollback" else apply_policy(context, new)
    assert (context.home / "policy.toml").read_text() == over(600)
    assert champion(context)[1].hash == history(context).entries[-1].promotion.policy


def test_a_policy_may_come_through_a_pipe(context: Context, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(over(300)))
    writer.start()
    apply_policy(context, pipe)
    writer.join()
    assert (context.home / "policy.toml").read_text() == over(300)


def test_an_edited_file_is_named_where_its_policy_does_not_decide(context: Context, tmp_path: Path) -> None:
    apply_policy(context, written(tmp_path, over(300)))
    (context.home / "policy.toml").write_text(over(400))
    with pytest.raises(DataError, match="decides already") as refused:
        apply_policy(context, tmp_path / "new.toml")
    assert "The next start takes policy.toml" in str(refused.value.hint)


@pytest.mark.parametrize("restarts", [True, False])
def test_thresholds_taken_out_of_the_file_are_those_of_training(
    small_world: SmallWorld, tmp_path: Path, restarts: bool
) -> None:
    """A restart and `policy apply` understand a file in the same way."""
    context = small_world.in_home(tmp_path / "home").context
    chosen = champion(context)[1].thresholds
    apply_policy(context, written(tmp_path, THRESHOLDS + over(300)))
    assert champion(context)[1].thresholds.review == 0.3
    (context.home / "policy.toml").write_text(over(300))
    if not restarts:
        apply_policy(context, None)
    assert champion_of_home(context).policy.thresholds == chosen


def test_a_standby_goes_on_with_the_policy_after_its_restart(
    small_world: SmallWorld, challenger: Model, tmp_path: Path
) -> None:
    here, there = (small_world.in_home(tmp_path / name).context for name in ("here", "there"))
    (there.home / "policy.toml").write_text(over(100))
    before = champion_of_home(there)
    save_model(challenger, here.home / "models" / challenger.artefact_id)
    apply_policy(here, written(tmp_path, over(300)))
    promote_by_hand(here, challenger.artefact_id, None, guarded=False)
    named, (model, policy) = named_champion(here), champion(here)
    for copied in ("models", "policies"):  # as the guide says
        shutil.copytree(here.home / copied, there.home / copied, dirs_exist_ok=True)
    adopt_champion(there, named, model, policy)
    restarted = champion_of_home(there)
    assert (restarted.change, restarted.policy.hash) == (named, policy.hash)
    assert (there.home / "policy.toml").read_text() == over(300)
    assert (there.home / "policy.toml.before").read_text() == over(100)
    adopt_champion(there, before.change, *before.champion)
    assert champion_of_home(there).change == named, "an older one is not taken over"


def test_a_policy_file_that_serves_is_left_as_people_wrote_it(context: Context, tmp_path: Path) -> None:
    apply_policy(context, written(tmp_path, over(300)))
    commented = f"# Since the attack.\n{over(300)}"
    (context.home / "policy.toml").write_text(commented)
    change, found = named_champion(context), champion(context)
    adopt_champion(context, replace(change, number=change.number + 1), *found)
    assert (context.home / "policy.toml").read_text() == commented
    assert champion_of_home(context).change.by != EDITED_FILE
