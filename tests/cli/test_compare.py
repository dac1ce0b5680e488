"""`zaslon compare`: two models of a home on days that neither has learned from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Answer, SmallRun, Zaslon
from tests.made_once import made_once

from zaslon.bootstrap import build_context
from zaslon.domain.errors import DataError
from zaslon.flows.compare import newest_period, period_bounds
from zaslon.intake import clean_days
from zaslon.models.artefact import load_model, save_model
from zaslon.models.comparison import MEASURES
from zaslon.models.dataset import Days
from zaslon.models.training import TrainSettings
from zaslon.services.model_training import train_and_evaluate
from zaslon.services.samples import collect_samples
from zaslon.settings import load_settings

DAY = 86_400


@pytest.fixture(scope="session")
def weak_model(small_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a second model for the home of the run: of two trees."""

    def make(place: Path) -> None:
        context = build_context(load_settings(home=small_run.home, threads=1))
        days = clean_days(small_run.home / "clean", context.catalogue)
        samples = collect_samples(context, days, label_delay_seconds=7 * DAY, in_home=False)
        settings = TrainSettings(rounds=2, rounds_max=2, threads=1)
        train_and_evaluate(context.in_home(place), samples, settings)

    (model,) = (made_once(tmp_path_factory, "weak-model", make) / "models").iterdir()
    return model


@pytest.fixture
def two(home: Path, weak_model: Path) -> Path:
    """A home with both models; the run's serves."""
    shutil.copytree(weak_model, home / "models" / weak_model.name)
    return home


def champion_of(home: Path) -> str:
    return str(json.loads((home / "champion.json").read_bytes())["model"])


def refused(answer: Answer, code: int, *words: str) -> None:
    assert answer.code == code, answer
    error = answer.json["error"]
    assert all(word in f"{error['message']} {error['hint']}" for word in words), error


def test_every_measure_is_that_of_the_evaluation(zaslon: Zaslon, two: Path, weak_model: Path) -> None:
    before = sorted(two.rglob("*"))
    answer = zaslon("compare", weak_model.name, "champion", "--home", two, "--json")
    assert answer.code == 0, answer
    found, evaluated = answer.json, zaslon("evaluate", "--home", two, "--json").json
    assert sorted(two.rglob("*")) == before, "it only reads"
    assert found["models"] == {"a": weak_model.name, "b": champion_of(two)}
    for name in MEASURES:
        assert found[name].keys() >= {"a", "b", "difference", "interval", "p"}
        low, high = found[name]["interval"]
        assert low <= found[name]["difference"] == found[name]["b"] - found[name]["a"] <= high
    assert found["roc_auc"].keys() >= {"t_test_p", "delong_p", "mean_a", "mean_b"}
    assert found["roc_auc"]["b"] == pytest.approx(evaluated["roc_auc"])
    assert found["pr_auc"]["b"] == pytest.approx(evaluated["pr_auc"])
    assert found["recall"]["b"] == pytest.approx(evaluated["recall_at_fpr_5pct"])
    assert (found["transactions"], found["frauds"]) == (evaluated["test_rows"], evaluated["test_frauds"])


def test_the_same_comparison_gives_the_same_bytes(zaslon: Zaslon, two: Path, weak_model: Path) -> None:
    def call(*more: object) -> dict[str, Any]:
        values = zaslon("compare", weak_model.name, "champion", "--home", two, "--json", *more).json
        del values["seconds"]
        return values

    first = call()
    assert call() == first
    assert first["periods"]["comparison"]["decided_by"] == "new_days"
    newest = call("--days", 3)
    period = newest["periods"]["comparison"]
    assert newest["days"] == period["days"] == 3
    assert (period["decided_by"], period["length"]) == ("days_asked", "the most days asked for (--days)")
    assert (period["frauds"], period["first"]) == (newest["frauds"], newest["period"].split()[0])
    assert newest["period"].split()[-1] == first["period"].split()[-1]
    assert newest["transactions"] < first["transactions"]


def test_people_see_a_table_and_the_verdict_in_words(zaslon: Zaslon, two: Path, weak_model: Path) -> None:
    answer = zaslon("compare", "champion", two / "models" / weak_model.name, "--home", two)
    assert answer.code == 0, answer
    text = " ".join(answer.out.split())
    assert f"A {champion_of(two)}, B {weak_model.name}" in text
    for words in (
        "ROC-AUC",
        "DeLong's test",
        "decides nothing",
        "ROC-AUC is",
        "Length of comparison: all the days",
    ):
        assert words in text


def test_what_makes_a_comparison_doubtful_is_a_warning(
    zaslon: Zaslon, two: Path, weak_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = ["compare", weak_model.name, "champion", "--home", two]
    assert zaslon(*compare, "--json").json["warnings"] == []
    monkeypatch.setattr("zaslon.monitoring.sample_warnings._SEPARATES", 0.6)  # what an honest feature has
    warnings = zaslon(*compare, "--json").json["warnings"]
    assert warnings
    assert all(warning.keys() == {"kind", "message", "hint"} for warning in warnings)
    assert {warning["kind"] for warning in warnings} == {"probable_leak"}
    assert "Warning: Feature" in zaslon(*compare).out
    assert zaslon("evaluate", "--home", two, "--json").json["warnings"] == warnings


def test_another_home_stands_for_its_champion(zaslon: Zaslon, two: Path, weak_model: Path) -> None:
    by_home = zaslon("compare", two, weak_model.name, "--home", two, "--json")
    by_name = zaslon("compare", "champion", weak_model.name, "--home", two, "--json")
    assert by_home.code == 0, by_home
    assert by_home.json["models"] == {"a": champion_of(two), "b": weak_model.name}
    assert {**by_home.json, "seconds": 0} == {**by_name.json, "seconds": 0}


def test_a_home_without_a_champion_stands_for_its_only_model(
    zaslon: Zaslon, two: Path, weak_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(weak_model, tmp_path / "other" / "models" / weak_model.name)
    answer = zaslon("compare", "champion", tmp_path / "other", "--home", two, "--json")
    assert answer.json["models"] == {"a": champion_of(two), "b": weak_model.name}
    shutil.copytree(weak_model, tmp_path / "other" / "models" / "second")
    refused(zaslon("compare", "champion", tmp_path / "other", "--home", two, "--json"), 6, "other")


def test_a_missing_model_is_refused(zaslon: Zaslon, two: Path, weak_model: Path) -> None:
    almost = weak_model.name[:-1]
    refused(zaslon("compare", "champion", almost, "--home", two, "--json"), 6, f"'{weak_model.name}'")
    refused(zaslon("compare", "champion", "clean", "--home", two, "--json"), 6, "no complete model")
    refused(zaslon("compare", "a", "b", "--home", two / "none", "--json"), 7, "no home")


def test_a_model_without_its_training_days_is_refused(zaslon: Zaslon, two: Path) -> None:
    model = load_model(two / "models" / champion_of(two)).with_facts(validation_days="")
    save_model(model, two / "models" / model.artefact_id)
    answer = zaslon("compare", "champion", model.artefact_id, "--home", two, "--json")
    refused(answer, 7, "does not say which days it learned from", "Train it again")


def test_without_a_champion_a_model_is_the_first(zaslon: Zaslon, two: Path, weak_model: Path) -> None:
    (two / "champion.json").unlink()
    found = zaslon("compare", "champion", weak_model.name, "--home", two, "--json").json
    assert found["verdict"] == "first"
    assert found["models"]["a"] is None
    assert found["roc_auc"]["a"] is found["roc_auc"]["p"] is found["roc_auc"]["delong_p"] is None
    assert 0.5 < found["roc_auc"]["b"] < 1
    assert zaslon("compare", "champion", weak_model.name, "--home", two).code == 0
    refused(zaslon("compare", weak_model.name, "champion", "--home", two, "--json"), 7, "no champion")


def test_answers_that_may_still_change_are_not_evidence(
    zaslon: Zaslon, two: Path, weak_model: Path, small_run: SmallRun
) -> None:
    days = json.loads((two / "clean" / "_report.json").read_bytes())["days"]
    arrived = f"{days[-1]} 23:59:59"
    assert zaslon("clean", small_run.raw, "--home", two, "--arrived", arrived, "--json").code == 0
    found = zaslon("compare", "champion", weak_model.name, "--home", two, "--json").json
    assert (found["verdict"], found["period"], found["frauds"]) == ("not_enough_evidence", None, 0)
    assert f"the clean days end on {days[-1]}" in found["reasons"][0]
    assert f"mature up to {days[-9]}" in found["reasons"][0]
    assert found["days_needed"] > 1
    assert zaslon("compare", "champion", weak_model.name, "--home", two).code == 0


def test_the_period_is_new_to_both_models(small_run: SmallRun) -> None:
    model = load_model(small_run.home / "models" / champion_of(small_run.home))
    learned = Days.parse(model.facts.validation_days)
    later = model.with_facts(validation_days=str(Days(learned.first + 4, learned.last + 4)))
    quick = model.with_facts(label_delay_seconds=DAY // 2)
    arrival = (learned.last + 100) * DAY
    assert period_bounds([model], arrival, 7 * DAY) == Days(learned.last + 8, learned.last + 92)
    assert period_bounds([model, later], arrival + 1, 7 * DAY).first == learned.last + 12
    assert period_bounds([quick], arrival, DAY // 2) == Days(learned.last + 2, learned.last + 98)
    with pytest.raises(DataError, match="Train it again"):
        period_bounds([replace(model, facts=replace(model.facts, train_days=""))], arrival, 7 * DAY)


def test_a_model_of_another_label_delay_is_not_judged(zaslon: Zaslon, two: Path, weak_model: Path) -> None:
    quick = load_model(weak_model).with_facts(label_delay_seconds=DAY)
    save_model(quick, two / "models" / quick.artefact_id)
    words = ("with one of 7d", f"{quick.artefact_id} with one of 1d", "--unguarded")
    refused(zaslon("compare", "champion", quick.artefact_id, "--home", two, "--json"), 7, *words)
    refused(zaslon("promote", quick.artefact_id, "--home", two, "--json"), 7, *words)
    alone = zaslon("compare", quick.artefact_id, quick.artefact_id, "--home", two, "--json")
    refused(alone, 7, "label delay of 1d", "after 7d here", "ZASLON_LABEL_DELAY=1d")
    assert champion_of(two) != quick.artefact_id


def test_the_period_is_the_newest_within_the_bounds(small_run: SmallRun) -> None:
    context = build_context(load_settings(home=small_run.home), reading=True)
    days = clean_days(small_run.home / "clean", context.catalogue)
    first, last = days[0][0], days[-1][0]
    assert newest_period(days, Days(first + 5, last + 50), 30) == Days(last - 29, last)
    assert newest_period(days, Days(last - 3, last - 1), 30) == Days(last - 3, last - 1)
    assert newest_period(days, Days(last + 1, last + 9), 30) is None
    assert newest_period(days, Days(last, last - 1), 30) is None
