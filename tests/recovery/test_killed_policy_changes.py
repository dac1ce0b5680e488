"""Power is lost between any two writes of a rollback: model, policy and `policy.toml` stay together."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path

import pytest
from tests.recovery.lossy_disk import LossyDisk
from tests.recovery.test_power_loss import after_losses, moments_of, opened

from zaslon.domain.ledger import entries_that_served
from zaslon.flows.policy_change import apply_policy
from zaslon.flows.promotion import promote_by_hand, roll_back
from zaslon.models.artefact import save_model
from zaslon.models.model import Model
from zaslon.services.changes import champion_of_home
from zaslon.services.home import EDITED_FILE
from zaslon.services.promotion_ledger import record_champion
from zaslon.testing import SmallWorld

POLICY = """[thresholds]
review = 0.3
block = 0.6

[[rules]]
name = "large"
action = "review"
when = "amount > 300"
reason = "large"
"""


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk under the tests does not lose power: nothing waits for it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def served(home: Path) -> list[tuple[str, str]]:
    """All that took effect, each once in a row, as the ledger has it once the champion is recorded."""
    context = opened(home)
    record_champion(context)
    entries = entries_that_served(context.open_ledger().entries())
    return [serving for serving, _ in groupby(entry.promotion.serving[:2] for entry in entries)]


def test_a_rollback_happens_as_a_whole_or_not_at_all(
    small_world: SmallWorld, challenger: Model, tmp_path: Path
) -> None:
    """The rules and thresholds of one champion never decide beside the model of another."""
    home = tmp_path / "home"
    context = small_world.in_home(home).context
    (tmp_path / "new.toml").write_text(POLICY)
    apply_policy(context, tmp_path / "new.toml")
    save_model(challenger, home / "models" / challenger.artefact_id)
    promote_by_hand(context, challenger.artefact_id, None, guarded=False)
    first, with_policy, with_challenger = served(home)
    texts = {with_challenger: POLICY, first: ""}
    moments = moments_of(LossyDisk(home), lambda place: roll_back(opened(place), None, 1), home)
    assert served(home) == [first, with_policy, with_challenger, first]
    found_serving = set()
    for name, found in after_losses(moments, tmp_path / "found"):
        started = champion_of_home(opened(found))
        serving = started.change.model, started.change.policy
        found_serving.add(serving)
        assert started.change.by != EDITED_FILE, name
        assert serving in texts, name
        text = (found / "policy.toml").read_text()
        assert ("large" in text, "thresholds" in text) == (bool(texts[serving]),) * 2, name
        assert served(found)[2:] == [with_challenger, *[first] * (serving == first)], name
    assert found_serving == {first, with_challenger}
