"""Training runs in MLflow on SQLite: written down by the adapter, read back by MLflow itself."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from zaslon.adapters.cluster import mlflow as adapter
from zaslon.adapters.cluster.mlflow import MlflowRuns
from zaslon.domain.errors import ZaslonError

pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def runs(home: Path) -> MlflowRuns:
    return MlflowRuns(home / "runs")


def test_a_run_is_read_back_with_params_metrics_and_artefacts(
    runs: MlflowRuns, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = home / "model-1a2b"
    model.mkdir()
    (model / "model.txt").write_text("tree")
    report = home / "report.html"
    report.write_text("<p>good</p>")

    run_id = runs.log_run(
        "first", {"leaves": 15, "long": "x" * 9000}, {"pr_auc": 0.75, "undefined": math.nan}, [model, report]
    )

    from mlflow.tracking import MlflowClient

    client = MlflowClient(runs.tracking_uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert run.data.params["leaves"] == "15"
    assert len(run.data.params["long"]) == 6000
    assert run.data.metrics == {"pr_auc": 0.75}
    assert {a.path for a in client.list_artifacts(run_id)} == {"model-1a2b", "report.html"}
    assert (
        home / "runs" / "artefacts" / run_id / "artifacts" / "model-1a2b" / "model.txt"
    ).read_text() == "tree"
    written = capfd.readouterr()
    assert written.out + written.err == ""


def test_many_params_and_metrics_fit_in_one_run(runs: MlflowRuns) -> None:
    params = {f"p{i}": i for i in range(230)}
    metrics = {f"m{i}": float(i) for i in range(1200)}

    run_id = runs.log_run("wide", params, metrics, [])

    data = runs._connected().get_run(run_id).data
    assert len(data.params) == 230
    assert len(data.metrics) == 1200


def test_a_missing_artefact_is_named_before_anything_is_written(runs: MlflowRuns, home: Path) -> None:
    with pytest.raises(ZaslonError, match="artefact '.*nowhere' of run 'third' does not exist"):
        runs.log_run("third", {}, {}, [home / "nowhere"])


def test_a_store_that_cannot_be_written_gives_one_sentence(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(ZaslonError, match="could not be written to MLflow"):
        MlflowRuns(home / "file").log_run("fourth", {}, {}, [])


def test_without_mlflow_the_error_has_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "find_spec", lambda name: None)
    with pytest.raises(ZaslonError, match=r"pip install 'zaslon\[mlflow\]'"):
        MlflowRuns(tmp_path)
