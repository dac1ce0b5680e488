"""What a log with changes of the champion holds, and whether it gives the same bytes again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import orjson

from zaslon.domain.events import LogBatch
from zaslon.engine import Engine
from zaslon.services.home import Champion

Champions = Mapping[tuple[str, str], Champion]


@dataclass
class ChangedLog:
    """Positions are those of the log from its first record on.

    Attributes:
        outcomes: as they were recorded.
        decisions: transactions by how often they were decided.
        changes: positions at which another champion took over.
        wrong_versions: positions of decisions by others than served there.
        differing: positions whose outcome a replay gives with other bytes, or not at all.
    """

    outcomes: list[dict[str, Any]]
    decisions: Counter[object] = field(default_factory=Counter)
    changes: list[int] = field(default_factory=list)
    wrong_versions: list[int] = field(default_factory=list)
    differing: list[int] = field(default_factory=list)

    @property
    def decided(self) -> list[int]:
        """Positions of decisions."""
        return [o["position"] for o in self.outcomes if o["outcome"] == "decision"]

    @property
    def degraded(self) -> int:
        """Decisions for which time did not allow everything."""
        return sum(bool(o.get("degraded")) for o in self.outcomes)


def champions_by_name(*champions: Champion) -> Champions:
    """Every model with every policy, by what decisions call them."""
    return {
        (model.artefact_id, policy.hash): (model, policy) for model, _ in champions for _, policy in champions
    }


def check_log(
    recorded: Sequence[bytes], batches: Iterable[LogBatch], engine: Engine, champions: Champions
) -> ChangedLog:
    """Go through a log, and compute it again.

    Args:
        recorded: every outcome, in order.
        batches: the log from its first record on, with original bytes.
        engine: a new one, with the champion that served first.
        champions: that served later.
    """
    serving = engine.versions.model, engine.versions.policy
    found = ChangedLog([orjson.loads(outcome) for outcome in recorded])
    for position, outcome in enumerate(found.outcomes):
        if outcome["outcome"] == "change":
            serving = outcome["model"], outcome["policy"]
            found.changes.append(position)
        elif outcome["outcome"] == "decision":
            found.decisions[outcome["transaction_id"]] += 1
            if (outcome["model"], outcome["policy"]) != serving:
                found.wrong_versions.append(position)
    again = zip_longest(recorded, replayed(batches, engine, champions))
    found.differing = [position for position, (first, second) in enumerate(again) if first != second]
    return found


def replayed(batches: Iterable[LogBatch], engine: Engine, champions: Champions) -> Iterable[bytes]:
    """The outcomes of a log, with the changes that it holds."""
    for batch in batches:
        if batch.change is not None:
            engine.prepare(*champions[batch.change.model, batch.change.policy])
        yield from (outcome.to_json() for outcome in engine.process(batch).outcomes)
