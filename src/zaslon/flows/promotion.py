"""What serves and what served: history of the ledger, promotion by hand, rollback."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from zaslon.domain.errors import DataError, GuardError, ZaslonError
from zaslon.domain.ledger import PROMOTE, ROLLBACK, Broken, LedgerEntry, entries_that_served, first_broken
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX
from zaslon.features.plan import plan_features
from zaslon.flows.challenge import Challenge, challenge, evidence_for
from zaslon.models.artefact import load_model
from zaslon.models.guards import Guard, not_checked
from zaslon.models.verdict import Verdict
from zaslon.services.context import Context
from zaslon.services.home import (
    Champion,
    champion_or_none,
    load_versions,
    policy_file_of,
    written_policy,
)
from zaslon.services.kept_policies import fetch_policy
from zaslon.services.promotion_ledger import ANY, promote, record_champion
from zaslon.services.publishing import RegistryState, publish

UNGUARDED = "unguarded"
_MODEL_ID = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True)
class History:
    """All entries of the ledger, oldest first."""

    entries: Sequence[LedgerEntry]

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"promotions": [entry.to_json_dict() for entry in self.entries]}


@dataclass(frozen=True)
class Verification:
    """Whether the chain is valid. `newest_hash` may be kept elsewhere, to notice a ledger that was cut off."""

    entries: int
    broken: Broken | None
    newest_hash: str | None

    @property
    def is_valid(self) -> bool:
        """No entry breaks the chain."""
        return self.broken is None

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "entries": self.entries, "valid": self.is_valid, "newest_hash": self.newest_hash,
            "first_broken": None if self.broken is None else self.broken.number,
            "reason": None if self.broken is None else self.broken.reason,
        }  # fmt: skip


@dataclass(frozen=True)
class Promoted:
    """The entry of a promotion by hand, a rollback or another policy, what served before, and the guards that it kept.

    `registry`: whether the registry follows; None where there is none.
    """

    entry: LedgerEntry
    model_before: str | None
    guards: Sequence[Guard] = ()
    registry: RegistryState | None = None
    policy_before: str | None = None

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.entry.to_json_dict(),
            "model_before": self.model_before,
            "policy_before": self.policy_before,
            "guards": [guard.to_json_dict() for guard in self.guards],
            "not_checked": not_checked(self.guards),
            "registry_agrees": None if self.registry is None else self.registry.agrees,
        }


def history(context: Context) -> History:
    """All that was promoted."""
    return History(context.open_ledger().entries())


def verify(context: Context) -> Verification:
    """Check the chain from the first entry to the last."""
    entries = context.open_ledger().entries()
    return Verification(len(entries), first_broken(entries), entries[-1].hash if entries else None)


def promote_by_hand(
    context: Context, model_id: str, approver: str | None, *, guarded: bool = True
) -> Promoted:
    """Let a model of the home serve, with the written policy and the thresholds chosen in its training.

    Args:
        context, model_id: the home and a model in it.
        approver: the second person who agreed; None where nobody did.
        guarded: whether it has to pass the guards on the home's clean days. The ledger says so if not.

    Raises:
        DataError: there is no such model, or it has no thresholds.
        ArtefactError: it is damaged, or of another catalogue.
        GuardError: it is worse than the champion or breaks a guard, or there is nothing to judge it on.
        ZaslonError: the approver is not a second person.
    """
    check_approver(context, approver)
    model, policy = _named_candidate(context, model_id)
    # Without guards nothing is loaded of what serves, so that a damaged champion can be replaced.
    champion = champion_or_none(context, plan_features(context.catalogue)) if guarded else None
    found = _guarded(context, (model, policy), champion) if guarded else None
    evidence = {
        "metrics": dict(model.facts.metrics),
        "challenge": None if found is None else found.to_json_dict(),
    }
    before = record_champion(context)
    entry = promote(
        context, model, policy, PROMOTE, evidence, approval=approver,
        verdict=UNGUARDED if found is None else found.judged.verdict.value,
        against=ANY if found is None else None if champion is None else champion[0].artefact_id,
    )  # fmt: skip
    return Promoted(
        entry, None if before is None else before.promotion.model, () if found is None else found.guards,
        publish(context), None if before is None else before.promotion.policy,
    )  # fmt: skip


def _named_candidate(context: Context, model_id: str) -> Champion:
    directory = context.home / "models" / model_id
    if _MODEL_ID.fullmatch(model_id) is None or not directory.is_dir():
        raise DataError(f"There is no model '{model_id}' in '{directory.parent}'.", hint=_known(context))
    model = load_model(directory, context.catalogue.hash)
    chosen = model.facts.thresholds
    policy = written_policy(context, plan_features(context.catalogue))
    if policy.states_thresholds:
        return model, policy
    if not {"review", "block"} <= chosen.keys():
        raise DataError(
            f"No thresholds were chosen for model {model_id}.", hint="State them in policy.toml of the home."
        )
    return model, policy.with_thresholds(chosen["review"], chosen["block"])


def _guarded(context: Context, challenger: Champion, champion: Champion | None) -> Challenge:
    before = None if champion is None else champion[0]
    found = challenge(context, challenger, champion, evidence_for(context, challenger[0], before))
    wrong = list(found.refusals)
    if found.judged.verdict is Verdict.WORSE or not found.frauds:
        wrong = [*found.judged.reasons, *wrong]
    if wrong:
        raise GuardError(
            f"Model {challenger[0].artefact_id} does not serve. {' '.join(wrong)}",
            hint="`--unguarded` lets it serve all the same, and the ledger says so.",
        )
    return found


def roll_back(context: Context, model_id: str | None, entry_number: int | None = None) -> Promoted:
    """Let an earlier model and policy serve again, both as they served then; `policy.toml` is that policy's again.

    Args:
        model_id: the model; None takes what served before, which may be the same model with another policy.
        entry_number: of the ledger, instead of a model.

    Raises:
        DataError: it has never served, or serves now.
        BusyError: a model or policy was promoted at the same time.
        ArtefactError: its files are no longer in the home.
    """
    newest = record_champion(context)
    entries = context.open_ledger().entries()
    if newest is None or not entries:
        raise DataError("Nothing was ever promoted.", hint="`zaslon train` makes the first model.")
    current = newest.promotion
    target = _earlier(entries_that_served(entries), current.serving, model_id, entry_number)
    fetch_policy(context, target.promotion.policy)
    model, policy = load_versions(
        context, plan_features(context.catalogue), target.promotion.model, target.promotion.policy
    )
    entry = promote(
        context, model, policy, ROLLBACK, {"back_to_entry": target.number, "policy_before": current.policy},
        policy_file=policy_file_of(context, model, policy), after=newest,
    )  # fmt: skip
    return Promoted(entry, current.model, registry=publish(context), policy_before=current.policy)


def _earlier(
    served: Sequence[LedgerEntry], current: tuple[str, str, str], model_id: str | None, number: int | None
) -> LedgerEntry:
    """The newest entry that fits what was asked for and is not what serves."""
    asked = [
        entry
        for entry in served
        if model_id in (None, entry.promotion.model) and number in (None, entry.number)
    ]
    fits = [entry for entry in asked if entry.promotion.serving[:2] != current[:2]]
    if fits:
        return fits[-1]
    hint = "See `zaslon history`."
    if model_id is None and number is None:
        raise DataError("No other model or policy has served before.", hint=hint)
    wanted = f"Model '{model_id}'" if number is None else f"Entry {number}"
    if asked:
        raise DataError(f"{wanted} serves now, and there is no earlier policy of it.", hint=hint)
    raise DataError(f"{wanted} has never served.", hint=hint)


def parse_moment(text: str) -> int:
    """Seconds since 1970 of an ISO time such as `2026-01-31T12:00`; UTC where it names no offset.

    Raises:
        ZaslonError: the text is not such a time.
    """
    try:
        moment = datetime.fromisoformat(text)
        seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError) as error:
        raise ZaslonError(f"'{text}' is not a time.", hint="Write 2026-01-31T12:00, in UTC.") from error
    if not 0 <= seconds <= EVENT_TIME_SECONDS_MAX:
        raise ZaslonError(f"'{text}' is not between 1970 and 2106.")
    return seconds


def check_approver(context: Context, approver: str | None) -> None:
    """Raise a ZaslonError unless the second person, if one is named, is another one than the user."""
    if approver is None:
        return
    if not approver.strip() or not approver.isprintable():
        raise ZaslonError("An approver has a name of printable characters.")
    if approver.strip().casefold() == context.adapters.actor.casefold():
        raise ZaslonError(
            f"'{approver}' promotes the model and cannot approve it too.", hint="Name a second person."
        )


def _known(context: Context) -> str:
    found = sorted(path.name for path in (context.home / "models").glob("[0-9a-f]*"))
    return f"Known: {', '.join(found)}." if found else "`zaslon train` makes the first one."
