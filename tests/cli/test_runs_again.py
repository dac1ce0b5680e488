"""`zaslon run` of the same file in a home that serves its model: which log is in use afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import SmallRun, Zaslon
from tests.cli.test_commands import outcomes

from zaslon.bootstrap import build_context
from zaslon.flows.run import RunReport, run
from zaslon.models.training import TrainSettings
from zaslon.services.logs import exclusive
from zaslon.settings import load_settings


class Killed(BaseException):
    """Ends a run as a kill does: nothing in the product catches it."""


def run_again(small_run: SmallRun, home: Path) -> RunReport:
    """The run of the small home, in another place or once more."""
    limits = {"false_positive_rate_max": 0.1, "limit_margin": 0.55}
    context = build_context(load_settings(home=home, threads=1, **limits))
    settings = TrainSettings(rounds_max=30, threads=1)
    with exclusive(context):
        return run(context, [str(small_run.raw)], train_settings=settings, compare_delays=False)


def test_a_live_log_is_not_replaced_by_a_run_of_its_model(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    assert zaslon("score", small_run.tomorrow, "--home", home, "--json").json["decisions"] > 0
    live = outcomes(home)
    report = run_again(small_run, home)
    assert report.gated.model == report.gated.champion == small_run.answer["model"]
    assert (report.gated.promoted, report.gated.another_serves) == (False, False)
    assert outcomes(home) == live
    assert not [path.name for path in home.iterdir() if path.name.startswith((".log", "log-"))]
    assert "journal" not in report.paths


@pytest.mark.parametrize("step", ["decide_days", "put_in_use"])
def test_a_run_again_repairs_a_crash_behind_the_promotion(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def kill(*_: object) -> None:
        raise Killed

    home = tmp_path / "home"
    with monkeypatch.context() as patch:
        patch.setattr(f"zaslon.flows.run.{step}", kill)
        with pytest.raises(Killed):
            run_again(small_run, home)
    assert json.loads((home / "champion.json").read_bytes())["model"] == small_run.answer["model"]
    assert not (home / "log").exists()
    report = run_again(small_run, home)
    assert not report.gated.promoted, "the first one was"
    assert Path(report.paths["journal"]).exists()
    expected = tmp_path / "expected"  # nobody opens what other tests copy
    shutil.copytree(small_run.home / "log", expected / "log")
    assert outcomes(home) == outcomes(expected)
