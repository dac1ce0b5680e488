"""Faults of our own code, injected into one stage, that only one transaction meets."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from zaslon.domain.events import LogBatch
from zaslon.domain.outcomes import Decision
from zaslon.testing import SmallWorld

STAGES = ("clean", "apply", "score", "rules", "explain", "encode")
EMBEDDED_STAGES = (*STAGES, "record")  # where the log is a file
# By stage: module, class or none, function, and where the amounts are among what it is given.
_PLACES: dict[str, tuple[str, str | None, str, Callable[..., Any]]] = {
    "apply": ("features.history", "History", "apply", lambda _, rows, *rest: rows.amount_minor / 100),
    "score": ("models.model", "Model", "score", lambda _, matrix: matrix[:, 0]),
    "rules": ("engine.batch_outcomes", None, "decide", lambda _, scores, columns: columns["amount"]),
    "record": (
        "adapters.embedded.sqlite_journal",
        None,
        "encode",
        lambda batch, *rest: batch.transactions.amount_minor / 100,
    ),
    "explain": ("decisions.reasons", "ReasonWriter", "explain", lambda _, x, weights, minor: minor / 100),
}


class InjectedError(Exception):
    """No error of a user, a server or the machine."""


@dataclass(frozen=True)
class Poison:
    """A transaction whose amount no other one has."""

    transaction_id: int
    amount: float


def stopped_poison(world: SmallWorld, batch: LogBatch) -> tuple[Poison, int]:
    """A transaction in the later part of a batch that is stopped, so that it is explained; its index."""
    outcomes = world.engine().process(batch).outcomes
    rows = zip(batch.transaction_index.tolist(), batch.transactions.amount_minor.tolist(), strict=True)
    amounts = dict(rows)
    counts = Counter(amounts.values())
    for index in range(len(batch) // 3, len(batch)):
        outcome = outcomes[index]
        if isinstance(outcome, Decision) and outcome.reasons and counts[amounts[index]] == 1:
            assert isinstance(outcome.transaction_id, int)
            return Poison(outcome.transaction_id, amounts[index] / 100), index
    raise AssertionError("no transaction in the log is stopped")


def inject(monkeypatch: pytest.MonkeyPatch, stage: str, poison: Poison | None) -> None:
    """Let a stage fail, after its work, when it meets the poison; for None whenever it is called."""
    if stage in _PLACES:
        module, owner, name, amounts = _PLACES[stage]
        place = importlib.import_module(f"zaslon.{module}")

        def meets(*given: Any) -> bool:
            return poison is None or _has(amounts(*given), poison.amount)

        _replace(monkeypatch, getattr(place, owner) if owner else place, name, meets)
    elif stage == "encode":
        decision = importlib.import_module("zaslon.domain.outcomes").Decision
        _replace(
            monkeypatch, decision, "to_json",
            lambda made: poison is None or made.transaction_id == poison.transaction_id,
        )  # fmt: skip
    else:
        reading = importlib.import_module("zaslon.intake.cleaning")._Reading
        _replace(monkeypatch, reading, "result", lambda it: poison is None or _has(_read(it), poison.amount))


def _read(reading: Any) -> Any:
    return reading.values["tx_amount"] / 100


def _has(amounts: Any, amount: float) -> bool:
    return bool(np.isin(np.float32(amount), np.asarray(amounts, np.float32)))


def _replace(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, meets: Callable[..., bool]) -> None:
    real = getattr(owner, name)

    def failing(*given: Any, **named: Any) -> Any:
        result = real(*given, **named)
        if meets(*given):
            raise InjectedError
        return result

    monkeypatch.setattr(owner, name, failing)
