"""Changing what serves: recorded in the promotion ledger, then named in the home.

What a home names serves; a running service takes it over. Whatever comes between the two steps, the next
promotion finds a champion that the newest entry does not name, and records it first. A store that is away keeps
no process from deciding; it only keeps people and jobs from promoting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from zaslon.decisions.policy import Policy
from zaslon.domain.errors import ArtefactError, BusyError, ZaslonError
from zaslon.domain.events import Change
from zaslon.domain.ledger import EDITED, HOME, IMPORT, LedgerEntry, Promotion
from zaslon.models.artefact import load_model
from zaslon.models.model import Model
from zaslon.ports import Ledger
from zaslon.services.changes import change_idle_log
from zaslon.services.context import STREAM, Context
from zaslon.services.home import (
    EDITED_FILE,
    POLICY_FILE,
    home_identity,
    is_written,
    keep_champion,
    named_champion,
    names_champion,
)
from zaslon.services.kept_policies import keep_serving_version, keep_version

FIRST, NOT_COMPARED, IMPORTED = "first", "not_compared", "imported"
ANY = "any"


@dataclass(frozen=True)
class StoreMigration:
    """What `zaslon store migrate` has done. Versions of the schema are texts, None for an empty database."""

    store: str
    schema_before: str | None
    schema: str
    rows_copied: int
    keys_moved: int
    policies_taken: int

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def promote(
    context: Context, model: Model, policy: Policy, action: str, evidence: Mapping[str, Any],
    *, verdict: str | None = None, against: str | None = ANY, approval: str | None = None,
    log: Context | None = None, policy_file: bytes | None = None, after: LedgerEntry | None = None,
) -> LedgerEntry:  # fmt: skip
    """Make a saved model and its policy the ones that serve, and record it; durable on return.

    Args:
        action: RUN, TRAIN, RETRAIN, PROMOTE, ROLLBACK or POLICY of the ledger.
        evidence: what is known about the model, plain values.
        verdict: of a comparison; None where there was none.
        against: the champion that it was compared with, None where there was none; ANY for no comparison.
        approval: the second person who agreed, if one did.
        log: names the log that it decides first, where that is not the home's.
        policy_file: what `policy.toml` is to be, so that the next start and the next training go on with this policy;
            None leaves it as it is: it is what the policy was made from.
        after: the newest entry that the evidence knows; None where it is not about an entry.

    Raises:
        BusyError: another home of the same store promoted at the same time, the champion is not the one that the
            verdict is about, or `policy.toml` is not what the policy was made from. The champion serves on.
        ServerError: the store does not answer. The champion serves on.
    """
    keep_version(context, policy, policy_file, note=evidence.get("why"))
    with context.adapters.one_at_a_time_in(context.home / "models"):
        before = _recorded(context)
        _check_against(context, against, before)
        _check_unchanged(before, after)
        if policy_file is None:
            _check_written(context, policy)
        promotion = _promotion(
            context, action, model.artefact_id, policy.hash, context.catalogue.hash,
            verdict or (FIRST if before is None else NOT_COMPARED), log=log, evidence=evidence, approval=approval,
        )  # fmt: skip
        entry = context.open_ledger().append(promotion, 0 if before is None else before.number)
        named = keep_champion(
            context, model, policy, by=promotion.actor, reason=f"{action}, entry {entry.number}",
            entry=entry.number, policy_file=policy_file,
        )  # fmt: skip
        change_idle_log(context, named)
    return entry


def entry_of(change: Change, entries: Sequence[LedgerEntry]) -> LedgerEntry | None:
    """The entry that a change was made for; None for one that the ledger does not have, such as an edited file."""
    number = change.entry or 0
    entry = entries[number - 1] if 0 < number <= len(entries) else None
    if entry is None or entry.promotion.serving[:2] != (change.model, change.policy):
        return None
    return entry


def _check_against(context: Context, against: str | None, before: LedgerEntry | None) -> None:
    """The ledger may know a champion, of another home or lost, where this home has none."""
    champion = None if before is None else before.promotion.model
    if against is None and not names_champion(context):
        return
    if against not in (ANY, champion):
        refuse_behind(context, before)
        raise BusyError(
            f"Model {champion} became the champion while this one was compared with {against or 'none'}.",
            hint="Compare with the new champion: start again.",
        )


def refuse_behind(context: Context, newest: LedgerEntry | None) -> None:
    """Refuse what depends on the champion in a home that names another one than the store's newest entry.

    Raises:
        BusyError: it does.
    """
    named = named_champion(context) if names_champion(context) else None
    if newest is None or named is None or newest.promotion.serving[:2] == (named.model, named.policy):
        return
    model = newest.promotion.model
    raise BusyError(
        f"This home is behind: it names model {named.model}, and by entry {newest.number} of the ledger, which another home"
        f" recorded, model {model} serves.",
        hint=f"A standby catches up when it takes over. By hand: copy models/{model} here, then `zaslon promote {model}"
        " --unguarded`.",
    )


def _check_unchanged(before: LedgerEntry | None, after: LedgerEntry | None) -> None:
    """What was worked out from an entry holds while it is the newest one."""
    if after is not None and before != after:
        raise BusyError(
            "Something else was promoted at the same time; nothing was changed.",
            hint="Look at `zaslon history`, then try again.",
        )


def _check_written(context: Context, policy: Policy) -> None:
    """A policy applied while a model was trained has rules that this one lacks: they would act no longer."""
    if not is_written(context, policy):
        raise BusyError(
            f"The policy was changed while policy {policy.label} was in work: {POLICY_FILE} gives another one now.",
            hint="Start again.",
        )


def record_champion(context: Context) -> LedgerEntry | None:
    """The ledger's newest entry, after the home's champion was recorded, if that entry does not name it.

    So is one from before the ledger, and what a crash between ledger and home has left. It waits for a promotion that
    is between the two.
    """
    models = context.home / "models"
    if not models.is_dir():
        return _recorded(context)
    with context.adapters.one_at_a_time_in(models):
        return _recorded(context)


def _recorded(context: Context) -> LedgerEntry | None:
    ledger = context.open_ledger()
    newest = ledger.newest()
    try:
        named = named_champion(context)
    except ArtefactError:  # there is none, or it cannot be read: what is promoted now replaces it
        return newest
    keep_serving_version(context, named)
    if newest is not None and (
        newest.promotion.serving[:2] == (named.model, named.policy)
        or _is_behind(context, named, ledger, newest)
    ):
        return newest
    promotion = _promotion(
        context, IMPORT, named.model, named.policy, _catalogue_of(context, named.model), IMPORTED,
        evidence=_edit(named, ledger),
    )  # fmt: skip
    return ledger.append(promotion, 0 if newest is None else newest.number)


def _is_behind(context: Context, named: Change, ledger: Ledger, newest: LedgerEntry) -> bool:
    """Whether the home names what an older entry did, and another home of the store recorded the newest one.

    A standby learns of a promotion when it takes over, and what it names until then is no news. Of an entry of this
    home the same means that a crash kept it from serving.
    """
    home = orjson.loads(newest.promotion.evidence).get(HOME)
    if home is None or home == home_identity(context.home) or named.by == EDITED_FILE:
        return False
    return entry_of(named, ledger.entries()) is not None


def _edit(named: Change, ledger: Ledger) -> dict[str, int]:
    """The number of an edit that the ledger does not have yet; one that it has is back after a crash."""
    if named.by != EDITED_FILE:
        return {}
    known = {orjson.loads(entry.promotion.evidence).get(EDITED) for entry in ledger.entries()}
    return {} if named.number in known else {EDITED: named.number}


def _promotion(
    context: Context, action: str, model: str, policy: str, catalogue: str, verdict: str, *,
    log: Context | None = None, evidence: Mapping[str, Any] | None = None, approval: str | None = None,
) -> Promotion:  # fmt: skip
    now = int(context.adapters.clock.now_seconds())
    identity, position = _log_end(log or context)
    known = {**(evidence or {}), HOME: home_identity(context.home)}
    plain = orjson.dumps(known, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    return Promotion(
        now, context.adapters.actor, action, model, policy, catalogue, identity, position, verdict,
        plain.decode(), approval,
    )  # fmt: skip


def _log_end(context: Context) -> tuple[str | None, int | None]:
    """Identity and next position of a log; None where it is kept elsewhere, missing, or not readable now."""
    if context.log == STREAM or not (context.home / context.log).is_dir():
        return None, None
    try:
        with closing(context.open_journal_for_reading()) as journal:
            return journal.identity, journal.next_position
    except ZaslonError:  # of an earlier format, for example: that must not prevent a promotion
        return None, None


def _catalogue_of(context: Context, model: str) -> str:
    try:
        return load_model(context.home / "models" / model).facts.catalogue_hash
    except ArtefactError:
        return "unknown"
