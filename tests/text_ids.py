"""The mission's catalogue with ids that are texts, and the same records with their ids renamed."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from importlib import resources
from pathlib import Path

from zaslon.bootstrap import build_context
from zaslon.domain.catalogue import parse_catalogue
from zaslon.domain.events import Kind
from zaslon.features.plan import plan_features
from zaslon.models.artefact import save_model
from zaslon.services.home import keep_champion, load_champion
from zaslon.settings import load_settings
from zaslon.testing import SmallWorld

BY_NUMBER = resources.files("zaslon.domain").joinpath("mission.toml").read_text("utf-8")
BY_TEXT = BY_NUMBER.replace('role = "transaction_id"\nminimum = 0', 'role = "transaction_id"\ntype = "text"')
TEXT_MISSION = parse_catalogue(BY_TEXT)


def text_of(number: int) -> str:
    """The text in place of a number, as a payment company would write it."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


def renamed(record: bytes, kind: int) -> bytes:
    """A record whose id is a number, with a text instead."""
    if kind == Kind.TRANSACTION_LINE:
        number, _, rest = record.partition(b",")
        return text_of(int(number)).encode() + b"," + rest
    content = json.loads(record)
    return json.dumps({**content, "transaction_id": text_of(content["transaction_id"])}).encode()


def world_by_text(world: SmallWorld, home: Path) -> SmallWorld:
    """A world with its champion in another home, under the catalogue whose ids are texts."""
    model, policy = load_champion(world.context, plan_features(world.context.catalogue))
    made = replace(build_context(load_settings(home=home, threads=1)), catalogue=TEXT_MISSION)
    model = replace(model, facts=replace(model.facts, catalogue_hash=TEXT_MISSION.hash))
    save_model(model, home / "models" / model.artefact_id)
    keep_champion(made, model, policy)
    return replace(world, context=made)
