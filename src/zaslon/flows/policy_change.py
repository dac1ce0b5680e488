"""Apply a policy: another one decides with the same model, at a log position, without a restart.

    1. the file is read and checked: against the catalogue, with the model that serves, on records made up for that
    2. the ledger gets an entry, the home names the policy, `policy.toml` becomes that file
    3. what decides takes it over as a change of the log (`services.changes`)
Nothing is written before 1 is done.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from zaslon.decisions.policy import Policy, parse_policy
from zaslon.domain.errors import BusyError, DataError, PolicyError
from zaslon.domain.ledger import POLICY
from zaslon.engine import Engine
from zaslon.features.plan import plan_features
from zaslon.flows.promotion import Promoted, check_approver
from zaslon.models.model import Model
from zaslon.services.context import Context
from zaslon.services.home import (
    POLICY_FILE,
    is_written,
    load_versions,
    named_champion,
    policy_names,
    with_chosen_thresholds,
)
from zaslon.services.promotion_ledger import promote, record_champion, refuse_behind
from zaslon.services.publishing import publish
from zaslon.services.warm_up import run_once


def apply_policy(
    context: Context, path: Path | None, *, why: str | None = None, approver: str | None = None
) -> Promoted:
    """Let a policy decide with the model that serves.

    Args:
        path: its file; None for `policy.toml` of the home. Another one takes the place of `policy.toml`.
        why: in words, for the ledger.
        approver: the second person who agreed; None where nobody did.

    Raises:
        PolicyError: the file is missing or inconsistent, or names columns that the catalogue does not have.
        ArtefactError: there is no model, or it is damaged or of another catalogue.
        DataError: this policy decides already.
        BusyError: a model or policy was promoted at the same time.
        ZaslonError: the approver is not a second person.
    """
    check_approver(context, approver)
    plan = plan_features(context.catalogue)
    named = named_champion(context)
    model, before = load_versions(context, plan, named.model, named.policy)
    content, written = _read(path or context.home / POLICY_FILE, policy_names(plan))
    policy = _with_thresholds(written, model, before)
    if policy.hash == before.hash:
        raise _decides_already(context, policy)
    run_once(Engine(context.catalogue, key=context.key, model=model, policy=policy, plan=plan))
    evidence = _evidence(before, policy, why)
    newest = record_champion(context)
    refuse_behind(context, newest)
    if newest is None or newest.promotion.serving[:2] != (named.model, named.policy):
        raise BusyError("A model was promoted at the same time; nothing was changed.", hint="Try again.")
    entry = promote(
        context, model, policy, POLICY, evidence, approval=approver, policy_file=content, after=newest
    )
    return Promoted(entry, named.model, policy_before=before.hash, registry=publish(context))


def _read(path: Path, known: Collection[str]) -> tuple[bytes, Policy]:
    """What is kept is what was checked: a file may change, and a pipe is empty when it is read again."""
    try:
        content = path.read_bytes()
        return content, parse_policy(content.decode(), known, origin=f"Policy '{path}'")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"Policy '{path}' cannot be read: {error}.") from error


def _decides_already(context: Context, policy: Policy) -> DataError:
    hint = "See `zaslon history`."
    if not is_written(context, policy):
        hint = f"The next start takes {POLICY_FILE} of the home, which gives another one: correct it."
    return DataError(f"Policy {policy.label} decides already.", hint=hint)


def _with_thresholds(written: Policy, model: Model, before: Policy) -> Policy:
    """A written policy with the thresholds of the model's training, where it states none itself."""
    chosen = model.facts.thresholds
    review = chosen.get("review", before.thresholds.review)
    block = chosen.get("block", before.thresholds.block)
    return with_chosen_thresholds(written, review, block)


def _evidence(before: Policy, after: Policy, why: str | None) -> dict[str, Any]:
    if why is not None and not why.isprintable():
        raise PolicyError("A reason is one line of printable characters.")
    return {
        "why": why, "policy_before": before.hash, "policy_before_label": before.label, "label": after.label,
        "thresholds": {"review": str(after.thresholds.review), "block": str(after.thresholds.block)},
        "rules": [rule.name for rule in after.acting_rules],
    }  # fmt: skip
