"""Changes of what decides: noticed and prepared beside the deciding thread, then made at a log position.

    1. a command writes the name of another model or policy into the home (`home.keep_champion`)
    2. a thread of the process that decides notices it, loads both and runs them once beside the state
    3. the deciding thread writes the change into the log, as a record by itself between two groups
    4. what comes after that position is decided with them, now and at every replay
What fails in 2 is reported and changes nothing: no such record is written. A `policy.toml` that was edited
counts from the next start on, as a change with a number of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import cast

from zaslon.admission import change_entry
from zaslon.decisions.policy import Policy
from zaslon.domain.errors import ZaslonError
from zaslon.domain.events import Change, LogBatch
from zaslon.domain.outcomes import ChangeMade, Outcome, Versions
from zaslon.engine import ENGINE_VERSION, Engine
from zaslon.features.plan import FeaturePlan, plan_features
from zaslon.models.model import Model
from zaslon.ports import Journal
from zaslon.services.context import Context
from zaslon.services.home import (
    EDITED_FILE,
    POLICY_FILE,
    Champion,
    keep_policy,
    load_named,
    load_versions,
    named_champion,
    replace_champion,
)
from zaslon.services.logs import idle_journal
from zaslon.services.warm_up import run_once
from zaslon.system.periodic import Periodic

_LOOK_SECONDS = 0.5  # between two looks at the home
_LOOKS_AFTER_FAILURE = 20  # are left out: to load a model in vain costs the deciding thread time


@dataclass(frozen=True)
class PreparedChange:
    """A change whose model and policy are loaded and checked."""

    change: Change
    model: Model
    policy: Policy

    @property
    def champion(self) -> Champion:
        """Model and policy."""
        return self.model, self.policy


def champion_of_home(context: Context) -> PreparedChange:
    """The champion for a process that begins; one whose `policy.toml` was edited since is named as a new one.

    The ledger learns of the edit at the next promotion: nothing that decides waits for it.

    Raises:
        ZaslonError: as `load_champion`.
    """
    named = named_champion(context)
    model, policy = load_named(context, plan_features(context.catalogue), named)
    keep_policy(context, policy)
    if policy.hash == named.policy:
        return PreparedChange(named, model, policy)
    edited = Change(named.model, policy.hash, named.number + 1, EDITED_FILE, POLICY_FILE)
    if not replace_champion(context, named, edited):  # another process has promoted meanwhile
        return champion_of_home(context)
    return PreparedChange(edited, model, policy)


def number_warning(named: Change, serving: Change, consequence: str) -> str | None:
    """What to tell people of a change whose number is not above that of what decides; None for any other."""
    is_the_same = (named.model, named.policy) == (serving.model, serving.policy)
    if named.number > serving.number or is_the_same:
        return None
    return (
        f"The home names model {named.model} and policy {named.policy} as promotion {named.number}, which is "
        f"not above promotion {serving.number} that decides: {consequence}"
    )


class ChampionWatch:
    """Notices what a home names as its champion, and prepares it in a thread of its own.

    Args:
        context: of the home.
        plan: of the engine that decides.
        serving: what decides now.
        warn: given a sentence about a champion that cannot be taken over.
    """

    def __init__(
        self, context: Context, plan: FeaturePlan, serving: Change, warn: Callable[[str], None]
    ) -> None:  # fmt: skip
        self._context, self._plan, self._warn = context, plan, warn
        self._seen = serving
        self._ready: PreparedChange | None = None
        self._refused = ""
        self._looks_left_out = 0
        self._looking = Periodic(self.look, _LOOK_SECONDS, "champion-watch")

    def ready(self) -> PreparedChange | None:
        """The newest change that is prepared and not made yet. Called by the deciding thread."""
        return self._ready

    def made(self, prepared: PreparedChange) -> None:
        """Note that a change is in the log."""
        if self._ready is prepared:
            self._ready = None

    def close(self) -> None:
        """End the thread."""
        self._looking.close()

    def look(self) -> None:
        """Prepare the champion of the home, if it is a new one; what failed is tried again after a while."""
        if self._looks_left_out:
            self._looks_left_out -= 1
            return
        try:
            named = named_champion(self._context)
            if named == self._seen:
                return
            self._ready = None  # an earlier one is no longer wanted
            self._ready = self._prepared(named)
            self._seen = named
        except Exception as error:  # noqa: BLE001  whatever is wrong with it, what serves goes on
            self._refuse(error)
            self._looks_left_out = _LOOKS_AFTER_FAILURE

    def _prepared(self, named: Change) -> PreparedChange:
        context = self._context
        model, policy = load_versions(context, self._plan, named.model, named.policy)
        run_once(Engine(context.catalogue, key=context.key, model=model, policy=policy, plan=self._plan))
        return PreparedChange(named, model, policy)

    def _refuse(self, error: Exception) -> None:
        sentence = f"The new champion is not taken over: {error}"
        if sentence != self._refused:
            self._warn(sentence)
        self._refused = sentence


def change_idle_log(context: Context, named: Change) -> None:
    """Write what the home names now into its log, where no process decides that would notice it.

    So the log says from when on it would have decided. What prevents it here is done by the next process that decides.
    """
    with suppress(ZaslonError), idle_journal(context) as journal:
        now = Versions(named.model, named.policy, context.catalogue.hash, ENGINE_VERSION)
        position = journal.next_position
        before = journal.serving(position - 1)
        if before is None or before.catalogue != now.catalogue or before.decides_as(now):
            return
        now_seconds = int(context.adapters.clock.now_seconds())
        entry = change_entry(named, position, now_seconds, context.catalogue)
        journal.record(entry, [ChangeMade(position, now, named.number, named.by, named.reason)], None)


def begin_serving(context: Context, engine: Engine, journal: Journal, serving: PreparedChange) -> None:
    """Note what decides from the next position on: if it is another champion than before, as a change.

    Args:
        serving: what `engine` decides with.

    Raises:
        ZaslonError: the log cannot be written; discard the engine.
    """
    before, now = journal.serving(journal.next_position - 1), engine.versions
    if before is None or before.decides_as(now):
        journal.serve(now)
        return
    now_seconds = context.adapters.clock.now_seconds()
    make_change(engine, partial(journal.record, cursor=None), serving, now_seconds)


def make_change(
    engine: Engine, record: Callable[[LogBatch, Sequence[Outcome]], object], prepared: PreparedChange,
    now_seconds: float,
) -> ChangeMade:  # fmt: skip
    """Write a change into the log, and let the engine decide with it from there on.

    Args:
        record: makes a batch of the log and its outcomes durable, or takes them over to do so.

    Raises:
        ZaslonError: the log cannot be written; discard the engine.
    """
    engine.prepare(prepared.model, prepared.policy)
    entry = change_entry(prepared.change, engine.position, int(now_seconds), engine.catalogue)
    (made,) = engine.process(entry).outcomes
    record(entry, [made])
    return cast(ChangeMade, made)
