"""READ FIRST: the one path that every transaction takes, whichever ingress it came through.

    typed records of the log ─ apply ─► features ─ score ─► decide ─► outcomes

Files, streams, REST, backtests and replays call `Engine.process` with what admission made of their
records. Training calls `Engine.apply`, which is the same path without its last two steps: what is
trained on is what is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.decisions.policy import Policy
from zaslon.decisions.reasons import ReasonWriter
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import Change, Degradation, Labels, LogBatch, Transactions
from zaslon.domain.outcomes import ChangeMade, Outcome, Versions
from zaslon.engine.batch_outcomes import BatchOutcomes
from zaslon.engine.version import ENGINE_VERSION
from zaslon.features.history import STATE_VERSION, Applied, History
from zaslon.features.plan import FeaturePlan, plan_features
from zaslon.intake.pseudonyms import key_mark, table_secret
from zaslon.models.model import Model
from zaslon.ports import SnapshotStore


@dataclass(frozen=True)
class Processed:
    """What became of a batch: `outcomes[i]` is the outcome of record i."""

    outcomes: list[Outcome]


class Engine:
    """Applies the log. Holds the state; `process` and `replay` are the only ways to change it.

    Args:
        catalogue: how records look and which features are kept.
        key: secret bytes for the pseudonyms of text identifiers, the digests of transactions and hash tables.
        model, policy: what scores and decides; an engine without them can only replay.
        history: the remembered past; empty for None.
        position: log position of the next record.

    Attributes:
        saved_position: of the newest snapshot of this state: the one it was restored from, or one made since.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        key: bytes,
        model: Model | None = None,
        policy: Policy | None = None,
        history: History | None = None,
        position: int = 0,
        plan: FeaturePlan | None = None,
    ) -> None:
        self.catalogue, self.key, self.model, self.policy = catalogue, key, model, policy
        self.plan = plan or plan_features(catalogue)
        self.history = history or History(self.plan, secret=table_secret(key))
        self.position = self.saved_position = position
        self._model_columns = _columns_for(model, self.plan)
        self._next: tuple[Model, Policy] | None = None

    @property
    def records_since_snapshot(self) -> int:
        """How many records a recovery would have to replay."""
        return self.position - self.saved_position

    @property
    def versions(self) -> Versions:
        """What decides now."""
        model = self.model.artefact_id if self.model else "none"
        policy = self.policy.hash if self.policy else "none"
        return Versions(model, policy, self.catalogue.hash, ENGINE_VERSION)

    def process(self, batch: LogBatch) -> Processed:
        """Decide a batch of records in log order.

        The same log gives the same outcomes, byte for byte, in batches of any size. Rejected records
        stay rejections; nothing that a record contains should raise.

        Raises:
            ValueError: the batch does not begin at `position`, or the engine has no model.
        """
        if batch.first_position != self.position:
            raise ValueError(f"batch begins at {batch.first_position}, expected {self.position}")
        if batch.change is not None:
            return Processed([self._take_over(batch.change)])
        if self.model is None or self.policy is None:
            raise ValueError("this engine has no model and policy: it can only replay the log")
        applied = self.apply(batch.transactions, batch.labels, batch.is_label)
        outcomes = self.outcomes_of(batch, applied)
        self.position += len(batch)
        return Processed(outcomes.assemble())

    def outcomes_of(self, batch: LogBatch, applied: Applied) -> BatchOutcomes:
        """What this engine's model and policy make of a batch that was applied, by itself or by another engine.

        The state is not touched: a challenger decides beside the champion on what was applied once.
        """
        assert self.model is not None
        accepted = applied.status == 0
        degradation = batch.degradation[batch.transaction_index[accepted]]
        scores = self._score(self.model, applied.matrix, degradation)
        return BatchOutcomes(self, batch, applied, accepted, scores)

    def serve(self, model: Model, policy: Policy) -> None:
        """Decide with this model and policy from now on; the log must say so already."""
        self._model_columns = _columns_for(model, self.plan)
        self.model, self.policy, self._next = model, policy, None
        self.__dict__.pop("reason_writer", None)

    def prepare(self, model: Model, policy: Policy) -> None:
        """Name the model and policy, loaded and warm, that the next change of the log makes decide."""
        self._next = model, policy

    def _take_over(self, change: Change) -> ChangeMade:
        """Decide with the prepared model and policy from the next position on, or go on with the same.

        Raises:
            ValueError: the change names others.
        """
        model, policy = self._next or (self.model, self.policy)
        if (
            model is None
            or policy is None
            or (change.model, change.policy) != (model.artefact_id, policy.hash)
        ):
            raise ValueError(f"model {change.model} and policy {change.policy} are not prepared")
        self.serve(model, policy)
        made = ChangeMade(self.position, self.versions, change.number, change.by, change.reason)
        self.position += 1
        return made

    def replay(self, batch: LogBatch) -> None:
        """Apply a batch whose outcomes are already recorded: state moves on, nothing is decided."""
        if batch.first_position != self.position:
            raise ValueError(f"batch begins at {batch.first_position}, expected {self.position}")
        self.apply(batch.transactions, batch.labels, batch.is_label)
        self.position += len(batch)

    def _score(
        self, model: Model, matrix: NDArray[np.float32], degradation: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """float64[accepted] scores; NaN where there was no time for the model."""
        if not degradation.any():
            return model.score(self.for_model(matrix))
        scores = np.full(len(matrix), np.nan)
        scored = degradation < Degradation.MODEL
        scores[scored] = model.score(self.for_model(matrix[scored]))
        return scores

    def apply(self, transactions: Transactions, labels: Labels, is_label: NDArray[np.bool_]) -> Applied:
        """Apply clean events in log order to the history and read their features."""
        return self.history.apply(transactions, labels, is_label)

    @cached_property
    def reason_writer(self) -> ReasonWriter:
        """Turns the model's contributions into sentences."""
        names = self.model.names if self.model else self.plan.names
        infos = [self.plan.infos[self.plan.column_of[name]] for name in names]
        return ReasonWriter.of(infos, minor_digits=self.catalogue.minor_digits)

    def for_model(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """The columns that the model was trained on, in its order."""
        if self._model_columns is None:
            return matrix
        return np.ascontiguousarray(matrix[:, self._model_columns])

    def save(self, store: SnapshotStore, **beside: bytes) -> None:
        """Keep the state with its log position, and by name whatever must be kept `beside` it."""
        store.save(self.position, self.state(**beside))
        self.saved_position = self.position

    def state(self, **beside: bytes) -> dict[str, NDArray[Any]]:
        """What a snapshot holds; the arrays are the engine's own, so copy what must outlive a batch."""
        content: dict[str, NDArray[Any]] = dict(self.history.save())
        content["engine"] = np.array([ENGINE_VERSION], np.int64)
        content["catalogue"] = np.frombuffer(self.catalogue.hash.encode(), np.uint8)
        content["key"] = np.frombuffer(key_mark(self.key), np.uint8)
        return content | {name: np.frombuffer(value, np.uint8) for name, value in beside.items()}


def restore_engine(
    catalogue: Catalogue,
    position: int,
    content: dict[str, NDArray[Any]],
    *,
    key: bytes,
    model: Model | None = None,
    policy: Policy | None = None,
) -> Engine:
    """An engine in the state of a snapshot, whose arrays are taken out of `content`.

    Raises:
        ArtefactError: the snapshot was made with another catalogue or another key, or has another
            state version. One of another engine version is taken over: the state's meaning is the same.
    """
    _check_state_version(position, content)
    made_with = content["catalogue"].tobytes().decode() if "catalogue" in content else "nothing"
    if made_with != catalogue.hash:
        raise ArtefactError(
            f"The snapshot at position {position} was made with catalogue {made_with}, "
            f"not with {catalogue.label}.",
            hint="Start from history again, or use the catalogue it was made with.",
        )
    mark = content["key"].tobytes() if "key" in content else b""
    if mark != key_mark(key):
        raise ArtefactError(
            f"The snapshot at position {position} was made with another key: with this one no repeat would"
            " be recognised, and entities with text identifiers would lose their history.",
            hint="Restore the home's pseudonym.key from a backup, or set ZASLON_PSEUDONYM_KEY as it was.",
        )
    plan = plan_features(catalogue)
    history = History.restore(plan, content, secret=table_secret(key))
    return Engine(
        catalogue, key=key, model=model, policy=policy,
        history=history, position=position, plan=plan,
    )  # fmt: skip


def _check_state_version(position: int, content: dict[str, NDArray[Any]]) -> None:
    state, engine = (int(content[name][0]) if name in content else 0 for name in ("layout", "engine"))
    if state != STATE_VERSION:
        raise ArtefactError(
            f"The snapshot at position {position} holds state version {state}, made by engine version "
            f"{engine}; this Zaslon has state version {STATE_VERSION} and engine version {ENGINE_VERSION}.",
            hint="Use the release that made it, or begin from history again.",
        )


def _columns_for(model: Model | None, plan: FeaturePlan) -> list[int] | None:
    """Matrix columns in the model's order; None when they are all columns in order."""
    if model is None or model.names == plan.names:
        return None
    missing = [name for name in model.names if name not in plan.column_of]
    if missing:
        raise ArtefactError(
            f"The model needs feature '{missing[0]}', which the catalogue {plan.catalogue.label} "
            "does not compute.",
            hint="Train a model with this catalogue, or serve with the catalogue of the model.",
        )
    return [plan.column_of[name] for name in model.names]
