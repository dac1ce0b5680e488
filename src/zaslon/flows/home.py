"""What stands where in a home: models, the champion, its policy."""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from zaslon.decisions.policy import Policy, load_policy
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import ArtefactError
from zaslon.engine import Engine, restore_engine
from zaslon.features.plan import FeaturePlan, plan_features
from zaslon.flows.context import Context
from zaslon.models.artefact import load_model
from zaslon.models.model import Model
from zaslon.ports import Journal, SnapshotStore

REPLAY_RECORDS = 100_000


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file so that a crash leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def keep_champion(context: Context, model: Model, policy: Policy) -> None:
    """Make a saved model and its policy the ones that serve; old policies stay readable."""
    policies = context.home / "policies"
    text = policy.to_toml().encode()
    write_atomically(policies / f"{policy.hash}.toml", text)
    write_atomically(
        context.home / "champion.json",
        orjson.dumps({"model": model.artefact_id, "policy": policy.hash}),
    )


def load_champion(context: Context, plan: FeaturePlan) -> tuple[Model, Policy]:
    """The serving model and policy.

    Raises:
        ArtefactError: there is none, or it is damaged or of another catalogue.
    """
    path = context.home / "champion.json"
    if not path.exists():
        raise ArtefactError(
            f"There is no model in '{context.home}'.",
            hint="Train one: `zaslon run FILE` or `zaslon train`.",
        )
    try:
        named = orjson.loads(path.read_bytes())
        model_id, policy_hash = str(named["model"]), str(named["policy"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ArtefactError(f"'{path}' is damaged: {error}.", hint="Train again.") from error
    return load_versions(context, plan, model_id, policy_hash)


def load_versions(
    context: Context, plan: FeaturePlan, model_id: str, policy_hash: str
) -> tuple[Model, Policy]:
    """A model and a policy by their ids, for serving or for the replay of an old decision."""
    model = load_model(context.home / "models" / model_id, context.catalogue.hash)
    known = [*plan.names, "score"]
    policy = load_policy(context.home / "policies" / f"{policy_hash}.toml", known)
    if policy.hash != policy_hash:
        raise ArtefactError(
            f"Policy {policy_hash} was changed: it now has the hash {policy.hash}.",
            hint="Restore the file from a backup; policies are never edited in place.",
        )
    return model, policy


def recover_engine(context: Context, journal: Journal, snapshots: SnapshotStore) -> Engine:
    """The engine as it was after the journal's last record: newest snapshot, then replay.

    Nothing is emitted again: records of the journal already have their outcomes.
    """
    plan = plan_features(context.catalogue)
    model, policy = load_champion(context, plan)
    engine = engine_at(context, context.catalogue, snapshots, journal.next_position)
    engine = Engine(
        context.catalogue, key=context.key, model=model, policy=policy,
        history=engine.history, position=engine.position, plan=plan,
    )  # fmt: skip
    for batch in journal.read(engine.position):
        engine.follow(batch)
    return engine


def engine_at(
    context: Context, catalogue: Catalogue, snapshots: SnapshotStore, up_to_position: int
) -> Engine:
    """An engine without model from the newest snapshot at or before a position."""
    found = snapshots.newest(up_to_position)
    if found is None:
        return Engine(catalogue, key=context.key)
    position, content, _ = found
    return restore_engine(catalogue, position, content, key=context.key)
