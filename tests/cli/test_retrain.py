"""`zaslon retrain` and the guards of `zaslon promote`, on simulated days with enough frauds to tell."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import Answer, Zaslon
from tests.cli.test_nonsense import assert_helps
from tests.made_once import made_once

from zaslon.bootstrap import build_context
from zaslon.domain.errors import BusyError, GuardError
from zaslon.domain.ledger import TRAIN
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.features.plan import plan_features
from zaslon.flows.challenge import challenge, evidence_for
from zaslon.flows.retrain import in_window
from zaslon.intake import clean_days
from zaslon.models.artefact import load_model, save_model
from zaslon.models.dataset import Days
from zaslon.models.model import Model
from zaslon.models.training import TrainSettings
from zaslon.services.context import STORE, Context
from zaslon.services.home import load_champion
from zaslon.services.logs import exclusive, one_job
from zaslon.services.model_training import fit
from zaslon.services.promotion_ledger import promote
from zaslon.services.samples import Samples, collect_samples
from zaslon.settings import load_settings
from zaslon.simulate import simulation_profile, write_simulation

FIRST_DAYS, DAYS = 48, 56
GUARDS = {
    "false_positive_rate", "loss_minor_per_month", "calibration", "segment_recall", "segment_false_positives",
    "leaks", "served_parity", "score_drift", "age_days", "model_bytes", "rolled_back", "integrity", "score_us",
}  # fmt: skip
SMALL = TrainSettings(rounds=3, rounds_max=3, threads=1)


@dataclass(frozen=True)
class World:
    """A file of some days, one that goes on, and a home whose champion is of the first. Not to be changed.

    `untaught` is the id of a model in that home that learned from shuffled answers and has never served.
    """

    first: Path
    whole: Path
    home: Path
    untaught: str


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thresholds that stay well below the limit and periods of a week, so that no guard fails by luck."""
    for name, value in (
        ("LIMIT_MARGIN", "0.5"), ("RETRAIN_WINDOW", "expanding"), ("THREADS", "1"), ("PERIOD_DAYS_MAX", "7"),
    ):  # fmt: skip
        monkeypatch.setenv(f"ZASLON_{name}", value)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    place = made_once(tmp_path_factory, "retrain-world", _make_world)
    return World(place / "first.csv", place / "whole.csv", place / "home", (place / "untaught").read_text())


def _make_world(place: Path) -> None:
    whole, first, home = place / "whole.csv", place / "first.csv", place / "home"
    write_simulation(simulation_profile("handbook", customers=700, terminals=2_000), DAYS, 3, whole)
    header, *lines = whole.read_bytes().splitlines(keepends=True)
    days = sorted({line.split(b",")[1][:10] for line in lines})
    first.write_bytes(
        header + b"".join(line for line in lines if line.split(b",")[1][:10] < days[FIRST_DAYS])
    )
    home.mkdir()
    context = context_of(home)
    clean_into(context, first)
    samples = collect_samples(
        context, clean_days(home / "clean", context.catalogue), label_delay_seconds=7 * SECONDS_PER_DAY
    )
    model, policy, _ = fit(context, samples, TrainSettings(rounds_max=60, threads=1))
    save(context, model, policy.thresholds.review, policy.thresholds.block)
    promote(context, load_model(home / "models" / named(model, policy).artefact_id), policy, TRAIN, {})
    shuffled = replace(
        samples,
        train=replace(samples.train, is_fraud=np.random.default_rng(1).permutation(samples.train.is_fraud)),
    )
    untaught, its_policy, _ = fit(context, shuffled, SMALL)
    (place / "untaught").write_text(
        save(context, untaught, its_policy.thresholds.review, its_policy.thresholds.block)
    )


def named(model: Model, policy: Any) -> Model:
    return model.with_facts(thresholds={"review": policy.thresholds.review, "block": policy.thresholds.block})


def save(context: Context, model: Model, review: float, block: float) -> str:
    kept = model.with_facts(thresholds={"review": review, "block": block})
    save_model(kept, context.home / "models" / kept.artefact_id)
    return kept.artefact_id


def context_of(home: Path, **given: Any) -> Context:
    settings = {
        "limit_margin": 0.5,
        "retrain_window": "expanding",
        "threads": 1,
        "period_days_max": 7,
        **given,
    }
    return build_context(load_settings(home=home, **settings))


def clean_into(context: Context, source: Path) -> None:
    from zaslon.flows.clean import clean

    clean(context, [str(source)], context.home / "clean")


@pytest.fixture
def home(world: World, tmp_path: Path) -> Path:
    """A copy of the home, to be changed at will."""
    shutil.copytree(world.home, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def news(home: Path, world: World, zaslon: Zaslon) -> Path:
    """The home after its clean days went on."""
    assert zaslon("clean", world.whole, "--home", home, "--json").code == 0
    return home


def champion_of(home: Path) -> str:
    return str(json.loads((home / "champion.json").read_bytes())["model"])


def let_serve(home: Path, model_id: str) -> None:
    """Make a model the champion without being asked for anything."""
    context = context_of(home)
    model = load_model(home / "models" / model_id)
    _, policy = load_champion(context, plan_features(context.catalogue))
    chosen = model.facts.thresholds
    promote(context, model, policy.with_thresholds(chosen["review"], chosen["block"]), TRAIN, {})


def guard(answer: Answer, name: str) -> dict[str, Any]:
    (found,) = [guard for guard in answer.json["guards"] if guard["name"] == name]
    return dict(found)


def test_without_new_days_nothing_is_trained(zaslon: Zaslon, home: Path) -> None:
    before = sorted(home.rglob("*"))
    answer = zaslon("retrain", "--home", home, "--json")
    assert answer.code == 99
    assert (answer.json["news"], answer.json["challenger"], answer.json["promoted"]) == (False, None, False)
    assert (answer.json["guards"], answer.json["verdict"]) == ([], "not_enough_evidence")
    assert answer.json["reasons"][0].startswith("No news")
    assert sorted(home.rglob("*")) == sorted({*before, home / "jobs", home / "jobs" / ".lock"})
    answer = zaslon("retrain", "--home", home)
    assert answer.code == 99
    assert "No news" in answer.out


@pytest.mark.slow
def test_days_whose_answers_may_still_change_are_not_news(zaslon: Zaslon, home: Path, world: World) -> None:
    last = max((home / "clean").glob("day=*")).name.removeprefix("day=")
    assert (
        zaslon("clean", world.whole, "--home", home, "--arrived", "2018-05-26 23:59:59", "--json").code == 0
    )
    answer = zaslon("retrain", "--home", home, "--json")
    assert (answer.code, answer.json["mature_until"]) == (99, "2018-05-18")
    assert (
        zaslon("clean", world.whole, "--home", home, "--arrived", "2018-05-27 00:00:00", "--json").code == 0
    )
    answer = zaslon("retrain", "--home", home, "--no-promote", "--json")
    assert answer.json["news_days"].startswith("2018-05-19"), last


@pytest.mark.slow
def test_the_first_model_serves_when_it_keeps_the_guards(
    zaslon: Zaslon, world: World, tmp_path: Path
) -> None:
    home = tmp_path / "new"
    shutil.copytree(world.home / "clean", home / "clean")
    shutil.copy(world.home / "pseudonym.key", home)
    answer = zaslon("retrain", "--home", home, "--json")
    assert answer.code == 0, answer
    found = answer.json
    assert (found["news"], found["verdict"], found["promoted"], found["champion"]) == (
        True,
        "first",
        True,
        None,
    )
    assert {guard["name"] for guard in found["guards"]} == GUARDS
    assert found["not_checked"] == [guard["name"] for guard in found["guards"] if guard["value"] is None]
    assert "served_parity" in found["not_checked"]
    assert all(guard.keys() == {"name", "value", "limit", "passed", "detail"} for guard in found["guards"])
    assert champion_of(home) == found["challenger"]
    (entry,) = zaslon("history", "--home", home, "--json").json["promotions"]
    assert (entry["action"], entry["verdict"], entry["model"]) == ("retrain", "first", found["challenger"])
    assert entry["evidence"]["challenge"]["guards"] == found["guards"]


@pytest.mark.slow
def test_a_first_model_that_breaks_a_guard_does_not_serve(
    zaslon: Zaslon, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "new"
    shutil.copytree(world.home / "clean", home / "clean")
    shutil.copy(world.home / "pseudonym.key", home)
    monkeypatch.setenv("ZASLON_GUARD_MODEL_BYTES_MAX", "1000")
    answer = zaslon("retrain", "--home", home, "--json")
    assert (answer.code, answer.json["verdict"], answer.json["promoted"]) == (0, "first", False)
    assert not guard(answer, "model_bytes")["passed"]
    assert any("model_bytes" in sentence for sentence in answer.json["refusals"])
    assert not (home / "champion.json").exists()


def test_a_better_challenger_becomes_the_champion(zaslon: Zaslon, news: Path, world: World) -> None:
    let_serve(news, world.untaught)
    answer = zaslon("retrain", "--home", news, "--json")
    assert answer.code == 0, answer
    found = answer.json
    assert (found["verdict"], found["promoted"]) == ("better", True), found["refusals"]
    assert champion_of(news) == found["challenger"] != world.untaught
    entry = zaslon("history", "--home", news, "--json").json["promotions"][-1]
    assert (entry["action"], entry["verdict"], entry["number"]) == ("retrain", "better", found["entry"])
    assert entry["evidence"]["challenge"]["measures"]["roc_auc"]["interval"][0] > 0
    assert zaslon("retrain", "--home", news, "--json").code == 99, "its own days are not news"


@pytest.mark.slow
def test_the_same_days_give_the_same_challenger(zaslon: Zaslon, news: Path) -> None:
    def call() -> dict[str, Any]:
        values = zaslon("retrain", "--home", news, "--json").json
        del values["seconds"]
        return {**values, "guards": [guard for guard in values["guards"] if guard["name"] != "score_us"]}

    first = call()
    assert not first["promoted"]
    assert first["verdict"] in ("worse", "not_shown", "not_enough_evidence")
    before = champion_of(news)
    assert call() == first
    assert champion_of(news) == before
    kept = json.loads(Path(first["paths"]["report"]).read_bytes())
    assert (kept["challenger"], kept["verdict"]) == (first["challenger"], first["verdict"])
    answer = zaslon("retrain", "--home", news).out
    for words in ("Guards", "segment_recall", "does not serve"):
        assert words in answer


@pytest.mark.slow
def test_a_report_alone_changes_nothing_that_serves(zaslon: Zaslon, news: Path, world: World) -> None:
    let_serve(news, world.untaught)
    answer = zaslon("retrain", "--no-promote", "--home", news, "--json")
    assert (answer.json["verdict"], answer.json["promoted"], answer.json["entry"]) == ("better", False, None)
    assert champion_of(news) == world.untaught


def test_a_repeated_retraining_adds_no_run_and_no_entry(
    zaslon: Zaslon, news: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="the extra `mlflow` is not installed")
    monkeypatch.delenv("ZASLON_REGISTRY")
    (news / STORE).unlink()  # a champion from before the ledger
    timed = []
    for _ in range(2):
        answer = zaslon("retrain", "--home", news, "--json")
        assert (answer.code, answer.err, answer.json["promoted"]) == (0, "", False)
        timed.append(guard(answer, "score_us")["value"])
    assert timed[0] != timed[1], "a time is measured anew"
    client = tracking.MlflowClient(f"sqlite:///{news / 'mlflow' / 'mlflow.db'}")
    assert len(client.search_runs(["1"], "tags.kind = 'training'")) == 1
    assert len(client.search_runs(["1"], "tags.kind = 'comparison'")) == 1
    assert zaslon("history", "--home", news, "--json").json["promotions"] == []


def test_one_job_at_a_time_beside_a_service(zaslon: Zaslon, home: Path) -> None:
    context = context_of(home)
    with exclusive(context):  # as a service holds it
        assert zaslon("retrain", "--home", home, "--json").code == 99
    with one_job(context):
        assert_helps(zaslon("retrain", "--home", home, "--json"), BusyError.exit_code, "in use by process")


def test_a_champion_that_changed_meanwhile_stays(home: Path, world: World) -> None:
    context = context_of(home)
    before = champion_of(home)
    model = load_model(home / "models" / world.untaught)
    _, policy = load_champion(context, plan_features(context.catalogue))
    for against in (world.untaught, None):
        with pytest.raises(BusyError, match="became the champion"):
            promote(context, model, policy, TRAIN, {}, against=against)
    assert champion_of(home) == before


@pytest.mark.slow
def test_a_lost_or_damaged_champion_can_be_replaced(zaslon: Zaslon, home: Path) -> None:
    before = champion_of(home)
    (home / "champion.json").write_text("{")
    assert zaslon("promote", before, "--unguarded", "--home", home, "--json").code == 0
    assert champion_of(home) == before
    (home / "champion.json").unlink()
    answer = zaslon("retrain", "--home", home, "--json")
    assert (answer.code, answer.json["verdict"], answer.json["promoted"]) == (0, "first", True), answer


def test_a_worse_model_is_refused(zaslon: Zaslon, home: Path, world: World) -> None:
    before = champion_of(home)
    answer = zaslon("promote", world.untaught, "--home", home, "--json")
    assert_helps(answer, GuardError.exit_code, "The whole interval lies below 0")
    assert champion_of(home) == before
    answer = zaslon("promote", world.untaught, "--unguarded", "--home", home, "--json")
    assert (answer.code, answer.json["verdict"], answer.json["guards"]) == (0, "unguarded", [])
    assert champion_of(home) == world.untaught


def test_a_stale_model_is_refused(zaslon: Zaslon, home: Path) -> None:
    model = load_model(home / "models" / champion_of(home))
    learned = Days.parse(model.facts.validation_days)
    stale = model.with_facts(validation_days=str(Days(learned.first - 3, learned.last - 3)))
    save_model(stale, home / "models" / stale.artefact_id)
    answer = zaslon("promote", stale.artefact_id, "--home", home, "--json")
    assert_helps(answer, GuardError.exit_code, "age_days: The days that it learned from end 3 days before")


def test_a_slow_or_large_model_is_refused(
    zaslon: Zaslon, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZASLON_GUARD_SCORE_US_MAX", "0.01")
    monkeypatch.setenv("ZASLON_GUARD_MODEL_BYTES_MAX", "100")
    answer = zaslon("promote", champion_of(home), "--home", home, "--json")
    assert_helps(answer, GuardError.exit_code, "score_us: A transaction alone takes", "model_bytes: ")


def test_a_damaged_model_is_refused(home: Path, zaslon: Zaslon) -> None:
    context, judged = judged_alone(home)
    assert judged().refusals == []
    path = home / "models" / champion_of(home) / "model.txt"
    path.write_bytes(path.read_bytes().replace(b"leaf_value=", b"leaf_value= ", 1))
    (refusal,) = judged().refusals
    assert "integrity" in refusal
    assert "model.txt has changed" in refusal
    assert_helps(zaslon("promote", champion_of(home), "--home", home, "--json"), 6, "damaged")
    assert context.home == home


def test_a_leaking_model_is_refused(home: Path) -> None:
    context, _ = judged_alone(home)
    plan = plan_features(context.catalogue)
    champion = load_champion(context, plan)
    evidence = evidence_for(context, champion[0], None)
    assert evidence.sample is not None
    x = evidence.sample.x.copy()
    x[:, 4] = 1 - evidence.sample.is_fraud
    leaking = replace(evidence, sample=replace(evidence.sample, x=x))
    (found,) = [g for g in challenge(context, champion, None, leaking).guards if g.name == "leaks"]
    assert (found.value, found.passed) == (1.0, False)
    assert f"'{evidence.sample.names[4]}'" in found.detail


def judged_alone(home: Path) -> tuple[Context, Callable[[], Any]]:
    """The home's champion, judged as the first model of a home."""
    context = context_of(home)
    champion = load_champion(context, plan_features(context.catalogue))
    evidence = evidence_for(context, champion[0], None)
    return context, lambda: challenge(context, champion, None, evidence)


@pytest.mark.slow
def test_a_model_that_was_rolled_back_is_not_taken_again(zaslon: Zaslon, news: Path, world: World) -> None:
    let_serve(news, world.untaught)
    challenger = zaslon("retrain", "--home", news, "--json").json["challenger"]
    assert zaslon("rollback", "--home", news, "--json").json["model"] == world.untaught
    again = zaslon("retrain", "--home", news, "--json")
    assert (again.json["challenger"], again.json["verdict"], again.json["promoted"]) == (
        challenger,
        "better",
        False,
    )
    assert not guard(again, "rolled_back")["passed"]
    assert champion_of(news) == world.untaught


@pytest.mark.slow
def test_served_scores_that_the_clean_data_do_not_confirm_are_seen(
    zaslon: Zaslon, news: Path, world: World, tmp_path: Path
) -> None:
    alone = tmp_path / "days.csv"
    header, *lines = world.whole.read_bytes().splitlines(keepends=True)
    alone.write_bytes(header + b"".join(line for line in lines if line.split(b",")[1] >= b"2018-05-20"))
    assert zaslon("score", alone, "--home", news, "--json").code == 0  # without the history before
    found = guard(zaslon("retrain", "--home", news, "--no-promote", "--json"), "served_parity")
    assert found["value"] is not None
    assert not found["passed"], found


def test_without_clean_days_no_model_is_guarded(zaslon: Zaslon, home: Path, world: World) -> None:
    shutil.rmtree(home / "clean")
    for command in (("promote", world.untaught), ("retrain",)):
        assert_helps(zaslon(*command, "--home", home, "--json"), 3, "zaslon clean")
    assert zaslon("promote", world.untaught, "--unguarded", "--home", home, "--json").code == 0


@pytest.fixture(scope="module")
def samples(world: World) -> Samples:
    context = context_of(world.home)
    days = clean_days(world.home / "clean", context.catalogue)
    return collect_samples(context, days, label_delay_seconds=7 * SECONDS_PER_DAY, in_home=False)


def test_a_window_keeps_the_newest_days(samples: Samples) -> None:
    last = samples.split.train.last
    week = in_window(samples, 7)
    assert str(week.split.train) == str(Days(last - 6, last))
    days = week.train.event_time_seconds // SECONDS_PER_DAY
    assert (days.min(), days.max()) == (last - 6, last)
    kept = samples.train.event_time_seconds >= (last - 6) * SECONDS_PER_DAY
    assert len(week.train) == np.count_nonzero(kept) < len(samples.train)
    assert (week.test, week.validation) == (samples.test, samples.validation)


@pytest.mark.slow
@pytest.mark.parametrize(("window", "days"), [("8d", 8), ("5000d", None), ("expanding", None)])
def test_the_settings_choose_the_window(
    zaslon: Zaslon, home: Path, monkeypatch: pytest.MonkeyPatch, window: str, days: int | None
) -> None:
    (home / "champion.json").unlink()
    monkeypatch.setenv("ZASLON_RETRAIN_WINDOW", window)
    found = zaslon("retrain", "--home", home, "--no-promote", "--json").json
    first = min((home / "clean").glob("day=*")).name.removeprefix("day=")
    learned = Days.parse(found["window"])
    assert (len(learned) == days) if days else found["window"].startswith(first)


@pytest.mark.slow
def test_a_validated_window_is_one_of_some(
    zaslon: Zaslon, home: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "champion.json").unlink()
    monkeypatch.setenv("ZASLON_RETRAIN_WINDOW", "validated")
    found = zaslon("retrain", "--home", home, "--no-promote", "--json").json
    whole = len(samples.split.train)
    assert len(Days.parse(found["window"])) in (whole, round(whole / 2), 7)


@pytest.mark.parametrize("window", ["", "sliding", "0d", "36h", "-7d"])
def test_an_invalid_window_is_refused(
    zaslon: Zaslon, home: Path, monkeypatch: pytest.MonkeyPatch, window: str
) -> None:
    monkeypatch.setenv("ZASLON_RETRAIN_WINDOW", window)
    assert_helps(zaslon("retrain", "--home", home, "--json"), 2, "retrain_window")
