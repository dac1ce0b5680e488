"""Power is lost while something is promoted: an entry of the ledger that was committed is there afterwards."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.test_ledger_contract import PROMOTION
from tests.recovery.lossy_disk import LossyDisk
from tests.recovery.test_power_loss import Change, after_losses, assert_survives, moments_of, opened

from zaslon.adapters.relational.store import Store
from zaslon.domain.ledger import first_broken
from zaslon.features.plan import plan_features
from zaslon.services.home import load_champion, named_champion
from zaslon.services.promotion_ledger import promote
from zaslon.system.durable import make_private_file
from zaslon.testing import SmallWorld

SYNCHRONOUS_EXTRA = 3


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk under the tests does not lose power: nothing waits for it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def append(home: Path, count: int) -> None:
    """Entries up to so many."""
    ledger = opened(home).open_ledger()
    while (after := len(ledger.entries())) < count:
        ledger.append(replace(PROMOTION, model=f"m{after}"), after)


def models_of(home: Path) -> list[str]:
    entries = opened(home).open_ledger().entries()
    assert first_broken(entries) is None
    return [entry.promotion.model for entry in entries]


@pytest.mark.parametrize("before", [0, 1])
def test_a_ledger_entry_that_was_committed_survives(tmp_path: Path, before: int) -> None:
    change = Change(lambda home: append(home, before), lambda home: append(home, before + 1), models_of)
    assert_survives(change, tmp_path)


def test_a_store_that_a_killed_process_began_gets_its_name_on_disk(tmp_path: Path) -> None:
    """Killed between making the file and waiting for its name: the next process has to wait for it."""
    home = tmp_path / "home"
    home.mkdir()
    disk = LossyDisk(home)
    make_private_file(home / "store.db")
    moments = moments_of(disk, lambda place: append(place, 1), home)
    for name, found in after_losses(moments[-1:], tmp_path / "found"):
        assert models_of(found) == ["m0"], name


def test_every_connection_to_the_file_waits_for_the_disk(tmp_path: Path) -> None:
    """EXTRA: at a commit the directory, too, from which the rollback journal was removed."""
    store = Store(tmp_path / "store.db")
    with store.writing() as connection:
        asked = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode")
        ]
        assert asked == [SYNCHRONOUS_EXTRA, "delete"]
    with store.reading() as reading:
        assert reading is not None
        assert reading.exec_driver_sql("PRAGMA synchronous").scalar() == SYNCHRONOUS_EXTRA


def test_a_promotion_is_recorded_before_it_serves(small_world: SmallWorld, tmp_path: Path) -> None:
    """Whenever power is lost, what the home names is the champion of before or has its entry."""
    world = small_world.in_home(tmp_path / "home")
    plan = plan_features(world.context.catalogue)
    model, policy = load_champion(world.context, plan)
    newer = policy.with_thresholds(0.123, 0.9)

    def make(home: Path) -> None:
        promote(opened(home), model, newer, "train", {})

    def look(home: Path) -> tuple[list[str], str]:
        entries = opened(home).open_ledger().entries()
        assert first_broken(entries) is None
        return [entry.promotion.policy for entry in entries], named_champion(opened(home)).policy

    home = world.context.home
    moments = moments_of(LossyDisk(home), make, home)
    after = look(home)
    assert after == ([policy.hash, newer.hash], newer.hash)
    for name, found in after_losses(moments, tmp_path / "found"):
        recorded, serving = look(found)
        assert serving == policy.hash or recorded[-1] == serving, name
        make(found)
        assert look(found)[1] == newer.hash and look(found)[0][-1] == newer.hash, name
