"""A home whose trainings and promotions are to be in a registry, for its tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from zaslon.bootstrap import build_context
from zaslon.domain.ledger import PROMOTE
from zaslon.intake import clean_days
from zaslon.models.artefact import save_model
from zaslon.models.model import Model
from zaslon.models.training import TrainSettings
from zaslon.services.context import Context
from zaslon.services.model_training import Trained, train_and_evaluate
from zaslon.services.promotion_ledger import promote
from zaslon.services.publishing import RegistryState, registry_state
from zaslon.services.samples import collect_samples
from zaslon.services.training_record import publish_training
from zaslon.settings import load_settings
from zaslon.testing import SmallWorld

SETTINGS = TrainSettings(rounds=5, rounds_max=5, threads=1)


def home_with_data(small_world: SmallWorld, home: Path, **settings: object) -> Context:
    """A new home with the small world's champion and clean days."""
    small_world.in_home(home)
    shutil.copytree(small_world.context.home / "clean", home / "clean")
    return build_context(load_settings(home=home, threads=1, **settings))


def trained_in(context: Context) -> Trained:
    """A second model, saved in the home."""
    days = clean_days(context.home / "clean", context.catalogue)
    samples = collect_samples(context, days, label_delay_seconds=context.options.label_delay_seconds)
    return train_and_evaluate(context, samples, SETTINGS)


def registered(context: Context, trained: Trained) -> RegistryState:
    """The state after a training was registered."""
    days = clean_days(context.home / "clean", context.catalogue)
    state = publish_training(context, trained, SETTINGS, days)
    assert state is not None
    return state


@pytest.fixture(scope="module")
def trained(world: Context) -> Trained:
    """A second model in the module's `world`."""
    return trained_in(world)


@pytest.fixture(scope="module")
def published(world: Context, trained: Trained) -> RegistryState:
    """The state after this model was promoted and its training registered."""
    promote(world, trained.model, trained.policy, PROMOTE, {})
    return registered(world, trained)


def other_models(context: Context, trained: Trained, count: int) -> list[Model]:
    """Models of the home that differ in what is noted about them only."""
    models = [trained.model.with_facts(train_rows=n) for n in range(count)]
    for model in models:
        save_model(model, context.home / "models" / model.artefact_id)
    return models


def state_of(context: Context) -> RegistryState:
    """Who names which champion now."""
    return registry_state(context, context.open_registry())
