"""The registry as the commands write it: SQLite and files in the home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Zaslon
from tests.file_modes import nothing_masked as nothing_masked  # noqa: PLC0414  a fixture
from tests.file_modes import open_to_others

from zaslon.bootstrap import build_context
from zaslon.domain.ledger import PROMOTE
from zaslon.features.plan import plan_features
from zaslon.models.artefact import save_model
from zaslon.services.home import load_champion
from zaslon.services.promotion_ledger import promote
from zaslon.settings import load_settings

pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody has who sets nothing."""
    monkeypatch.delenv("ZASLON_REGISTRY")


def runs(home: Path, kind: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    found: list[Any] = client.search_runs(["1"], f"tags.kind = '{kind}'")
    return found


@pytest.mark.usefixtures("nothing_masked")
@pytest.mark.slow
def test_training_comparing_and_promoting_are_in_the_registry(zaslon: Zaslon, home: Path) -> None:
    first = json.loads((home / "champion.json").read_bytes())["model"]
    before = zaslon("registry", "status", "--home", home, "--json")
    assert (before.code, before.json["champion"]["model"]) == (1, None)

    trained = zaslon("train", "--home", home, "--json")
    assert trained.json["paths"]["registry"].endswith("mlflow.db")
    state = zaslon("registry", "status", "--home", home, "--json").json
    assert (state["champion"]["model"], state["challenger"]["model"]) == (None, trained.json["model"])
    assert [run.data.tags["verdict"] for run in runs(home, "comparison")] == [trained.json["verdict"]]

    assert zaslon("promote", trained.json["model"], "--unguarded", "--home", home, "--json").code == 0
    state = zaslon("registry", "status", "--home", home, "--json").json
    assert state["agrees"]
    assert state["champion"]["model"] == state["challenger"]["model"] == trained.json["model"]
    assert [run.data.params["features"] for run in runs(home, "training")]

    back = zaslon("promote", first, "--unguarded", "--home", home, "--json").json
    assert back["registry_agrees"]
    assert zaslon("registry", "status", "--home", home, "--json").json["champion"]["model"] == first

    compared = zaslon("compare", trained.json["model"], first, "--home", home, "--json")
    assert (compared.code, compared.err) == (0, "")
    by_hand = [run for run in runs(home, "comparison") if run.data.tags["artefact"] == first]
    assert [run.data.tags["verdict"] for run in by_hand] == [compared.json["verdict"]]
    zaslon("compare", trained.json["model"], first, "--home", home)
    assert len(runs(home, "comparison")) == 2, "the same comparison is written once"
    assert list(home.glob("mlflow/artefacts/**/model.txt")) and open_to_others(home) == []


def test_sync_makes_good_what_a_crash_has_left(zaslon: Zaslon, home: Path) -> None:
    context = build_context(load_settings(home=home, threads=1))
    model, policy = load_champion(context, plan_features(context.catalogue))
    other = model.with_facts(train_rows=1)
    save_model(other, home / "models" / other.artefact_id)
    promote(context, other, policy, PROMOTE, {})  # the process ends here
    assert zaslon("registry", "status", "--home", home).code == 1
    made_good = zaslon("registry", "sync", "--home", home, "--json")
    assert (made_good.code, made_good.json["agrees"]) == (0, True)
    assert made_good.json["champion"]["model"] == other.artefact_id
    assert "They agree." in zaslon("registry", "status", "--home", home).out


def test_without_a_registry_sync_says_how_to_have_one(
    zaslon: Zaslon, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZASLON_REGISTRY", "none")
    refused = zaslon("registry", "sync", "--home", home, "--json")
    assert refused.code == 2
    assert "ZASLON_REGISTRY=mlflow" in refused.json["error"]["hint"]
    assert zaslon("registry", "status", "--home", home, "--json").json["place"] is None
    assert not (home / "mlflow").exists()


def test_a_promotion_lands_while_the_server_is_away(
    zaslon: Zaslon, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = json.loads((home / "champion.json").read_bytes())["model"]
    monkeypatch.setenv("ZASLON_MLFLOW_URI", "http://127.0.0.1:1")
    promoted = zaslon("promote", champion, "--unguarded", "--home", home, "--json")
    assert promoted.code == 0
    assert promoted.json["registry_agrees"] is False
    (warning,) = promoted.err.splitlines()
    assert "zaslon registry sync" in warning
    state = zaslon("registry", "status", "--home", home, "--json")
    assert (state.code, state.json["ledger"]["entry"]) == (1, promoted.json["number"])
    assert "127.0.0.1:1" in state.json["problem"]
