"""The registry on MLflow with SQLite: written by the flows, read back by MLflow itself."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.registry_world import SETTINGS, home_with_data, other_models, registered, state_of
from tests.registry_world import published as published  # noqa: PLC0414  a fixture
from tests.registry_world import trained as trained  # noqa: PLC0414  a fixture

from zaslon.adapters.cluster.mlflow import tracking
from zaslon.adapters.cluster.mlflow.live_runs import MlflowRuns
from zaslon.adapters.cluster.mlflow.model_registry import MlflowRegistry
from zaslon.adapters.cluster.mlflow.tracking import Tracking
from zaslon.bootstrap import build_context
from zaslon.domain.errors import ServerError, ZaslonError
from zaslon.domain.ledger import PROMOTE
from zaslon.models.model import Model
from zaslon.ports.registry import RunRecord
from zaslon.services.context import Context
from zaslon.services.model_training import Trained
from zaslon.services.promotion_ledger import promote
from zaslon.services.publishing import RegistryState, follow_ledger, publish
from zaslon.settings import load_settings
from zaslon.testing import SmallWorld

pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")


@pytest.fixture(scope="module")
def world(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A home with a champion, clean days and an empty registry."""
    return home_with_data(small_world, tmp_path_factory.mktemp("registry") / "home", registry="mlflow")


def client(context: Context) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(state_of(context).place)


@pytest.mark.slow
def test_a_training_is_a_run_with_all_that_is_known(
    world: Context, trained: Trained, published: RegistryState
) -> None:
    (run,) = client(world).search_runs(["1"], "tags.kind = 'training'")
    assert run.info.status == "FINISHED"
    params, metrics = run.data.params, run.data.metrics
    assert params["train_days"] == str(trained.split.train)
    assert int(params["train_transactions"]) > int(params["train_frauds"]) > 0
    assert params["catalogue_hash"] == world.catalogue.hash
    assert len(params["data_fingerprint"]) == 64
    assert params["rounds_max"] == str(SETTINGS.rounds_max)
    assert metrics["roc_auc_low"] < metrics["roc_auc"] < metrics["roc_auc_high"]
    assert metrics["money_lost_minor_per_month_low"] <= metrics["money_lost_minor_per_month"]
    assert {a.path for a in client(world).list_artifacts(run.info.run_id)} == {
        "model",
        "plots",
        "report.html",
    }


def test_the_aliases_name_versions_with_the_tags_of_the_ledger(
    world: Context, trained: Trained, published: RegistryState
) -> None:
    assert published.agrees
    version = client(world).get_model_version_by_alias("zaslon", "champion")
    entry = world.open_ledger().newest()
    assert entry is not None
    expected = {
        "artefact": trained.model.artefact_id, "catalogue": world.catalogue.hash, "policy": trained.policy.hash,
        "verdict": entry.promotion.verdict, "ledger_entry": str(entry.number), "ledger_hash": entry.hash,
    }  # fmt: skip
    assert version.tags.items() >= expected.items()
    challenger = client(world).get_model_version_by_alias("zaslon-candidates", "challenger")
    assert challenger.tags["artefact"] == trained.model.artefact_id


@pytest.mark.slow
def test_a_clean_process_scores_with_the_champion(
    world: Context, trained: Trained, published: RegistryState, tmp_path: Path
) -> None:
    program = (
        "import json, sys, mlflow\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model('models:/zaslon@champion')\n"
        "assert model.metadata.signature.inputs.input_names()\n"
        "print(json.dumps(model.predict(model.input_example)['score'].tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(published.place)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    scores = json.loads(done.stdout.splitlines()[-1])
    assert scores == trained.model.score(trained.example).tolist()


def test_nothing_that_mlflow_keeps_of_a_model_is_a_pickle(world: Context, published: RegistryState) -> None:
    version = client(world).get_model_version_by_alias("zaslon", "champion")
    (model,) = (world.home / "mlflow" / "artefacts" / version.run_id / "artifacts").glob("model")
    kept = {path.relative_to(model).as_posix(): path for path in model.rglob("*") if path.is_file()}
    assert {"MLmodel", "scoring_code.py", "input_example.json"} < kept.keys()
    for name, path in kept.items():
        path.read_text("utf-8")  # a pickle begins with a byte that no text has
        assert path.suffix not in {".pkl", ".pickle", ".joblib"}, name
    described = kept["MLmodel"].read_text()
    assert "model_code_path" in described
    assert "python_model:" not in described, "that names a pickle"


def test_what_is_written_twice_is_there_once(
    world: Context, trained: Trained, published: RegistryState
) -> None:
    assert registered(world, trained) == published
    assert len(client(world).search_runs(["1"], "tags.kind = 'training'")) == 1
    assert len(client(world).search_model_versions("name = 'zaslon'")) == 1


def test_a_crash_between_ledger_and_alias_is_made_good(
    world: Context, trained: Trained, published: RegistryState
) -> None:
    (model,) = other_models(world, trained, 1)
    promote(world, model, trained.policy, PROMOTE, {})
    behind = state_of(world)
    assert (behind.ledger.model, behind.champion) == (model.artefact_id, published.champion)
    assert not behind.agrees
    after = follow_ledger(world)
    assert after is not None
    assert after.agrees
    assert after.champion.model == model.artefact_id


def test_a_model_that_serves_again_has_the_newest_entry(
    world: Context, trained: Trained, published: RegistryState
) -> None:
    (other,) = other_models(world, trained, 1)
    for model in (other, trained.model):
        entry = promote(world, model, trained.policy, PROMOTE, {})
        state = follow_ledger(world)
        assert state is not None
        assert (state.champion.model, state.champion.entry) == (model.artefact_id, entry.number)
        assert state.agrees


def test_concurrent_promotions_leave_the_newest_alias(
    world: Context, trained: Trained, published: RegistryState
) -> None:
    models = other_models(world, trained, 6)
    entries_before = len(world.open_ledger().entries())
    failed: list[ZaslonError] = []

    def work(model: Model) -> None:
        try:
            promote(world, model, trained.policy, PROMOTE, {})
            follow_ledger(world)
        except ZaslonError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    state = state_of(world)
    assert state.agrees
    assert len(world.open_ledger().entries()) == entries_before + len(models)
    assert state.champion.model in {model.artefact_id for model in models}


def test_whoever_moves_the_alias_too_late_sees_the_newer_entry(
    world: Context, trained: Trained, published: RegistryState
) -> None:
    first, second = other_models(world, trained, 2)

    class Overtaken(MlflowRegistry):
        """While the first promotion is on its way to the alias, a second one is done."""

        is_over = False

        def promote(self, artefact: str, tags: Mapping[str, str]) -> bool:
            if artefact == first.artefact_id and not self.is_over:
                self.is_over = True
                promote(world, second, trained.policy, PROMOTE, {})
                super().promote(second.artefact_id, tags)
            return super().promote(artefact, tags)

    slow = replace(world, adapters=replace(
        world.adapters, open_registry=lambda home: Overtaken(Tracking(home / "mlflow")),
    ))  # fmt: skip
    promote(slow, first, trained.policy, PROMOTE, {})
    state = follow_ledger(slow)
    assert state is not None
    assert state.agrees
    assert state.champion.model == second.artefact_id


def test_a_registry_that_was_away_gets_what_waited(
    world: Context, trained: Trained, published: RegistryState
) -> None:
    warnings: list[str] = []

    class Watch:
        def start(self, stage: str, total: int | None, unit: str = "rows") -> None: ...
        def advance(self, steps: int) -> None: ...
        def warn(self, sentence: str) -> None:
            warnings.append(sentence)

    (model,) = other_models(world, trained, 1)
    settings = load_settings(home=world.home, threads=1, registry="mlflow", mlflow_uri="http://127.0.0.1:1")
    away = replace(build_context(settings), progress=Watch())
    entry = promote(away, model, trained.policy, PROMOTE, {})
    assert not registered(away, replace(trained, model=model)).agrees
    assert "zaslon registry sync" in warnings[0]
    state = state_of(away)
    assert (state.ledger.entry, state.home.model, state.waiting) == (entry.number, model.artefact_id, 1)
    assert state.problem is not None
    back = follow_ledger(world)
    assert back is not None
    assert back.agrees
    assert back.champion.model == model.artefact_id


def test_a_lost_registry_is_made_again_from_the_home(
    world: Context, trained: Trained, published: RegistryState, tmp_path: Path
) -> None:
    promote(world, trained.model, trained.policy, PROMOTE, {})
    lost = replace(world, adapters=replace(
        world.adapters, open_registry=lambda home: MlflowRegistry(Tracking(tmp_path / "mlflow")),
    ))  # fmt: skip
    state = publish(lost)
    assert state is not None
    assert state.agrees
    (run,) = client(lost).search_runs(["1"])
    assert run.data.tags["kind"] == "import"


def test_without_a_registry_nothing_is_written_and_nothing_imported(
    world: Context, trained: Trained, tmp_path: Path
) -> None:
    program = (
        "import sys\n"
        "from zaslon.bootstrap import build_context\n"
        "from zaslon.services.publishing import publish\n"
        "from zaslon.settings import load_settings\n"
        "context = build_context(load_settings(home=sys.argv[1], registry='none'))\n"
        "assert publish(context) is None\n"
        "print('mlflow' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]
    assert not (tmp_path / "mlflow").exists()
    assert not (tmp_path / "registry").exists()


def test_many_params_and_metrics_fit_in_one_run(tmp_path: Path) -> None:
    registry = MlflowRegistry(Tracking(tmp_path))
    params = {"long": "x" * 9000, **{f"p{i}": i for i in range(230)}}
    metrics = {"undefined": np.nan, **{f"m{i}": float(i) for i in range(1200)}}
    run_id = registry.write(RunRecord("wide", "wide", params, metrics, {"kind": "test"}))
    from mlflow.tracking import MlflowClient

    data = MlflowClient(registry.place).get_run(run_id).data
    assert (len(data.params), len(data.metrics), len(data.params["long"])) == (231, 1200, 6000)


def test_a_missing_file_is_named_before_anything_is_written(tmp_path: Path) -> None:
    run = RunRecord("third", "third", {}, {}, {}, [tmp_path / "nowhere"])
    with pytest.raises(ZaslonError, match="file '.*nowhere' of run 'third' does not exist"):
        MlflowRegistry(Tracking(tmp_path / "mlflow")).write(run)
    assert not (tmp_path / "mlflow").exists()


def test_a_place_that_cannot_be_written_gives_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match=r"^The run 'fourth' could not be kept in MLflow at [^\n]+$"):
        MlflowRegistry(Tracking(tmp_path / "file")).write(RunRecord("4", "fourth", {}, {}, {}))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"])
def test_what_mlflow_itself_would_send_in_clear_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "trainer")
    monkeypatch.setenv(name, "secret")
    with pytest.raises(ZaslonError, match="unencrypted") as raised:
        MlflowRegistry(Tracking(tmp_path, "http://192.0.2.1:5000")).champion()
    assert "secret" not in f"{raised.value} {raised.value.hint}"


def test_the_admins_password_is_not_sent_in_clear(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret")
    program = Path(__file__).parents[2] / "deploy" / "mlflow" / "users.py"
    command: list[str | Path] = [
        sys.executable, program, "http://192.0.2.1:5000", password, tmp_path / "made",
    ]  # fmt: skip
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "unencrypted" in refused.stderr
    assert not (tmp_path / "made").exists()


def test_without_mlflow_the_error_has_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(ZaslonError, match=r"pip install 'zaslon\[mlflow\]'"):
        Tracking(tmp_path)


def test_a_run_in_progress_has_a_point_of_each_metric_per_step(tmp_path: Path) -> None:
    place = Tracking(tmp_path)
    run = MlflowRuns(place).start_run("stream", {"topic": "input"})
    run.log({"rate": 1.0}, 0)
    run.log({"rate": 2.0, "undefined": np.nan}, 1)
    run.end()
    from mlflow.tracking import MlflowClient

    history = MlflowClient(place.place).get_metric_history(run.run_id, "rate")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 2.0)]


_REPORTING = """
import itertools, sys
from dataclasses import replace
from zaslon.bootstrap import build_context
from zaslon.services.batch_metrics import reported
from zaslon.services.context import Silent
from zaslon.settings import load_settings

class Telling(Silent):
    def warn(self, sentence):
        print(sentence)

settings = load_settings(home=sys.argv[1], registry="mlflow", stream_report_seconds=3600, mlflow_uri=sys.argv[2] or None)
points = ({"rate": float(value), "undefined": float("nan")} for value in itertools.count(1))
with reported(replace(build_context(settings), progress=Telling()), "stream", {"topic": "input"}, lambda: next(points)):
    pass
print("mlflow imported:", "mlflow" in sys.modules)
"""


def test_who_decides_writes_a_run_and_never_imports_mlflow(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _REPORTING, tmp_path, ""], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("mlflow imported: False\n", "")
    from mlflow.tracking import MlflowClient

    found = MlflowClient(Tracking(tmp_path / "mlflow").place)
    (run,) = found.search_runs(["1"])
    assert (run.info.status, run.data.params, run.data.metrics) == (
        "FINISHED",
        {"topic": "input"},
        {"rate": 1.0},
    )


def test_a_tracker_that_fails_is_told_and_stops_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _REPORTING, tmp_path, "http://127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=True,
    )
    warning, imported = done.stdout.splitlines()
    assert warning.startswith(
        "Metrics are no longer written to the tracker: The run 'stream' could not be kept"
    )
    assert imported == "mlflow imported: False"


def test_an_unpromoted_candidate_is_not_the_champion(tmp_path: Path) -> None:
    registry = MlflowRegistry(Tracking(tmp_path))
    assert registry.promote("0" * 12, {}) is False
    assert registry.champion() is None
