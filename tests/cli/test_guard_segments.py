"""The segments that the guards look at, on simulated days."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

import numpy as np
import polars as pl
from tests.cli.test_retrain import World, context_of
from tests.cli.test_retrain import samples as samples  # noqa: PLC0414  a fixture
from tests.cli.test_retrain import settings as settings  # noqa: PLC0414  a fixture
from tests.cli.test_retrain import world as world  # noqa: PLC0414  a fixture

from zaslon.domain.catalogue import parse_catalogue
from zaslon.domain.events import NO_KEY
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.features.plan import plan_features
from zaslon.intake import clean_days
from zaslon.services.samples import Samples
from zaslon.services.segments import segments


def test_segments_cover_amounts_hours_and_ages(world: World, samples: Samples) -> None:
    context = context_of(world.home)
    plan, days = plan_features(context.catalogue), clean_days(world.home / "clean", context.catalogue)
    found = segments(samples.test, plan, days)
    amounts = [mask for name, mask in found.items() if "amounts" in name]
    hours = [mask for name, mask in found.items() if ":00" in name]
    ages = [
        [mask for name, mask in found.items() if f"a {entity} first seen" in name]
        for entity in plan.catalogue.entities
    ]
    assert [len(parts) for parts in ages] == [3, 3], found.keys()
    for parts in (amounts, hours, *ages):
        assert (np.sum(parts, axis=0) == 1).all(), "each transaction is in exactly one"
    assert {name for name in found if name.startswith("a new ")} <= {
        f"a new {entity}" for entity in plan.catalogue.entities
    }


def test_the_age_of_a_terminal_counts_from_its_first_day(world: World, samples: Samples) -> None:
    context = context_of(world.home)
    days = clean_days(world.home / "clean", context.catalogue)
    first: dict[int, int] = {}
    for _, path in days:
        for key, seconds in pl.read_parquet(path).select("terminal_key", "event_time_seconds").iter_rows():
            first[key] = min(seconds, first.get(key, seconds))
    test = samples.test
    age_days = (
        test.event_time_seconds - np.array([first[key] for key in test.entity_keys[:, 1].tolist()])
    ) / SECONDS_PER_DAY
    found = segments(test, plan_features(context.catalogue), days)
    assert 0 < found["a terminal first seen within 7 days"].sum() < len(test) / 2
    np.testing.assert_array_equal(found["a terminal first seen within 7 days"], age_days < 7)
    np.testing.assert_array_equal(found["a terminal first seen over 30 days before"], age_days >= 30)


def test_a_field_of_few_values_is_a_category(world: World, samples: Samples) -> None:
    context = context_of(world.home)
    text = resources.files("zaslon.domain").joinpath("mission.toml").read_text("utf-8")
    fields = '[[fields]]\nname = "channel"\nrole = "number"\nrequired = false\n\n[retention]'
    catalogue = parse_catalogue(text.replace("[retention]", fields, 1))
    few = samples.test.take(np.arange(300))
    channel = np.where(np.arange(300) % 3 == 0, np.nan, np.arange(300) % 2).astype(np.float32)
    sample = replace(few, names=(*few.names, "channel"), x=np.column_stack([few.x, channel]))
    days = clean_days(world.home / "clean", context.catalogue)
    found = segments(sample, plan_features(catalogue), days)
    np.testing.assert_array_equal(found["channel 0"], channel == 0)
    np.testing.assert_array_equal(found["channel 1"], channel == 1)
    keys = np.repeat(np.array([643, NO_KEY, 840]), 100)
    country = replace(few, entity_keys=np.column_stack([few.entity_keys[:, 0], keys]))
    found = segments(country, plan_features(context.catalogue), days)
    np.testing.assert_array_equal(found["terminal 643"], keys == 643)
    assert not any(str(NO_KEY) in name or name.startswith("customer ") for name in found)
