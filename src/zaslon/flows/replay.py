"""Replay: an old decision computed again from the log, and compared byte by byte."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import orjson

from zaslon.domain.errors import ArtefactError, DataError
from zaslon.engine import ENGINE_VERSION, Engine
from zaslon.features.plan import plan_features
from zaslon.intake.identifiers import named_by
from zaslon.ports import LogReader
from zaslon.services.context import Context
from zaslon.services.home import engine_at, load_versions
from zaslon.services.logs import existing_log

_DECISION_ID = re.compile(r"(?P<position>[0-9]{1,19})|tx:(?P<transaction>.+)")


@dataclass(frozen=True)
class Replayed:
    """An outcome as it was recorded and as the log gives it now."""

    position: int
    recorded: bytes
    recomputed: bytes

    @property
    def identical(self) -> bool:
        """Whether not a byte differs."""
        return self.recorded == self.recomputed

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "position": self.position,
            "identical": self.identical,
            "recorded": orjson.loads(self.recorded),
            "recomputed": orjson.loads(self.recomputed),
        }


def replay(context: Context, position: int) -> Replayed:
    """Compute the outcome at a log position again.

    State: the newest snapshot before it and the log from there. Model and policy: the ones that
    served at that position.

    Raises:
        DataError: nothing was decided at that position.
        ArtefactError: another engine version decided, or the model, policy or catalogue of that day is
            no longer there.
    """
    with closing(existing_log(context).open_journal_for_reading()) as journal:
        return _replayed(context, journal, position)


def _replayed(context: Context, journal: LogReader, position: int) -> Replayed:
    recorded = journal.outcome(position)
    versions = journal.serving(position)
    if recorded is None or versions is None:
        raise DataError(
            f"There is no outcome at position {position}.",
            hint=f"The log in '{context.home / context.log}' ends before position {journal.next_position}.",
        )
    if versions.engine != ENGINE_VERSION:
        raise ArtefactError(
            f"Position {position} was decided by engine version {versions.engine}; this Zaslon has engine "
            f"version {ENGINE_VERSION}, which may give other bytes without anything being wrong.",
            hint="Replay it with a release of that engine version: see docs/reference/engine-versions.md.",
        )
    if versions.catalogue != context.catalogue.hash:
        raise ArtefactError(
            f"Position {position} was decided with catalogue {versions.catalogue}, "
            f"not with {context.catalogue.label}.",
            hint="Name that catalogue with --catalogue.",
        )
    plan = plan_features(context.catalogue)
    model, policy = load_versions(context, plan, versions.model, versions.policy)
    past = engine_at(context, journal, context.open_snapshots(journal), position)
    engine = Engine(
        context.catalogue, key=context.key, model=model, policy=policy,
        history=past.history, position=past.position, plan=plan,
    )  # fmt: skip
    for batch in journal.read(engine.position, position, originals=False):
        engine.replay(batch)
    (last,) = journal.read(position, position + 1)
    return Replayed(position, recorded, engine.process(last).outcomes[0].to_json())


def find_position(context: Context, decision: str) -> int:
    """The log position of `DECISION_ID`: a position, or `tx:<transaction id>` for its newest decision.

    Raises:
        DataError: the text is neither, or nothing is known of the transaction.
    """
    found = _DECISION_ID.fullmatch(decision)
    named = found["transaction"] if found is not None else None
    transaction_id = None if named is None else named_by(named, context.catalogue)
    if found is None or (named is not None and transaction_id is None):
        raise DataError(
            f"'{decision}' is not a decision id.",
            hint="Give a log position such as 1234, or tx:TRANSACTION_ID.",
        )
    if transaction_id is None:
        return int(found["position"])
    with closing(existing_log(context).open_journal_for_reading()) as journal:
        found_decision = journal.newest_decision(transaction_id)
    if found_decision is not None:
        return found_decision[0]
    raise DataError(
        f"Nothing was decided about transaction {transaction_id} in the log '{context.home / context.log}'.",
        hint="An earlier run's log is named with --log, for example --log log-1.",
    )
