"""Which entries of the ledger took effect, as the entry behind each of them shows."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from zaslon.domain.ledger import (
    EDITED,
    IMPORT,
    POLICY,
    PROMOTE,
    ROLLBACK,
    LedgerEntry,
    Promotion,
    entries_that_served,
    next_entry,
)

Written = tuple[str, str, str] | tuple[str, str, str, int]  # action, model, policy, number of the edit


def ledger_of(written: Sequence[Written]) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    for action, model, policy, *edited in written:
        evidence = orjson.dumps({EDITED: edited[0]} if edited else {}).decode()
        promotion = Promotion(1, "anna", action, model, policy, "c", None, None, "better", evidence)
        entries.append(next_entry(entries[-1] if entries else None, promotion))
    return entries


def served(*written: Written) -> list[int]:
    return [entry.number for entry in entries_that_served(ledger_of(written))]


@pytest.mark.parametrize(("action", "model"), [(PROMOTE, "m2"), (POLICY, "m1"), (ROLLBACK, "m2")])
def test_what_was_killed_before_the_home_named_it_never_served(action: str, model: str) -> None:
    assert served((PROMOTE, "m1", "p1"), (action, model, "p2"), (IMPORT, "m1", "p1")) == [1, 3]


def test_an_edited_policy_shows_that_what_it_edits_had_served() -> None:
    assert served((PROMOTE, "m1", "p1"), (IMPORT, "m1", "p2", 2), (PROMOTE, "m2", "p2")) == [1, 2, 3]
    assert served((POLICY, "m1", "p1"), (POLICY, "m1", "p2"), (IMPORT, "m1", "p1", 3)) == [1, 2, 3]


def test_an_edit_beside_another_model_shows_that_one_never_served() -> None:
    assert served((PROMOTE, "m1", "p1"), (PROMOTE, "m2", "p2"), (IMPORT, "m1", "p3", 2)) == [1, 3]


def test_what_a_home_named_and_the_ledger_took_over_had_served() -> None:
    """The home was restored from a copy, or its scorer went on with what another one had promoted."""
    assert served((IMPORT, "m1", "p1"), (IMPORT, "m2", "p2"), (PROMOTE, "m3", "p2")) == [1, 2, 3]
