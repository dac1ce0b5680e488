"""Shadow: what challengers would decide of the live log, without a part in deciding it.

    log ─► state, applied once ─┬─► champion of that position ─┐
                                └─► each challenger ───────────┴─► shadow store ─► `zaslon compare --live`

The shadow is a process that reads the log, as a standby does, and applies it to a state of its own. So it decides
exactly what it would have decided live, whatever happens to it: it cannot delay or change a decision, and after a
kill it goes on where it stopped. How far it is behind is measured against a declared time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.decisions.policy import Policy, load_policy
from zaslon.domain.errors import ArtefactError, DataError
from zaslon.domain.events import NO_KEY, LogBatch, Transactions
from zaslon.domain.rejections import Reason
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.engine import Engine
from zaslon.engine.batch_outcomes import BatchOutcomes
from zaslon.features.deduplication import LABEL_WAITS
from zaslon.features.history import Applied
from zaslon.features.plan import FeaturePlan
from zaslon.intake.digests import digests_of
from zaslon.models.model import Model
from zaslon.ports import LogReader
from zaslon.ports.shadows import Contender, Shadowed, ShadowLabel, ShadowStore
from zaslon.services.context import SHADOW, STREAM, Context
from zaslon.services.home import (
    Champion,
    engine_at,
    keep_policy,
    load_versions,
    named_model,
    policy_names,
    with_chosen_thresholds,
    written_policy,
)
from zaslon.services.logs import GrowingLog, existing_log
from zaslon.system.durable import make_directory

_BATCH_RECORDS = 5_000
_POLL_SECONDS, _POLL_STREAM_SECONDS = 0.5, 2.0


@dataclass
class ShadowReport:
    """What a shadow did.

    Attributes:
        challengers: model ids.
        records, transactions: of the log that were read and decided since it began.
        late: of the transactions, decided more than the declared time after they had reached the log.
        next_position: where it goes on.
    """

    challengers: list[str]
    records: int = 0
    transactions: int = 0
    late: int = 0
    next_position: int = 0
    behind_seconds_max: float = 0.0

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "challengers": self.challengers, "records": self.records, "transactions": self.transactions,
            "late": self.late, "behind_seconds_max": round(self.behind_seconds_max, 3),
            "next_position": self.next_position,
        }  # fmt: skip


def shadow(
    context: Context, names: Sequence[str], policy_file: Path | None, *,
    within_seconds: float, keep_days: int, is_over: Callable[[float], bool],
) -> ShadowReport:  # fmt: skip
    """Let challengers decide beside the champion until it is over.

    Args:
        context: the home and its log.
        names: of models, as for `named_model`; `champion` with another policy is a challenger too.
        policy_file: that all of them decide with; None for the written one with each model's own thresholds.
        within_seconds: what is decided later after its arrival counts as late.
        keep_days: days of transactions that are kept, back from the newest one.
        is_over: called after everything was read, with seconds to wait for more; True ends the shadow.

    Raises:
        ArtefactError: a model or policy is missing, damaged or of another catalogue.
        DataError: there is no log, or a challenger has no thresholds.
    """
    existing_log(context)
    make_directory(context.home / SHADOW)
    with ExitStack() as stack:
        stack.enter_context(context.adapters.exclusive_in(context.home / SHADOW))
        with closing(context.open_journal_for_reading()) as journal:
            store = stack.enter_context(closing(context.open_shadow(journal.identity)))
            known = store.next_position
            state = _begin(context, journal, known)
            if known is None:  # it goes on from here, also if it is ended at once
                store.keep([], _waiting_labels(state), state.position)
        challengers = [_challenger(context, state.plan, name, policy_file) for name in dict.fromkeys(names)]
        log = stack.enter_context(closing(GrowingLog(context)))
        follower = _Follower(context, log, state, store, challengers, within_seconds)
        forgotten = 0
        while True:
            follower.catch_up()
            first_kept = follower.newest_seconds // SECONDS_PER_DAY - keep_days + 1
            if first_kept > forgotten:  # once a day: it looks at every row
                store.forget_before(first_kept * SECONDS_PER_DAY)
                forgotten = first_kept
            if is_over(_POLL_STREAM_SECONDS if context.log == STREAM else _POLL_SECONDS):
                return follower.report


def _begin(context: Context, journal: LogReader, known: int | None) -> Engine:
    """The state at the position from which the shadow goes on: a new one begins at the end of the log."""
    begin = journal.next_position if known is None else min(known, journal.next_position)
    if context.log == STREAM:
        snapshots = context.adapters.open_stream_snapshots(context.home)
    else:
        snapshots = context.open_snapshots(journal)
    engine = engine_at(context, journal, snapshots, begin)
    for batch in journal.read(engine.position, begin, originals=False):
        engine.replay(batch)
    return engine


def _challenger(context: Context, plan: FeaturePlan, name: str, policy_file: Path | None) -> Champion:
    model = named_model(context, name)
    if model is None:
        raise DataError(
            f"'{name}' is a challenger, but the home has no champion.", hint="Name a model by its id."
        )
    policy = _policy(context, plan, policy_file)
    if not policy.states_thresholds:
        chosen = model.facts.thresholds
        if not {"review", "block"} <= chosen.keys():
            raise DataError(
                f"No thresholds were chosen for model {model.artefact_id}.", hint="State them in the policy."
            )
        policy = with_chosen_thresholds(policy, chosen["review"], chosen["block"])
    keep_policy(context, policy)
    return model, policy


def _policy(context: Context, plan: FeaturePlan, policy_file: Path | None) -> Policy:
    if policy_file is None:
        return written_policy(context, plan)
    return load_policy(policy_file, policy_names(plan))


class _Follower:
    """Reads the log on from the state's position.

    Args:
        context, log: the home and its log.
        state: an engine that holds the state; it decides nothing.
        store: takes what is decided.
        challengers: decide beside the champion.
        within_seconds: see `shadow`.
    """

    def __init__(
        self, context: Context, log: GrowingLog, state: Engine, store: ShadowStore,
        challengers: Sequence[Champion], within_seconds: float,
    ) -> None:  # fmt: skip
        self._context, self._log, self._state, self._store = context, log, state, store
        self._within = within_seconds
        self._challengers = [self._beside(model, policy) for model, policy in challengers]
        self._champion: Engine | None = None
        self._matches: list[int] = []
        self.newest_seconds = 0  # event time of the newest transaction that was decided
        names = [engine.versions.model for engine in self._challengers]
        self.report = ShadowReport(names, next_position=state.position)

    def _beside(self, model: Model, policy: Policy) -> Engine:
        """An engine that decides on the shared state."""
        state, context = self._state, self._context
        return Engine(
            context.catalogue, key=context.key, model=model, policy=policy, history=state.history, plan=state.plan
        )  # fmt: skip

    def catch_up(self) -> None:
        """Decide everything that is in the log by now."""
        for batch in _joined(self._log.reader().read(self._state.position, originals=False)):
            if batch.change is not None:
                self._state.replay(batch)
                self._champion = None  # another one from the next position on
                continue
            if self._champion is None:
                self._face(batch.first_position)
            self._decide(batch)

    def _face(self, position: int) -> None:
        """Begin or continue the matches against what serves at a position."""
        with closing(self._context.open_journal_for_reading()) as journal:  # the other one is being read
            versions = journal.serving(position)
        if versions is None or versions.catalogue != self._context.catalogue.hash:
            raise ArtefactError(
                f"Position {position} of the log was decided with another catalogue.",
                hint="Name it with --catalogue.",
            )
        model, policy = load_versions(self._context, self._state.plan, versions.model, versions.policy)
        self._champion = self._beside(model, policy)
        champion = Contender(versions.model, versions.policy)
        self._matches = [
            self._store.begin(champion, Contender(e.versions.model, e.versions.policy), position)
            for e in self._challengers
        ]

    def _decide(self, batch: LogBatch) -> None:
        state, champion = self._state, self._champion
        assert champion is not None
        applied = state.apply(batch.transactions, batch.labels, batch.is_label)
        decided = champion.outcomes_of(batch, applied)
        late = self._late(batch, decided)
        entity_keys = _entity_hashes(decided.transactions, self._context)
        rows = [
            (match, _shadowed(batch, decided, challenger.outcomes_of(batch, applied), entity_keys), late)
            for match, challenger in zip(self._matches, self._challengers, strict=True)
        ]
        state.position = batch.end_position
        if len(decided.accepted):
            self.newest_seconds = max(self.newest_seconds, int(decided.transactions.event_time_seconds.max()))
        self._store.keep(rows, _labels(batch, applied), state.position)
        self.report.records += len(batch)
        self.report.transactions += len(decided.accepted)
        self.report.late += late
        self.report.next_position = state.position

    def _late(self, batch: LogBatch, decided: BatchOutcomes) -> int:
        """How many transactions reached the log longer ago than the declared time."""
        now = self._context.adapters.clock.now_seconds()
        behind = now - batch.arrival_time_seconds[batch.transaction_index[decided.accepted]]
        if len(behind):
            self.report.behind_seconds_max = max(self.report.behind_seconds_max, float(behind.max()))
        return int(np.count_nonzero(behind > self._within))


def _entity_hashes(transactions: Transactions, context: Context) -> NDArray[np.int64]:
    """int64[n, entities]: what tells whose a transaction is from other ones, and nothing else without the home's key."""
    found = np.full((len(transactions), len(context.catalogue.entities)), NO_KEY)
    for number, name in enumerate(context.catalogue.entities):
        keys = transactions.entity_keys[name]
        digests = digests_of([np.full(len(keys), number), keys], [], context.key)
        found[:, number] = np.where(keys == NO_KEY, NO_KEY, digests[:, 0].view(np.int64))
    return found


def _shadowed(
    batch: LogBatch, champion: BatchOutcomes, challenger: BatchOutcomes, entity_keys: NDArray[np.int64]
) -> Shadowed:
    transactions = champion.transactions
    return Shadowed(
        batch.first_position + batch.transaction_index[champion.accepted],
        transactions.transaction_id, transactions.event_time_seconds, transactions.amount_minor,
        champion.scores, challenger.scores, champion.decided().action, challenger.decided().action,
        entity_keys,
    )  # fmt: skip


def _labels(batch: LogBatch, applied: Applied) -> list[ShadowLabel]:
    """The labels that the log has accepted, known or waiting for their transactions."""
    labels = batch.labels
    known = applied.label_status != Reason.UNKNOWN_TRANSACTION
    positions = batch.first_position + batch.label_index[known]
    columns = (
        labels.transaction_id[known],
        labels.is_fraud[known],
        applied.label_status[known] == LABEL_WAITS,
    )
    rows = zip(positions.tolist(), *(column.tolist() for column in columns), strict=True)
    return [ShadowLabel(*row) for row in rows]


def _waiting_labels(state: Engine) -> list[ShadowLabel]:
    """The labels whose transactions had not come when the shadow began."""
    ids, is_fraud = state.history.waiting_labels()
    rows = zip(range(-len(ids), 0), ids.tolist(), is_fraud.tolist(), strict=True)
    return [ShadowLabel(*row, waits=True) for row in rows]


def _joined(batches: Iterator[LogBatch]) -> Iterator[LogBatch]:
    """The same records in fewer batches; a change stays alone."""
    waiting: list[LogBatch] = []
    count = 0
    for batch in batches:
        if batch.change is None:
            waiting.append(batch)
            count += len(batch)
        if waiting and (batch.change is not None or count >= _BATCH_RECORDS):
            yield LogBatch.concatenate(waiting)
            waiting, count = [], 0
        if batch.change is not None:
            yield batch
    if waiting:
        yield LogBatch.concatenate(waiting)
